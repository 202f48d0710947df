"""Figures of rollouts: enrolment, progress, guardrails, outcomes of many fleets, and rollbacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from simlib.analysis import metrics, rollouts
from simlib.core.measures import GUIDE_METRICS, MEASURES, METRICS
from simlib.errors import ScenarioError
from simlib.figures import style
from simlib.rollout.plan import Plan
from simlib.rollout.sections import Guardrail
from simlib.rollout.trials import Rollout
from simlib.run import Run, check_table

Series = Mapping[str, tuple[pd.Series, pd.Series]]
"""A metric by cohort: times, seconds, and values."""

SPANS_DECADES = 30.0
_PANELS = 2
# Lines that stand for no transport have colours that no transport has: of Okabe and Ito's palette,
# and of Tol's muted one. Each of them has its own dash or symbol.
_OTHERS = ("#882255", "#CC79A7", "#56B4E9", "#000000", "#8C6D00", "#44AA99")
FORBIDDEN = "#B22222"
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x")
_ENDS = {
    "done": "done",
    "rolled_back": "rolled back",
    "killed": "killed",
    "paused": "paused: somebody has to decide",
}


def enrolment(table: pd.DataFrame) -> go.Figure:
    """Draw how many users bucketing rules enrol, against the percentage that was asked for.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `bucketing.share` (``percent`` and ``share_frac``) with a column ``rule``.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ScenarioError
        There are no rows, or a column is missing or has wrong values.

    Examples
    --------
    >>> from simlib.analysis import bucketing
    >>> ids = bucketing.user_ids("uuid4", 1000)
    >>> share = bucketing.share(bucketing.buckets("floor_mod", ids), [0, 50, 100])
    >>> enrolment(share.assign(rule="floor_mod")).data[1].y
    (0.0, 51.8, 100.0)
    """
    check_table("table", table, texts=("rule",), numbers=("percent", "share_frac"))
    figure = go.Figure()
    grey = {"color": style.THEORY, "dash": "dash", "width": 1.5}
    figure.add_scatter(
        x=[0, 100],
        y=[0, 100],
        mode="lines",
        line=grey,
        name="as asked for",
        hovertemplate="%{y} %<extra>as asked for</extra>",
    )
    for place, (rule, rows) in enumerate(table.groupby("rule", sort=False)):
        figure.add_scatter(
            x=style.rounded(rows["percent"]),
            y=style.rounded(rows["share_frac"] * 100.0),
            mode="lines+markers",
            line={"color": _OTHERS[place % len(_OTHERS)], "width": 2},
            marker={"symbol": _SYMBOLS[place % len(_SYMBOLS)], "size": 8},
            name=str(rule),
            hovertemplate="%{y:.4g} % at %{x:g} %<extra>%{fullData.name}</extra>",
        )
    off = (table["share_frac"] * 100.0 - table["percent"]).abs().to_numpy()
    worst = table.iloc[int(off.argmax())]
    title = (
        f"At {worst['percent']:g} %, {worst['rule']} enrols "
        f"{style.number(worst['share_frac'] * 100.0)} % of the users"
    )
    style.layout(figure, title, "asked for (%)", "users enrolled (%)")
    return figure.update_yaxes(range=[-2, 102])


def rollout(carried_out: Rollout) -> go.Figure:
    """Draw a rollout: the percentage, and the fraction of tabs in the treatment cohort.

    In a rollout from polling to push, also the fraction of those whose socket is open.

    Parameters
    ----------
    carried_out : Rollout
        A simulated or measured rollout; lines are dotted if it was measured.

    Returns
    -------
    plotly.graph_objects.Figure
        The plan's percentage is grey. Marks show the checks that failed or were inconclusive, and
        the end of the rollout.

    Raises
    ------
    ScenarioError
        The argument is not a rollout, or it was interrupted before its first check.
    """
    run, history = checked(carried_out)[:2]
    end_s = run.provenance["end_of_run_s"]
    leads_to_push = rollouts.leads_to_push(run)
    table = rollouts.shares(run) if leads_to_push else rollouts.enrolled(run)
    steps = style.thin(table.query("t_s < @end_s"))
    figure = go.Figure()
    figure.add_trace(asked_for(history, end_s))
    dash = "dot" if style.is_measured(run) else "solid"
    wide = {"color": colour_of(run, "treatment"), "dash": dash, "width": 5.0}
    thin = {"color": _OTHERS[2], "dash": dash, "width": 2.0}
    said = "push" if leads_to_push else "treatment"
    for column, name, look in (
        ("share", f"flag says {said}, of the open tabs", wide),
        ("pushed", "socket open, of the open tabs", thin),
    ):
        if column not in steps:
            continue
        figure.add_scatter(
            x=style.rounded(steps["t_s"], digits=style.TIME_DIGITS),
            y=style.rounded(steps[column] * 100.0),
            mode="lines",
            line={**look, "shape": "hv"},
            name=name,
            hovertemplate="%{y:.3g} % at %{x:g} s<extra>%{fullData.name}</extra>",
        )
    _mark_checks(figure, history)
    for row in _turns(history).itertuples():
        figure.add_vline(x=row.t_s, line={"color": style.THEORY, "width": 1, "dash": "dot"})
        if row.event in _ENDS:
            end = _ENDS[str(row.event)]
            figure.add_annotation(
                x=row.t_s, y=104, text=end, showarrow=False, xanchor="left", xshift=3
            )
    title = _found(history, steps, end_s)
    style.layout(figure, title, "", "share (%)", [run], about=whence(run))
    figure.update_xaxes(
        range=style.rounded([-0.01 * end_s, 1.01 * end_s]), **style.time_axis(end_s)
    )
    return figure.update_yaxes(range=[-3, 110])


def guardrail_panels(carried_out: Rollout) -> go.Figure:
    """Draw the metrics of a rollout by cohort, with its guardrails and events.

    Parameters
    ----------
    carried_out : Rollout
        A simulated or measured rollout.

    Returns
    -------
    plotly.graph_objects.Figure
        A panel for each of the six metrics, and for each other metric that has a guardrail. The
        range in which a guardrail fails is red; a limit that follows the control cohort is a dotted
        red line. Vertical lines show the starts of stages and the end of the rollout.

    Raises
    ------
    ScenarioError
        The argument is not a rollout, or it was interrupted before its first check.
    """
    run, history, plan = checked(carried_out)[:3]
    names = _watched(plan)
    rows = -(-len(names) // _PANELS)
    figure = make_subplots(
        rows=rows,
        cols=_PANELS,
        subplot_titles=[style.metric_title(name) for name in names],
        horizontal_spacing=0.2,
        vertical_spacing=0.5 / rows,
    )
    over_time = metrics.over_time(run, width_s=_width_s(run, plan.check_every_s))
    for index, name in enumerate(names):
        where = {"row": index // _PANELS + 1, "col": index % _PANELS + 1}
        series = _series(carried_out, over_time, name)
        rails = [rail for rail in plan.guardrails if rail.metric == name]
        _draw_cohorts(figure, carried_out, series, is_first=index == 0, **where)
        _draw_limits_of_control(figure, series, rails, **where)
        _draw_limits(figure, series, rails, **where)
        for row in _turns(history).itertuples():
            grey = {"color": style.THEORY, "width": 1.5 if row.event in _ENDS else 0.7}
            figure.add_vline(x=row.t_s, line={**grey, "dash": "dot"}, **where)
    words = ", ".join(dict.fromkeys(_said_of(rail) for rail in plan.guardrails)) or "none"
    about = f"{whence(run)}<br>Guardrails: {words}"
    height, title = 150 + 235 * rows, how_it_ended(history)
    style.layout(figure, title, "", "", [run], about=about, height=height, panels=True)
    figure.update_annotations(font={"size": 13})
    end_s = run.provenance["end_of_run_s"]
    return figure.update_xaxes(
        range=style.rounded([-0.02 * end_s, 1.02 * end_s]),
        **style.time_axis(end_s, ticks=4),
        title_font_size=12,
    )


def _watched(plan: Plan) -> list[str]:
    """Return the names of the six metrics, and of every other metric that has a guardrail."""
    guarded = {rail.metric for rail in plan.guardrails}
    others = (name for name in METRICS if name in guarded and name not in GUIDE_METRICS)
    return [*GUIDE_METRICS, *others]


def _series(carried_out: Rollout, over_time: pd.DataFrame, name: str) -> Series:
    """Return a metric over time by cohort; metrics known from checks alone have no control."""
    run, history = carried_out.run, carried_out.history
    if name not in GUIDE_METRICS:
        return {"treatment": (history["t_s"], history[name])}
    cohorts = {str(cohort): table for cohort, table in over_time.groupby("cohort", sort=False)}
    return {
        cohort: (cohorts[cohort]["t_s"], cohorts[cohort][name])
        for cohort in run.transports
        if cohort in cohorts
    }


def _draw_cohorts(
    figure: go.Figure, carried_out: Rollout, series: Series, *, is_first: bool, row: int, col: int
) -> None:
    """Draw a panel's metric, a line for each cohort; the first panel has the legend."""
    run, plan = carried_out.run, carried_out.plan
    for cohort, (t_s, values) in series.items():
        transport = run.transports[cohort]
        figure.add_scatter(
            x=style.rounded(t_s, digits=style.TIME_DIGITS),
            y=style.rounded(values),
            mode="lines+markers",
            line={"color": colour_of(run, cohort), "width": 1.5},
            marker={"size": 4, "symbol": "circle" if cohort == "control" else "square"},
            name=variant_of(cohort, transport, plan),
            legendgroup=cohort,
            showlegend=is_first,
            hovertemplate="%{y:.4g} at %{x:g} s<extra>%{fullData.name}</extra>",
            row=row,
            col=col,
        )


