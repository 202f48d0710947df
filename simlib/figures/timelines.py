"""A rollout over time, to be scrubbed: a cursor, and why its controller did what it did until then.

The slider and the buttons are plotly's own, and animate frames that are stored in the figure: it
needs no kernel, so it works in a rendered page as it does in JupyterLab. A frame holds the cursor's
time, the sentences of the last look before it, and where the two buttons lead from there.
"""

from __future__ import annotations

import html
import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from simlib.analysis import metrics, rollouts
from simlib.core.measures import MEASURES
from simlib.errors import ScenarioError
from simlib.figures import style
from simlib.figures.rollouts import (
    FORBIDDEN,
    SPANS_DECADES,
    asked_for,
    checked,
    colour_of,
    how_it_ended,
    variant_of,
    whence,
)
from simlib.rollout.reasons import shown
from simlib.rollout.result import Rollout
from simlib.scenario.suggestions import METRIC_ALIASES, hint

MOST_LOOKS = 40
"""So many looks have a frame of their own, evenly over the rollout; breakpoints always have one."""
_MOST_BINS = 150
_MOST_METRICS = 3
_CHARACTERS = 52  # of a line of sentences: what a page of 400 px has room for
_TEXT_PX, _LINE_PX = 12, 16
_AXIS_PX, _BUTTONS_PX, _SLIDER_PX = 50, 42, 80
_PANEL_PX = 190
_OF_MARGIN_PX = 60  # sentences begin that much to the left of the axis
_CURSOR = "#000000"
_AT_ONCE = {
    "mode": "immediate",
    "frame": {"duration": 0, "redraw": True},
    "transition": {"duration": 0},
}


class _Moment(NamedTuple):
    """A place of the slider: its time, what is said of it, and whether it is a breakpoint."""

    t_s: float
    text: str
    is_breakpoint: bool


def rollout_timeline(carried_out: Rollout, metric: str | None = None) -> go.Figure:
    """Draw a rollout over time, with a slider that says what its controller saw, and why it acted.

    Parameters
    ----------
    carried_out : Rollout
        A simulated or measured rollout; lines are dotted if it was measured.
    metric : str, optional
        A metric that the plan guards; absent: those whose checks failed, three at most, or else
        that of the first guardrail.

    Returns
    -------
    plotly.graph_objects.Figure
        Panels for the percentage and the share of tabs in the treatment cohort, for the open
        connections of both cohorts, and for each metric at the looks with its limit; crosses are
        failed checks. Diamonds are `Rollout.breakpoints`. The slider moves the cursor, below it
        are the sentences of `Rollout.why` for the last look up to it, and the buttons lead to the
        breakpoints before and after it. It begins at the first rollback, or else at the first
        check that failed, or else at the end.

    Raises
    ------
    ScenarioError
        The argument is not a rollout, it was interrupted before its first look, or no guardrail
        has the metric.
    """
    run, history, plan = checked(carried_out)[:3]
    numbers = _guardrails(carried_out, metric)
    titles = ["asked for, and in treatment<br>(%)", "open connections<br>(mean number)"]
    titles += [style.metric_title(plan.guardrails[number].metric) for number in numbers]
    rows = len(titles)
    figure = make_subplots(
        rows=rows, shared_xaxes=True, subplot_titles=titles, vertical_spacing=0.36 / rows
    )
    panels = list(figure.layout.annotations)
    moments = _moments(carried_out)
    _draw_shares(figure, carried_out)
    _draw_breakpoints(figure, carried_out)
    _draw_connections(figure, carried_out)
    for row, number in enumerate(numbers, start=3):
        _draw_metric(figure, carried_out, number, row)
    style.layout(
        figure,
        how_it_ended(history),
        "",
        "",
        [run],
        about=f"{whence(run)}<br>Drag the slider, or go from breakpoint to breakpoint",
        height=245 + _PANEL_PX * rows,
        panels=True,
    )
    end_s = run.provenance["end_of_run_s"]
    axis = style.time_axis(end_s)
    figure.update_xaxes(title={**axis.pop("title"), "font": {"size": 12}}, row=rows)
    figure.update_xaxes(range=style.rounded([-0.01 * end_s, 1.01 * end_s]), **axis)
    for annotation in panels:
        annotation.font = {"size": 13}
    return _with_controls(figure, moments, panels, _start(carried_out, moments))


