"""Figures of verdicts: which candidate meets which need, where two cross, what to measure first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from simlib.errors import ScenarioError
from simlib.figures import style
from simlib.run import check_table
from simlib.verdict import JUDGED, Decision, sentence_of
from simlib.verdict.measures import Kind, shown

if TYPE_CHECKING:
    import pandas as pd

_MET, _FAILED, _UNCLEAR = "circle", "x-thin", "circle-open"
_SYMBOLS = {"met": _MET, "failed": _FAILED, "no value": _FAILED, "unclear": _UNCLEAR}
_WORDS = {"met": "meets the need", "failed": "does not", "unclear": "too close to tell"}
_ROW_PX = 34
_LEAST_SWING_FRAC = 0.02
_HARDLY = "hardly"
_ENDS = ("least", "greatest")
_OF_SWITCHES = (", or off", ", or on")
_BESIDE_FRAC = 0.25
"""Room for the numbers at the ends of bars, as a share of what these span."""
_UNITS: dict[Kind, tuple[str, float]] = {
    "time": ("s", 1.0),
    "bytes": ("kB", 1e-3),
    "share": ("%", 100.0),
    "count": ("", 1.0),
    "money": ("in the prices' currency", 1.0),
}


def verdict(decision: Decision) -> go.Figure:
    """Draw which candidate meets which need: a row per candidate, a column per need.

    Parameters
    ----------
    decision : Decision

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ScenarioError
        The argument is no decision.

    Examples
    --------
    >>> import simlib as sl
    >>> board = sl.Scenario(updates={"rate_per_s": 0.1}, clients=10, horizon_s=120)
    >>> needs = {"latency_p95_s": 2}
    >>> decision = sl.decide(board, needs, candidates=["push"], engine="simpy", on="serial")
    >>> verdict(decision).data[0].name
    'meets the need'
    """
    if not isinstance(decision, Decision):
        raise ScenarioError("decision", decision, "must be a Decision, as decide returns it")
    needs = list(decision.asked.needs.limits)
    table = decision.table.reset_index()
    rows = table[table["measure"].isin(needs)]
    figure = go.Figure()
    order = decision.order
    for status, symbol in _SYMBOLS.items():
        found = rows[rows["status"] == status]
        if len(found) == 0:
            continue
        colours = [_colour(decision.cases[name].scenario.transport) for name in found["candidate"]]
        is_failed = symbol == _FAILED
        texts = [
            shown(mean, JUDGED[measure].kind)
            for mean, measure in zip(found["mean"], found["measure"], strict=True)
        ]
        figure.add_scatter(
            x=[needs.index(measure) for measure in found["measure"]],
            y=[order.index(name) for name in found["candidate"]],
            mode="markers+text",
            marker={
                "symbol": symbol,
                "size": 11,
                "color": colours,
                "line": {"width": 2.5 if is_failed else 2.0, "color": colours},
            },
            text=texts,
            textposition="bottom center",
            textfont={"size": 10},
            name=_WORDS.get(status, "no value"),
            hovertemplate="%{text}<extra>%{fullData.name}</extra>",
        )
    limits = decision.asked.needs.limits
    heads = [
        style.wrap(f"{JUDGED[need].label}<br>≤ {shown(limits[need], JUDGED[need].kind)}", 9)
        for need in needs
    ]
    about = f"{decision.about}{style.warned_of(decision.table)}"
    height = 300 + _ROW_PX * len(order)
    style.layout(figure, decision.verdict, "", "", about=about, height=height)
    labels = [style.wrap(decision.cases[name].label, 18) for name in order]
    figure.update_yaxes(
        tickvals=list(range(len(order))),
        ticktext=labels,
        range=[len(order) - 0.3, -0.7],
        showgrid=True,
        zeroline=False,
    )
    return figure.update_xaxes(
        tickvals=list(range(len(needs))),
        ticktext=heads,
        tickangle=0,
        tickfont={"size": 9},
        range=[-0.6, len(needs) - 0.4],
        showgrid=False,
        zeroline=False,
    )


def _colour(transport: str) -> str:
    return style.COLOURS.get(transport, style.THEORY)


def break_even(table: pd.DataFrame) -> go.Figure:
    """Draw a measure of two candidates against an assumption, and where they cross.

    Parameters
    ----------
    table : pandas.DataFrame
        As `verdict.break_even` returns it, of a setting.

    Returns
    -------
    plotly.graph_objects.Figure
        Both axes logarithmic.

    Raises
    ------
    ScenarioError
        The table is none of those, or is one of the limits of a need.
    """
    about = getattr(table, "attrs", {})
    if not isinstance(about.get("labels"), dict) or "curves" not in about:
        rule = "must be a table from verdict.break_even, of a setting"
        raise ScenarioError("table", table, rule)
    if len(about["labels"]) != 2:
        rule = "must be of a setting: limits of needs have no curves"
        raise ScenarioError("table", about["over"], rule)
    over, measure, curves = about["over"], about["measure"], about["curves"]
    kind = JUDGED[measure].kind
    unit, factor = _UNITS[kind]
    figure = go.Figure()
    is_alike = len(set(about["transports"].values())) == 1
    for place, (name, label) in enumerate(about["labels"].items()):
        dash = "dash" if place and is_alike else "solid"
        figure.add_scatter(
            x=style.rounded(curves[over]),
            y=style.rounded(curves[name] * factor),
            mode="lines" if len(curves) > 20 else "lines+markers",
            line={"color": _colour(about["transports"][name]), "width": 2.5, "dash": dash},
            name=label,
            hovertemplate=f"%{{y:.4g}} {unit} at %{{x:.4g}}<extra>%{{fullData.name}}</extra>",
        )
    style.mark_on_log_axis(figure, about["today"], "today", dash="dot", y=0.98)
    for value in table["value"]:
        style.mark_on_log_axis(figure, value, f"{value:.3g}")
    words, x_unit = style.setting_words(over)
    label = JUDGED[measure].label
    how = ", ".join(dict.fromkeys(table["by"]))
    ends = (style.number(end) for end in (curves[over].min(), curves[over].max()))
    said = (
        f"Crossings by {how}" if how else f"No crossing from {' to '.join(ends)} {x_unit}".rstrip()
    )
    style.layout(
        figure,
        _break_even_title(table, words, x_unit),
        style.axis_title(over, scale="log scale"),
        f"{label} ({', '.join(filter(None, (unit, 'log scale')))})",
        about=said,
    )
    figure.update_yaxes(type="log", tickformat=",~r")
    return figure.update_xaxes(type="log", tickformat=",~r")


def _break_even_title(table: pd.DataFrame, words: str, unit: str) -> str:
    about = table.attrs
    measure, labels = JUDGED[about["measure"]].label, about["labels"]
    if len(table) == 0:
        curves, (one, other) = about["curves"], labels
        place = int(np.argmin(np.abs(np.log(curves[about["over"]] / about["today"]))))
        less, more = (one, other) if curves[one][place] < curves[other][place] else (other, one)
        number = shown(float(curves[less][place]), JUDGED[about["measure"]].kind)
        against = shown(float(curves[more][place]), JUDGED[about["measure"]].kind)
        said = f"{labels[less]} takes less all along ({measure}): today {number}"
        return _capital(f"{said}, {labels[more]} {against}")
    row = table.iloc[0]
    at = f"{row['value']:.3g} {unit}".rstrip()
    return f"Above {words} {at}, {labels[row['above']]} takes less ({measure})"


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def tornado(table: pd.DataFrame) -> go.Figure:
    """Draw the lead of the best candidate over its rival at both ends of each assumption.

    Parameters
    ----------
    table : pandas.DataFrame
        As `verdict.tornado` returns it.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ScenarioError
        The table is none of those.
    """
    numbers = ("low", "high", "at_low", "at_high", "swing")
    check_table("table", table, ("flips",), texts=("over",), numbers=numbers)
    about = table.attrs
    if "rival" not in about:
        raise ScenarioError("table", table, "must be a table from verdict.tornado")
    unit, factor = _UNITS[JUDGED[about["measure"]].kind]
    today = about["today"] * factor
    switches = about.get("switches", {})
    names = [
        style.wrap(f"{_assumption(over, switches)}{' *' if flips else ''}", 18)
        for over, flips in zip(table["over"], table["flips"], strict=True)
    ]
    colour = _colour(about["transports"][about["best"]])
    figure = go.Figure()
    is_wide = table["swing"] > _LEAST_SWING_FRAC * table["swing"].max()
    for place, (end, pattern) in enumerate((("low", "/"), ("high", ""))):
        words = [
            switches[over][place] if over in switches else style.number(value)
            for over, value in zip(table["over"], table[end], strict=True)
        ]
        # Two numbers at one place would hide each other.
        ends = [
            word if wide else ("" if end == "low" else _HARDLY)
            for word, wide in zip(words, is_wide, strict=True)
        ]
        figure.add_bar(
            y=names,
            x=style.rounded(table[f"at_{end}"] * factor - today),
            base=style.rounded([today])[0],
            orientation="h",
            marker={"color": colour, "pattern": {"shape": pattern}},
            text=ends,
            textposition="outside",
            cliponaxis=False,
            name=f"at its {_ENDS[place]}{_OF_SWITCHES[place] * bool(switches)}",
            customdata=words,
            hovertemplate="%{customdata}<extra>%{y}, %{fullData.name}</extra>",
        )
    lead = f"lead of {about['labels'][about['best']]} over {about['labels'][about['rival']]}"
    x_title = f"{JUDGED[about['measure']].label} ({unit})".replace(" ()", "")
    said = f"The {lead}; one assumption at a time; * changes the verdict"
    height = 300 + _ROW_PX * len(names)
    style.layout(figure, sentence_of(table), x_title, "", about=said, height=height)
    figure.add_vline(x=style.rounded([today])[0], line={"color": style.THEORY, "width": 1.5})
    figure.update_layout(barmode="overlay")
    leads = [*(table[["at_low", "at_high"]].to_numpy() * factor).ravel(), today]
    beside = _BESIDE_FRAC * max(float(np.ptp(leads)), _LEAST_SWING_FRAC * abs(today))
    span = style.rounded([min(leads) - beside, max(leads) + beside])
    figure.update_xaxes(zeroline=True, range=span)
    return figure.update_yaxes(autorange="reversed", automargin=True)


def _assumption(over: str, switches: Mapping[str, tuple[str, str]]) -> str:
    """Return what an assumption is called; of a switch, with its two values."""
    title = style.axis_title(over)
    return f"{title}: {' or '.join(switches[over])}" if over in switches else title


def sobol(table: pd.DataFrame) -> go.Figure:
    """Draw Sobol indices with their intervals: what the lead of the best candidate depends on.

    Parameters
    ----------
    table : pandas.DataFrame
        As `verdict.sobol` returns it.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ScenarioError
        The table is none of those.
    """
    ends = [f"{name}{end}" for name in ("first", "total") for end in ("", "_low", "_high")]
    check_table("table", table, texts=("over",), numbers=ends)
    if "points" not in table.attrs:
        raise ScenarioError("table", table, "must be a table from verdict.sobol")
    names = [style.wrap(style.setting_words(over)[0], 18) for over in table["over"]]
    figure = go.Figure()
    bars: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("first", "alone", {"color": style.THEORY}),
        ("total", "with all others", {"color": style.THEORY, "pattern": {"shape": "/"}}),
    )
    for name, words, marker in bars:
        figure.add_bar(
            y=names,
            x=style.rounded(table[name] * 100.0),
            orientation="h",
            error_x={"array": style.rounded((table[f"{name}_high"] - table[name]) * 100.0)},
            marker=marker,
            name=words,
            hovertemplate="%{x:.3g} %<extra>%{y}, %{fullData.name}</extra>",
        )
    first = table.iloc[0]
    title = (
        f"{_capital(style.setting_words(first['over'])[0])} explains {first['first'] * 100.0:.0f} "
        f"% of the lead's variance alone, {first['total'] * 100.0:.0f} % with the others"
    )
    about = f"{table.attrs['points']} points by {table.attrs['by']}; bars: bootstrap intervals"
    height = 300 + _ROW_PX * len(names)
    style.layout(figure, title, "share of the variance (%)", "", about=about, height=height)
    return figure.update_yaxes(autorange="reversed", automargin=True)