def _draw_limits_of_control(
    figure: go.Figure, series: Series, rails: list[Guardrail], *, row: int, col: int
) -> None:
    """Draw the limits that follow the control cohort."""
    factors = [rail.times_control for rail in rails if rail.times_control is not None]
    for factor in factors if "control" in series else ():
        t_s, values = series["control"]
        figure.add_scatter(
            x=style.rounded(t_s, digits=style.TIME_DIGITS),
            y=style.rounded(values * factor),
            mode="lines",
            line={"color": FORBIDDEN, "width": 1.5, "dash": "dot"},
            name="limit from control",
            legendgroup="limit",
            showlegend=not any(trace.legendgroup == "limit" for trace in figure.data),
            hovertemplate="%{y:.4g} at %{x:g} s<extra>%{fullData.name}</extra>",
            row=row,
            col=col,
        )


def _draw_limits(
    figure: go.Figure, series: Series, rails: list[Guardrail], *, row: int, col: int
) -> None:
    """Draw fixed limits, shade the values beyond them, and scale the axis to show both."""
    values = [value for _, of_it in series.values() for value in of_it[of_it > 0.0].tolist()]
    is_log = bool(values) and max(values) > SPANS_DECADES * min(values)
    limits = [rail.limit for rail in rails if rail.times_control is None and not rail.judge]
    _scale(figure, values + [limit for limit, _ in limits], is_log=is_log, row=row, col=col)
    for limit, is_upper in limits:
        _shade(figure, limit, is_upper, values, is_log=is_log, row=row, col=col)