def _guardrails(carried_out: Rollout, metric: str | None) -> list[int]:
    """Return the numbers of the guardrails that are drawn; none if the plan has none."""
    guarded = [rail.metric for rail in carried_out.plan.guardrails]
    if metric is not None:
        if metric not in guarded:
            listed = ", ".join(dict.fromkeys(guarded)) or "none, as the plan has no guardrails"
            meant = hint(metric, guarded, METRIC_ALIASES)
            rule = f"must be a metric that is guarded: {listed}{meant}"
            raise ScenarioError("metric", metric, rule)
        return [guarded.index(metric)]
    checks = carried_out.checks
    failed = checks.loc[checks["result"] == "fail", "guardrail"].unique()[:_MOST_METRICS]
    return sorted(int(number) for number in failed) or list(range(len(guarded)))[:1]


# -- what the slider leads to -------------------------------------------------------------------


def _moments(carried_out: Rollout) -> list[_Moment]:
    """Return the places of the slider: some looks or all of them, and every breakpoint."""
    looks_s = np.unique(carried_out.history["t_s"].to_numpy(float))
    if len(looks_s) > MOST_LOOKS:
        places = np.linspace(0, len(looks_s) - 1, MOST_LOOKS).round().astype(int)
        looks_s = looks_s[np.unique(places)]
    reached = carried_out.breakpoints.dropna(subset="t_s")
    found = []
    for t_s in np.union1d(looks_s, reached["t_s"].to_numpy(float)).tolist():
        names = reached.index[reached["t_s"] == t_s].tolist()
        when = shown(t_s, "time")
        lines = carried_out.why(t_s)
        for name in reversed(names):
            lines = list(dict.fromkeys([*carried_out.why(name), *lines]))
        lines[0] = lines[0].removeprefix(f"{when}: ")
        head = f"{when}: {', '.join(names)}" if names else when
        found.append(_Moment(t_s, _text(head, lines), len(names) > 0))
    return found


def _text(head: str, lines: list[str]) -> str:
    """Return sentences as plotly takes them, a line of their own each, below a heading."""
    wrapped = [style.wrap(f"• {html.escape(line, quote=False)}", _CHARACTERS) for line in lines]
    return "<br>".join([f"<b>{style.wrap(head, _CHARACTERS)}</b>", *wrapped])


def _start(carried_out: Rollout, moments: list[_Moment]) -> int:
    """Return the place at which the slider begins."""
    reached_s = carried_out.breakpoints["t_s"]
    for name in ("first rollback", "first failed check", "end"):
        if not math.isnan(reached_s[name]):
            return [moment.t_s for moment in moments].index(reached_s[name])
    return len(moments) - 1


def _with_controls(
    figure: go.Figure, moments: list[_Moment], panels: list[Any], start: int
) -> go.Figure:
    """Add the cursor, the sentences, the slider and the buttons, and a frame for each place."""
    frames = [_frame(moments, place) for place in range(len(moments))]
    margin, height = figure.layout.margin, figure.layout.height
    plot_px = height - margin.t - margin.b
    more_px = _BUTTONS_PX + _SLIDER_PX
    more_px += _LINE_PX * (max(moment.text.count("<br>") for moment in moments) + 2)
    shapes, words, menus = (
        frames[start]["layout"][name][0] for name in ("shapes", "annotations", "updatemenus")
    )
    cursor = {"type": "line", "xref": "x", "yref": "paper", "y0": 0.0, "y1": 1.0}
    cursor |= {"line": {"color": _CURSOR, "width": 2.0}, **shapes}

    def below(px: float) -> dict[str, Any]:
        """Place something so many pixels below the axis of the last panel."""
        y = style.rounded([-(_AXIS_PX + px) / plot_px])[0]
        return {"x": 0.0, "xanchor": "left", "y": y, "yanchor": "top"}

    figure.layout.annotations = [{**_WORDS, **below(_BUTTONS_PX + _SLIDER_PX), **words}, *panels]
    figure.update_layout(
        shapes=[cursor],
        updatemenus=[{**_MENU, **below(0.0), **menus}],
        sliders=[{**_SLIDER, **below(_BUTTONS_PX), **_steps(moments), "active": start}],
        legend_y=below(more_px)["y"],
        height=height + more_px,
        margin_b=margin.b + more_px,
    )
    figure.frames = frames
    return figure


