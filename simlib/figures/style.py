"""What all figures share: colours, marks, texts for numbers, axes, and the layout.

Colour stands for the transport (the palette is that of Okabe and Ito 2008, which colour-blind
readers can tell apart). Line and pattern stand for the source: solid and filled for simulated
runs, dotted and hatched for measured ones. Guide lines and theoretical values are grey.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from simlib.core.measures import MEASURES
from simlib.core.protocol import SOCKET_TRANSPORTS
from simlib.run import Run, refuse_rollout

if TYPE_CHECKING:
    import pandas as pd

COLOURS = {
    "polling": "#D55E00",
    "polling with ETag": "#E69F00",
    "websocket": "#0072B2",
    "notify": "#009E73",
}
THEORY = "#666666"
NAMES = {
    "polling": "polling",
    "polling with ETag": "polling with ETag",
    "websocket": "WebSocket push",
    "notify": "notify and fetch",
}
DONE = {
    "polling": "polled",
    "polling with ETag": "polled with ETag",
    "websocket": "pushed",
    "notify": "notified",
}
MOST_POINTS = 300
TIME_DIGITS = 8  # enough for days in steps of a tenth of a second
LEAST_S = 1e-6  # stands for 0 on a log axis


def metric_title(name: str, *, scale: str = "") -> str:
    """Return a metric's title over a panel: its label, and below it the unit and the scale.

    Examples
    --------
    >>> metric_title("message_rate_per_s")
    'messageRate<br>(1/s)'
    """
    return f"{MEASURES[name].label}<br>({MEASURES[name].unit}{scale})"


def is_measured(run: Run) -> bool:
    """Return whether a run comes from the live lab."""
    return bool(run.provenance["engine"] == "live")


def source(run: Run) -> str:
    """Return "measured" or "simulated"."""
    return "measured" if is_measured(run) else "simulated"


def kind(run: Run) -> str:
    """Return the transport, by its name in `COLOURS` and in the tables of closed forms."""
    scenario = run.scenario
    is_conditional = scenario.transport == "polling" and scenario.polling.etag
    return "polling with ETag" if is_conditional else scenario.transport


def labelled(runs: tuple[Run, ...]) -> Iterator[tuple[Run, dict[str, Any]]]:
    """Yield each run with the legend settings of its trace.

    Different scenarios are distinguished by their names or numbers of clients, or else by a number.
    Replications of one scenario share an entry.
    """
    for run in runs:
        refuse_rollout(run)
    many_names = len({run.scenario.name for run in runs}) > 1
    many_sizes = len({run.scenario.clients for run in runs}) > 1
    seen: dict[str, list[str]] = {}
    for run in runs:
        words = [NAMES[kind(run)], source(run)]
        if many_names:
            words.append(run.scenario.name)
        if many_sizes:
            words.append(f"{run.scenario.clients:,} clients")
        name = ", ".join(words)
        hashes = seen.setdefault(name, [])
        is_new = run.scenario.hash not in hashes
        if is_new:
            hashes.append(run.scenario.hash)
        number = hashes.index(run.scenario.hash) + 1
        if number > 1:
            name += f", scenario {number}"
        yield run, {"name": name, "legendgroup": name, "showlegend": is_new}


def push_on_top(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    """Return the runs with the pushed ones last, so that they are drawn over the others."""
    return tuple(sorted(runs, key=lambda run: run.scenario.transport in SOCKET_TRANSPORTS))


def line(run: Run, *, under: float = 0.0, thin: float = 0.0) -> dict[str, Any]:
    """Return a run's colour, dash and width; `under` widens polling where push may lie on it."""
    if run.scenario.transport in SOCKET_TRANSPORTS:
        under = 0.0
    # The dotted line is wider, so that its dots show where it coincides with a solid one.
    dash, width = ("dot", 3.5) if is_measured(run) else ("solid", 2.0)
    return {"color": COLOURS[kind(run)], "dash": dash, "width": width + under - thin}


def marker(run: Run) -> dict[str, Any]:
    """Return the colour and pattern of a run's bars."""
    pattern = {"shape": "/" if is_measured(run) else ""}
    return {"color": COLOURS[kind(run)], "pattern": pattern}


def one_each(runs: tuple[Run, ...]) -> list[Run]:
    """Return the first run of each kind, for the title."""
    first: dict[str, Run] = {}
    for run in runs:
        first.setdefault(kind(run), run)
    return list(first.values())


def said(runs: tuple[Run, ...], say: Callable[[pd.Series], str]) -> str:
    """Return a text such as ``"766 kB/h polled, 40 kB/h pushed"``, from the first of each kind."""
    return ", ".join(f"{say(run.summary().iloc[0])} {DONE[kind(run)]}" for run in one_each(runs))