def outcomes(table: pd.DataFrame) -> go.Figure:
    """Draw how often fleets are rolled back, when, and how many users were affected.

    Parameters
    ----------
    table : pandas.DataFrame
        A `Rehearsal.table`.

    Returns
    -------
    plotly.graph_objects.Figure
        Dots with intervals, a row per regression, in three panels: the fraction of fleets that are
        rolled back (a false alarm for healthy fleets, whose dots are hollow), minutes to that
        decision, and user-hours with push.

    Raises
    ------
    ScenarioError
        There are no rows, or a column is missing or has wrong values.
    """
    back = ("back_frac", "back_low", "back_high")
    check_table("table", table, texts=("regression",), numbers=("fleets", *back))
    panels = {
        "fleets rolled back (%)": (*back, 100.0),
        "time until then (min)": ("back_s", "back_s_low", "back_s_high", 1.0 / 60.0),
        "users pushed to until then (user-hours)": (
            *("user_min", "user_min_low", "user_min_high"),
            1.0 / 60.0,
        ),
    }
    missing = [name for names in panels.values() for name in names[:3] if name not in table]
    if missing:
        raise ScenarioError("table", list(table.columns), f"must have a column {missing[0]}")
    figure = make_subplots(rows=len(panels))
    hollow = [name == "healthy" for name in table["regression"]]
    for panel, (words, (mean, low, high, factor)) in enumerate(panels.items(), start=1):
        value = table[mean].to_numpy(float) * factor
        up = (table[high].to_numpy(float) * factor - value).clip(min=0.0)
        down = (value - table[low].to_numpy(float) * factor).clip(min=0.0)
        figure.add_scatter(
            x=style.rounded(value),
            y=table["regression"].tolist(),
            error_x={
                "type": "data",
                "symmetric": False,
                "array": style.rounded(np.nan_to_num(up)),
                "arrayminus": style.rounded(np.nan_to_num(down)),
                "color": style.COLOURS["websocket"],
            },
            mode="markers",
            marker={
                "color": style.COLOURS["websocket"],
                "size": 11,
                "symbol": ["circle-open" if one else "circle" for one in hollow],
                "line": {"width": 2},
            },
            showlegend=False,
            hovertemplate="%{x:.4g}<extra>%{y}</extra>",
            row=panel,
            col=1,
        )
        figure.update_xaxes(title_text=words, title_font_size=12, row=panel)
    fleets = int(table["fleets"].max())
    healthy = table[np.array(hollow)]
    said = [
        f"{back_frac * of:.0f} of {of:.0f} healthy fleets are rolled back"
        for back_frac, of in healthy[["back_frac", "fleets"]].to_numpy(float).tolist()
    ]
    broken = table[~np.array(hollow)]
    if len(broken):
        worst = broken.iloc[int(broken["back_frac"].to_numpy().argmin())]
        missed = style.number((1.0 - worst["back_frac"]) * 100.0)
        said.append(f"{worst['regression']} is missed most ({missed} %)")
    about = f"{fleets} fleets each, with intervals. Hollow: a false alarm{style.warned_of(table)}"
    height = 205 + len(panels) * (80 + 26 * len(table))
    style.layout(figure, "; ".join(said), "", "", about=about, height=height)
    figure.update_xaxes(rangemode="tozero").update_xaxes(range=[-4, 104], row=1)
    return figure.update_yaxes(autorange="reversed", automargin=True)