_WORDS = {
    "xref": "paper",
    "yref": "paper",
    "xshift": -_OF_MARGIN_PX,
    "align": "left",
    "showarrow": False,
    "font": {"size": _TEXT_PX},
}
_MENU = {
    "type": "buttons",
    "direction": "right",
    "showactive": False,
    "pad": {"t": 0, "r": 0, "b": 0, "l": -_OF_MARGIN_PX},
    "font": {"size": _TEXT_PX},
}
_SLIDER = {
    "len": 1.0,
    "pad": {"t": 0, "b": 0},
    "currentvalue": {"visible": False},
    "font": {"size": 11},
}


def _steps(moments: list[_Moment]) -> dict[str, Any]:
    """Return the places of the slider."""
    steps = [
        {"label": shown(moment.t_s, "time"), **_to(place)} for place, moment in enumerate(moments)
    ]
    return {"steps": steps}


def _frame(moments: list[_Moment], place: int) -> dict[str, Any]:
    """Return what changes when the slider comes to a place."""
    turns = [number for number, moment in enumerate(moments) if moment.is_breakpoint]
    before = max((turn for turn in turns if turn < place), default=place)
    after = min((turn for turn in turns if turn > place), default=place)
    t_s = style.rounded([moments[place].t_s], digits=style.TIME_DIGITS)[0]
    buttons = [{"label": "◀ breakpoint", **_to(before)}, {"label": "breakpoint ▶", **_to(after)}]
    changes = {
        "shapes": [{"x0": t_s, "x1": t_s}],
        "annotations": [{"text": moments[place].text}],
        "updatemenus": [{"buttons": buttons}],
    }
    return {"name": str(place), "layout": changes}


def _to(place: int) -> dict[str, Any]:
    """Return what a step or a button does to go to a place."""
    return {"method": "animate", "args": [[str(place)], _AT_ONCE]}


# -- the panels ---------------------------------------------------------------------------------


def _draw_shares(figure: go.Figure, carried_out: Rollout) -> None:
    """Draw the percentage that is asked for, and the share of the tabs that have come."""
    run, history = carried_out.run, carried_out.history
    end_s = run.provenance["end_of_run_s"]
    steps = style.thin(rollouts.enrolled(run).query("t_s < @end_s"))
    figure.add_scatter(
        x=style.rounded(steps["t_s"], digits=style.TIME_DIGITS),
        y=style.rounded(steps["share"] * 100.0),
        mode="lines",
        line={**_line(carried_out, "treatment"), "width": 5.0, "shape": "hv"},
        name="in treatment, of the open tabs",
        hovertemplate="%{y:.3g} % at %{x:g} s<extra>%{fullData.name}</extra>",
        row=1,
        col=1,
    )
    figure.add_trace(asked_for(history, end_s), row=1, col=1)
    figure.update_yaxes(range=[-4, 118], tickvals=[0, 50, 100], row=1)


def _draw_breakpoints(figure: go.Figure, carried_out: Rollout) -> None:
    """Mark the breakpoints on top of the first panel."""
    reached = carried_out.breakpoints.dropna(subset="t_s")
    words = [
        f"<b>{name}</b><br>{style.wrap(html.escape(what, quote=False), _CHARACTERS)}"
        for name, what in reached["what"].items()
    ]
    figure.add_scatter(
        x=style.rounded(reached["t_s"], digits=style.TIME_DIGITS),
        y=[109.0] * len(reached),
        mode="markers",
        marker={"symbol": "diamond", "size": 9, "color": _CURSOR},
        text=words,
        name="breakpoint",
        hovertemplate="%{text}<extra></extra>",
        row=1,
        col=1,
    )


