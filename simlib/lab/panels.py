"""The planner's figure: four panels, of which a move replaces the data and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from simlib.analysis import metrics
from simlib.figures import style
from simlib.run import Run

_BEFORE_S, _AFTER_S = 15.0, 120.0
"""How much of the run with a restart is shown before it and after it, seconds."""
_PANELS = (
    "changes seen (%)",
    "IP packets of a client (kB/h)",
    "connected, with a restart (%)",
    "server busy, with a restart (%)",
)
_EACH = len(_PANELS)
_HEIGHT_PX = 560
WIDTH_PX = 515
"""Of the figure: with the controls beside it, what a window of 1280 pixels has room for."""
_SMALL_PX = 12
_PALE = 0.25
"""How opaque what belongs to settings before is."""


class Drawn(NamedTuple):
    """One of those that are shown, and what is drawn of it.

    Attributes
    ----------
    name : str
        In the legend.
    calm : Run
    rough : Run or None
        With a restart; None as long as it has not been simulated.
    restart_s : float
        When that begins, seconds.
    """

    name: str
    calm: Run
    rough: Run | None
    restart_s: float


def empty() -> go.Figure:
    """Return the figure with its axes and two times four traces that have no data yet."""
    figure = make_subplots(
        rows=2,
        cols=2,
        subplot_titles=_PANELS,
        horizontal_spacing=0.13,
        vertical_spacing=0.2,
    )
    for number in range(2):
        name = f"{number}"
        for row, col in ((1, 1), (1, 2), (2, 1), (2, 2)):
            shared = {
                "legendgroup": name,
                "showlegend": (row, col) == (1, 1),
                "row": row,
                "col": col,
            }
            if (row, col) == (1, 2):
                figure.add_bar(x=["up", "down"], y=[], **shared)
            else:
                figure.add_scatter(x=[], y=[], mode="lines", **shared)
    figure.update_layout(
        template="plotly_white",
        font={"size": _SMALL_PX},
        height=_HEIGHT_PX,
        width=WIDTH_PX,
        margin={"l": 50, "r": 20, "t": 40, "b": 40},
        barmode="group",
        legend={"orientation": "h", "x": 0.0, "y": -0.12, "yanchor": "top"},
    )
    figure.update_annotations(font={"size": _SMALL_PX})
    figure.update_xaxes(title={"standoff": 5, "font": {"size": _SMALL_PX}})
    figure.update_xaxes(title_text="publish to apply (log scale)", row=1, col=1)
    figure.update_yaxes(range=[0, 101], row=1, col=1)
    figure.update_yaxes(rangemode="tozero", row=1, col=2)
    for col in (1, 2):
        figure.update_xaxes(title_text="time since the restart (s)", row=2, col=col)
        figure.update_yaxes(range=[0, 103], row=2, col=col)
    return figure


class Move(NamedTuple):
    """What a move changes in the figure.

    Attributes
    ----------
    traces : list of dict
        For each trace, from the first on.
    axis : dict
        Of the latencies.
    """

    traces: list[dict[str, Any]]
    axis: dict[str, Any]


def move_of(drawn: Sequence[Drawn], *, is_late: bool = False) -> Move:
    """Return what is drawn of one or two.

    Parameters
    ----------
    drawn : sequence of Drawn
        Of one alone, the second is taken away.
    is_late : bool, optional
        The second is still being simulated: what was drawn of it stays on its axis, but pales.
    """
    spans: list[float] = []
    traces: list[dict[str, Any]] = []
    for one, named in zip(drawn, style.labelled([one.calm for one in drawn]), strict=True):
        found = _traces_of(one, named, spans)
        traces += [{"visible": True, "name": one.name, "opacity": 1.0, **each} for each in found]
    rest = {"opacity": _PALE} if is_late else {"visible": False}
    traces += [rest] * (2 * _EACH - len(traces))
    return Move(traces, {} if is_late else style.duration_axis(spans))


def redraw(figure: go.Figure, move: Move) -> None:
    """Change the figure, in one message where it is a widget.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
        That `empty` returned, or a widget of it.
    move : Move
    """
    with figure.batch_update():
        for trace, values in zip(figure.data, move.traces, strict=True):
            trace.update(values)
        figure.layout.xaxis.update(move.axis)


def _traces_of(one: Drawn, named: style.Named, spans: list[float]) -> list[dict[str, Any]]:
    """Return what changes of the four traces of one; its latencies are added to `spans`."""
    seen = style.thin(metrics.ecdf(one.calm))
    latency_s = seen["latency_s"].clip(lower=style.LEAST_S)
    spans += [latency_s.min(), latency_s.max()] if len(latency_s) else []
    [row] = one.calm.totals()[:1]
    sent = [row[f"{way}_bytes_per_h"] / 1e3 for way in ("up", "down")]
    line = named.line()
    found: list[dict[str, Any]] = [
        {
            "x": np.asarray(latency_s),
            "y": np.asarray(seen["share"] * 100.0),
            "line": {**line, "shape": "hv"},
        },
        {"y": sent, "marker": named.bar()},
    ]
    if one.rough is None:  # what was drawn before is of other settings
        return [*found, *({"x": [], "y": [], "line": line} for _ in range(2))]
    t_s, connected, busy = _after_restart(one.rough, one.restart_s)
    return [*found, *({"x": t_s, "y": values, "line": line} for values in (connected, busy))]


def _after_restart(run: Run, restart_s: float) -> tuple[Any, Any, Any]:
    """Return times since the restart, who is connected then, and how busy the server is, percent.

    Cohorts are added up: those who poll behind a bad proxy are clients as others are.
    """
    timeline = run.columns("timeline")
    t_s, place = np.unique(timeline["t_s"], return_inverse=True)
    connected, present = (
        np.bincount(place, weights=timeline[name]) for name in ("connection_count", "present_count")
    )
    first = np.unique(place, return_index=True)[1]
    busy = np.asarray(timeline["utilisation"])[first]
    near = (t_s >= restart_s - _BEFORE_S) & (t_s <= restart_s + _AFTER_S)
    share = np.minimum(100.0, 100.0 * connected / np.maximum(present, 1e-9))
    return t_s[near] - restart_s, share[near], 100.0 * busy[near]