def operating_characteristic(table: pd.DataFrame, path: str) -> go.Figure:
    """Draw the rates of false alarms and misses against a setting, and what it costs.

    Parameters
    ----------
    table : pandas.DataFrame
        A table from `tune`.
    path : str
        The setting, which is a column of the table.

    Returns
    -------
    plotly.graph_objects.Figure
        The upper panel has the fractions with their intervals. The lower panel has the hours that
        healthy fleets take to the last stage, and the user-hours under the regression that is
        missed most often.

    Raises
    ------
    ScenarioError
        There are no rows, or a column is missing or has wrong values.
    """
    fractions = ("false_frac", "false_low", "false_high", "miss_frac", "miss_low", "miss_high")
    check_table("table", table, numbers=fractions)
    if path not in table.columns:
        raise ScenarioError("path", path, f"must be one of {', '.join(table.columns)}")
    if table[path].duplicated().any():
        raise ScenarioError("table", path, "must have one row for each value of the setting")
    is_number = all(isinstance(value, int | float | np.number) for value in table[path])
    rows = table.sort_values(path) if is_number else table
    x = rows[path].tolist() if is_number else [str(value) for value in rows[path]]
    figure = make_subplots(
        rows=2, subplot_titles=["wrong decisions (%)", "what it takes (h)"], shared_xaxes=True
    )
    for place, (which, name) in enumerate(
        (("false", "healthy, but rolled back"), ("miss", "broken, but not rolled back"))
    ):
        value = rows[f"{which}_frac"]
        figure.add_scatter(
            x=x,
            y=style.rounded(value * 100.0),
            error_y={
                "type": "data",
                "symmetric": False,
                "array": style.rounded((rows[f"{which}_high"] - value) * 100.0),
                "arrayminus": style.rounded((value - rows[f"{which}_low"]) * 100.0),
            },
            **_look(place),
            name=name,
            hovertemplate="%{y:.3g} % at %{x}<extra>%{fullData.name}</extra>",
            row=1,
            col=1,
        )
    for place, (column, factor, name) in enumerate(
        (
            ("full_s", 1 / 3600.0, "healthy, until the last stage"),
            ("user_min", 1 / 60.0, "user-hours under what is missed most"),
        ),
        start=2,
    ):
        figure.add_scatter(
            x=x,
            y=style.rounded(rows[column].to_numpy(float) * factor),
            **_look(place),
            name=name,
            hovertemplate="%{y:.4g} h at %{x}<extra>%{fullData.name}</extra>",
            row=2,
            col=1,
        )
    title = _best(rows, path, is_number=is_number)
    about = "Bars: intervals of the fractions"
    style.layout(figure, title, "", "", about=about, height=560, panels=True)
    figure.update_annotations(font={"size": 13})
    figure.update_yaxes(range=[-6, 106], row=1)
    figure.update_yaxes(type="log", dtick=1, row=2)
    return figure.update_xaxes(title_text=style.axis_title(path), row=2)