def _draw_connections(figure: go.Figure, carried_out: Rollout) -> None:
    """Draw the open connections of both cohorts."""
    run, plan = carried_out.run, carried_out.plan
    bins = math.ceil(run.scenario.horizon_s / run.scenario.bin_s)
    width_s = run.scenario.bin_s * math.ceil(bins / _MOST_BINS)
    table = metrics.over_time(run, width_s=width_s)
    for cohort, rows in table.groupby("cohort", sort=False):
        figure.add_scatter(
            x=style.rounded(rows["t_s"], digits=style.TIME_DIGITS),
            y=style.rounded(rows["connection_count"]),
            mode="lines",
            line=_line(carried_out, str(cohort)),
            name=variant_of(str(cohort), run.transports[str(cohort)], plan),
            legendgroup=str(cohort),
            hovertemplate="%{y:.4g} at %{x:g} s<extra>%{fullData.name}</extra>",
            row=2,
            col=1,
        )
    figure.update_yaxes(rangemode="tozero", nticks=4, row=2)


def _draw_metric(figure: go.Figure, carried_out: Rollout, number: int, row: int) -> None:
    """Draw a guarded metric at each look, for both cohorts, with its limit and failed checks."""
    rows = carried_out.checks[carried_out.checks["guardrail"] == number]
    times_s = style.rounded(rows["t_s"], digits=style.TIME_DIGITS)
    plan, run = carried_out.plan, carried_out.run
    drawn = [("control", "circle"), ("treatment", "square")]
    if MEASURES[plan.guardrails[number].metric].scope == "server":
        drawn = drawn[1:]
    for cohort, symbol in drawn:
        figure.add_scatter(
            x=times_s,
            y=style.rounded(rows[cohort]),
            mode="lines+markers",
            line={**_line(carried_out, cohort), "width": 1.5},
            marker={"symbol": symbol, "size": 5},
            name=variant_of(cohort, run.transports[cohort], plan),
            legendgroup=cohort,
            showlegend=False,
            hovertemplate="%{y:.4g} at %{x:g} s<extra>%{fullData.name}</extra>",
            row=row,
            col=1,
        )
    failed = rows[rows["result"] == "fail"]
    marks = {"symbol": "x", "size": 9, "color": FORBIDDEN}
    limit = {"color": FORBIDDEN, "width": 1.5, "dash": "dot"}
    for table, column, name, look in (
        (rows, "limit", "limit", {"mode": "lines", "line": limit}),
        (failed, "treatment", "check failed", {"mode": "markers", "marker": marks}),
    ):
        if table[column].notna().any():
            figure.add_scatter(
                x=style.rounded(table["t_s"], digits=style.TIME_DIGITS),
                y=style.rounded(table[column]),
                name=name,
                legendgroup=name,
                showlegend=not any(trace.legendgroup == name for trace in figure.data),
                hovertemplate="%{y:.4g} at %{x:g} s<extra>%{fullData.name}</extra>",
                **look,
                row=row,
                col=1,
            )
    _scale(figure, rows[["control", "treatment", "limit"]], row)


def _scale(figure: go.Figure, table: pd.DataFrame, row: int) -> None:
    """Set an axis that shows a metric and its limit: from zero on, or logarithmic."""
    values = table.to_numpy(float).ravel()
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0.0 and values.max() > SPANS_DECADES * values.min():
        low, high = np.log10(values.min()) - 0.3, np.log10(values.max()) + 0.3
        figure.update_yaxes(type="log", range=style.rounded([low, high]), dtick=1, row=row)
    else:
        figure.update_yaxes(rangemode="tozero", nticks=5, row=row)


def _line(carried_out: Rollout, cohort: str) -> dict[str, Any]:
    """Return the line of a cohort."""
    dash = "dot" if style.is_measured(carried_out.run) else "solid"
    return {"color": colour_of(carried_out.run, cohort), "dash": dash, "width": 2.0}