def origin(runs: Sequence[Run]) -> str:
    """Return a text that says which runs a title describes, and after which warm-up."""
    sources = dict.fromkeys(f"{source(run)}, seed {run.provenance['seed']}" for run in runs)
    warm_ups = dict.fromkeys(f"{run.scenario.warm_up_s:g} s" for run in runs)
    each = "one run" if len(runs) == 1 else "one run each"
    return (
        f"Title: {each} ({'; '.join(sources)}), after {' and '.join(warm_ups)} "
        "of warm-up; no interval"
    )


def bytes_per_h(row: pd.Series) -> float:
    """Return the bytes per hour of a row of the summary, up and down together."""
    return float(row["up_bytes_per_h"] + row["down_bytes_per_h"])


def number(value: float, *, digits: int = 3) -> str:
    """Return a number with a few significant digits and no exponent: ``38,900`` or ``1.2``."""
    return f"{float(f'{value:.{digits}g}'):,.10g}"


def percent(error_frac: float) -> str:
    """Return a relative error in percent, such as ``+1.5 %``."""
    if abs(error_frac) < 0.0005:
        return "under 0.1 %"
    return f"{error_frac * 100.0:+.1f} %"


def duration(seconds: float, *, digits: int = 3) -> str:
    """Return a duration in a suitable unit, such as ``1.5 ms``."""
    if not np.isfinite(seconds):
        return "n/a"
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds >= 1.0 / factor or unit == "µs":
            break
    return f"{float(f'{seconds * factor:.{digits}g}'):.10g} {unit}"


def duration_axis(seconds: list[float]) -> dict[str, Any]:
    """Return a log axis over these seconds, with ticks such as ``10 ms``; short ones have 1-2-5."""
    if not seconds:
        return {}
    low, high = np.log10(min(seconds)), np.log10(max(seconds))
    margin = max(0.1, (0.8 - (high - low)) / 2.0)  # 0.8 of a decade has at least two ticks of 1-2-5
    low, high = low - margin, high + margin
    steps = (1, 2, 5) if high - low < 2.0 else (1,)
    ticks = [
        float(f"{step}e{decade}")
        for decade in range(int(np.floor(low)), int(np.ceil(high)) + 1)
        for step in steps
        if low <= np.log10(step) + decade <= high
    ]
    return {
        "type": "log",
        "range": rounded([low, high]),
        "tickvals": ticks,
        "ticktext": [duration(tick) for tick in ticks],
    }


def thin(table: pd.DataFrame) -> pd.DataFrame:
    """Return at most `MOST_POINTS` rows, always with the first and the last."""
    if len(table) <= MOST_POINTS:
        return table
    rows = np.unique(np.linspace(0, len(table) - 1, MOST_POINTS).round().astype(int))
    return table.iloc[rows]


def rounded(values: Any, *, digits: int = 4) -> list[float | None]:
    """Round to significant digits: four are as many as a reader can see in a figure."""
    return [
        float(f"{value:.{digits}g}") if np.isfinite(value) else None
        for value in np.asarray(values, float)
    ]


def layout(
    figure: go.Figure,
    title: str,
    x: str,
    y: str,
    whence: Sequence[Run] = (),
    *,
    height: int = 470,
    panels: bool = False,
) -> go.Figure:
    """Give a figure the common layout: the finding as title, its source, axis titles, a legend.

    The title stands below the tool bar and the legend below the axis, so that they overlap nothing
    on a narrow page, where the legend takes two lines.
    """
    head: dict[str, Any] = {"text": title, "font": {"size": 17}, "x": 0.02, "xanchor": "left"}
    head |= {"y": rounded([1.0 - 32 / height])[0], "yanchor": "top", "yref": "container"}
    if whence:
        head["subtitle"] = {"text": origin(whence), "font": {"size": 12, "color": THEORY}}
    top, bottom = (135 if panels else 95), 110
    legend_y = -65 / (height - top - bottom)
    figure.update_layout(
        template="plotly_white",
        title=head,
        font={"size": 13},
        margin={"l": 70, "r": 45, "t": top, "b": bottom},
        height=height,
        legend={
            "orientation": "h",
            "xanchor": "left",
            "x": 0.0,
            "yanchor": "top",
            "y": rounded([legend_y])[0],
        },
        showlegend=True,
        barmode="group",
    )
    if x:
        figure.update_xaxes(title_text=x)
    if y:
        figure.update_yaxes(title_text=y)
    return figure