def _best(rows: pd.DataFrame, path: str, *, is_number: bool) -> str:
    """Say how often the setting that errs least errs."""
    best = rows.iloc[int((rows["false_frac"] + rows["miss_frac"]).to_numpy().argmin())]
    words, unit = style.setting_words(path)
    at = f"{best[path]:g}" if is_number else str(best[path])
    chosen = f"{words[:1].upper()}{words[1:]} {at} {unit}".rstrip()
    return (
        f"{chosen}: {style.number(best['false_frac'] * 100)} % false alarms, "
        f"{style.number(best['miss_frac'] * 100)} % missed"
    )


def rollback_time(table: pd.DataFrame) -> go.Figure:
    """Draw the fraction of tabs that are still pushed to after a rollback, a line per rollback.

    Parameters
    ----------
    table : pandas.DataFrame
        ``way`` (text), ``t_s`` (seconds since the rollback, > 0), ``left_frac`` (see
        `rollouts.left`) and, optionally, ``exact_frac`` from a closed form (NaN if there is none).

    Returns
    -------
    plotly.graph_objects.Figure
        Closed forms are dashed lines of the same colour.

    Raises
    ------
    ScenarioError
        There are no rows, or a column is missing or has wrong values.
    """
    check_table("table", table, texts=("way",), numbers=("left_frac",), positive=("t_s",))
    figure = go.Figure()
    slowest, slowest_s = "", -1.0
    for place, (way, rows) in enumerate(table.groupby("way", sort=False)):
        lines = {"left_frac": ("solid", "")}
        if "exact_frac" in rows and rows["exact_frac"].notna().any():
            lines["exact_frac"] = ("dash", ", closed form")
        for column, (dash, words) in lines.items():
            figure.add_scatter(
                x=style.rounded(rows["t_s"], digits=style.TIME_DIGITS),
                y=style.rounded(rows[column] * 100.0),
                mode="lines",
                line={
                    "color": _OTHERS[place % len(_OTHERS)],
                    "dash": dash,
                    # Earlier lines are wider, so that lines that coincide stay visible.
                    "width": max(2.0, 5.0 - 0.75 * place) if dash == "solid" else 1.5,
                },
                name=f"{way}{words}",
                hovertemplate="%{y:.3g} % after %{x:.3g} s<extra>%{fullData.name}</extra>",
            )
        t50_s = _half_s(rows)
        if t50_s > slowest_s:
            slowest, slowest_s = str(way), t50_s
    took = f"takes {style.duration(slowest_s)}" if np.isfinite(slowest_s) else "does not do it"
    title = f"To bring half of the tabs back, {slowest} {took}"
    seconds = table["t_s"].tolist()
    about = "Of the tabs that were pushed to when it began; more than 100 %: more have come since"
    style.layout(
        figure, title, "time since the rollback (log scale)", "still pushed to (%)", about=about
    )
    figure.update_xaxes(**style.duration_axis(seconds))
    return figure.update_yaxes(rangemode="tozero")


def _half_s(rows: pd.DataFrame) -> float:
    """Return when the line of a rollback falls to a half, seconds; infinity if it never does."""
    t_s, left_frac = rows["t_s"].to_numpy(float), rows["left_frac"].to_numpy(float)
    below = np.flatnonzero(left_frac <= 0.5)
    if len(below) == 0:
        return float(np.inf)
    first = int(below[0])
    if first == 0:
        return float(t_s[0])
    (before, after), (start_s, end_s) = left_frac[first - 1 : first + 1], t_s[first - 1 : first + 1]
    return float(start_s + (end_s - start_s) * (before - 0.5) / (before - after))


def asked_for(history: pd.DataFrame, end_s: float) -> go.Scatter:
    """Return the line of the percentage that a controller asked for, up to the end of a run."""
    return go.Scatter(
        x=style.rounded([0.0, *history["t_s"], end_s], digits=style.TIME_DIGITS),
        y=[0.0, *style.rounded(history["percent"]), float(history["percent"].iloc[-1])],
        mode="lines",
        line={"color": style.THEORY, "width": 2, "dash": "dash", "shape": "hv"},
        name="asked for, of the users",
        hovertemplate="%{y:g} % asked for from %{x:g} s on<extra></extra>",
    )


def colour_of(run: Run, cohort: str) -> str:
    """The colour of a cohort: its transport's, or where both have one, another for treatment."""
    transports = run.transports
    if cohort == "treatment" and transports["control"] == transports["treatment"]:
        return _OTHERS[0]
    return style.COLOURS[transports[cohort]]


def variant_of(cohort: str, transport: str, plan: Plan) -> str:
    """A cohort, its transport, and what else its clients have otherwise."""
    words = [style.NAMES[transport]]
    for path, value in getattr(plan, cohort).changes.items():
        if isinstance(value, dict):
            words += [f"{path}.{name} {of_it}" for name, of_it in value.items()]
        else:
            words.append(f"{path} {value}")
    return f"{cohort}: {', '.join(words)}"


def whence(run: Run) -> str:
    """Return the source of a rollout: simulated or measured, seed and replication."""
    words = f"One rollout ({style.source(run)}, seed {run.provenance['seed']}"
    return f"{words}, replication {run.provenance['replication']}); no interval"


def checked(given: Any) -> Rollout:
    """Return a rollout whose controller has looked at it, or refuse what is none."""
    if not isinstance(given, Rollout):
        raise ScenarioError("carried_out", given, "must be a Rollout")
    if len(given.history) == 0:
        raise ScenarioError("carried_out", given, "must have a check in its history")
    return given


def _turns(history: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a history at which a stage starts or the rollout ends."""
    return history[history["event"].isin(["started", *_ENDS])]


def _found(history: pd.DataFrame, steps: pd.DataFrame, end_s: float) -> str:
    """Say which share of the tabs the first stage reached, and how the rollout ended."""
    begun, last = history[history["event"] == "started"], history.iloc[-1]
    ended = _ENDS.get(str(last["event"]), "under way").split(":")[0]
    if len(begun) == 0:
        return f"{ended[0].upper()}{ended[1:]} before the first stage"
    first = begun.iloc[0]
    during = steps[steps["t_s"].between(first["t_s"], _ends_s(history, first, end_s))]
    got = float(during["share"].iloc[-1]) * 100.0 if len(during) else 0.0
    title = f"{first['percent']:g} % asked for is {style.number(got)} % of the open tabs"
    if last["event"] not in _ENDS:
        return title
    asked_s = history.loc[history["event"].isin(["rolled_back", "killed"]), "t_s"].min()
    at_s = last["t_s"] if np.isnan(asked_s) else asked_s
    return f"{title}; {ended} after {style.number((at_s - first['t_s']) / 60.0)} min"


def how_it_ended(history: pd.DataFrame) -> str:
    """Say how many checks failed, and how the rollout ended."""
    failed = int((history["event"] == "failed").sum())
    ended = _ENDS.get(str(history["event"].iloc[-1]), "under way").split(":")[0]
    return f"{failed} of {_checks(history)} checks failed: {ended}"


def _checks(history: pd.DataFrame) -> int:
    """Return how often guardrails were checked."""
    checked = history["event"].isin(["passed", "failed", "inconclusive", "done", "paused"])
    return int(checked.sum())


def _ends_s(history: pd.DataFrame, first: pd.Series, end_s: float) -> float:
    """Return when the first stage ends, seconds."""
    later = _turns(history)["t_s"]
    later = later[later > first["t_s"]]
    return float(later.min()) if len(later) else end_s


def _mark_checks(figure: go.Figure, history: pd.DataFrame) -> None:
    """Mark the checks that failed or were inconclusive."""
    for event, symbol in (("failed", "x"), ("inconclusive", "line-ns-open")):
        checks = history[history["event"] == event]
        if len(checks):
            figure.add_scatter(
                x=style.rounded(checks["t_s"], digits=style.TIME_DIGITS),
                y=style.rounded(checks["percent"]),
                mode="markers",
                marker={"symbol": symbol, "color": "#000000", "size": 9},
                name=f"check {event}",
                hovertemplate="%{x:g} s<extra>%{fullData.name}</extra>",
            )


def _width_s(run: Run, check_every_s: float) -> float:
    """Return a width in whole bins that is close to the time between two checks, seconds."""
    bin_s = run.scenario.bin_s
    return float(max(1, round(check_every_s / bin_s)) * bin_s)


def _scale(figure: go.Figure, values: list[float], *, is_log: bool, row: int, col: int) -> None:
    """Set a logarithmic axis, or a linear one from zero on."""
    positive = [value for value in values if value > 0.0]
    if is_log:
        low, high = np.log10(min(positive)), np.log10(max(positive))
        figure.update_yaxes(
            type="log", range=style.rounded([low - 0.3, high + 0.5]), dtick=1, row=row, col=col
        )
    else:
        highest = max(positive, default=1.0)
        figure.update_yaxes(
            range=style.rounded([-0.04 * highest, 1.25 * highest]), nticks=5, row=row, col=col
        )


def _shade(
    figure: go.Figure,
    limit: float,
    is_upper: bool,
    values: list[float],
    *,
    is_log: bool,
    row: int,
    col: int,
) -> None:
    """Shade the side of a limit on which a check fails."""
    highest = 10.0 * max([limit, *values, 1e-9])
    lowest = min([abs(limit), *values]) / 10.0 if is_log else -highest
    y0, y1 = (limit, highest) if is_upper else (lowest, limit)
    figure.add_hrect(
        y0=y0, y1=y1, fillcolor=FORBIDDEN, opacity=0.13, line_width=0, row=row, col=col
    )
    figure.add_hline(y=limit, line={"color": FORBIDDEN, "width": 1}, row=row, col=col)


def _said_of(rail: Guardrail) -> str:
    """Return a guardrail in words."""
    name, unit = MEASURES[rail.metric].label, MEASURES[rail.metric].unit
    if rail.judge is not None:
        return f"{name} judged against control ({rail.judge.replace('_', ' ')})"
    limit, is_upper = rail.limit
    side = "at most" if is_upper else "at least"
    if rail.times_control is not None:
        return f"{name} {side} {limit:g} times control"
    return f"{name} {side} {style.number(limit)} ({unit})"


def _look(place: int) -> dict[str, Any]:
    """Return the line and marker of a series that stands for no transport."""
    colour = _OTHERS[place % len(_OTHERS)]
    return {
        "mode": "lines+markers",
        "line": {"color": colour, "width": 2},
        "marker": {
            "symbol": f"{_SYMBOLS[place % len(_SYMBOLS)]}{'' if place % 2 else '-open'}",
            "size": 8 if place % 2 else 14,  # so that both show if they coincide
            "color": colour,
        },
    }
