"""What all figures share: colours, marks, texts for numbers, axes, and the layout.

Colour stands for the transport (the palette is that of Okabe and Ito 2008, which colour-blind
readers can tell apart). Line and pattern stand for the source: solid and filled for simulated
runs; dotted, hatched or open marks for measured ones. Further runs of one transport and source have
their own dashes, markers and patterns. Guide lines and theoretical values are grey; where several
transports have a closed form each, it is dashed in the transport's colour.

Titles are wrapped for a page of 400 px, where plotly would cut them, and the figure grows with
them.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import plotly.graph_objects as go

from simlib.core.measures import MEASURES
from simlib.core.protocol import TOLD_TRANSPORTS
from simlib.errors import ScenarioError
from simlib.run import Run, kinds_of, refuse_rollout
from simlib.scenario.display import differences
from simlib.scenario.units import without_unit

if TYPE_CHECKING:
    import pandas as pd

COLOURS = {
    "polling": "#D55E00",
    "polling with ETag": "#E69F00",
    "websocket": "#0072B2",
    "notify": "#009E73",
    "sse": "#56B4E9",
    "sse_notify": "#882255",
    "long_polling": "#CC79A7",
}
THEORY = "#666666"
NAMES = {
    "polling": "polling",
    "polling with ETag": "polling with ETag",
    "websocket": "WebSocket push",
    "notify": "notify and fetch",
    "sse": "server-sent events",
    "sse_notify": "notify by stream and fetch",
    "long_polling": "long polling",
}
DONE = {
    "polling": "polled",
    "polling with ETag": "polled with ETag",
    "websocket": "pushed",
    "notify": "notified",
    "sse": "streamed",
    "sse_notify": "notified by stream",
    "long_polling": "long-polled",
}
MOST_POINTS = 300
TIME_DIGITS = 8  # enough for days in steps of a tenth of a second
LEAST_S = 1e-6  # stands for 0 on a log axis
WARNING = "#B22222"
# On a dark page: the paper, and in place of what would be too dark there. What is not here stays.
DARK = {
    "paper": "#15191e",
    "#000000": "#ffffff",
    "#2a3f5f": "#e4e9ee",  # texts, as plotly's template has them
    "#ebf0f8": "#303a44",  # its grid
    "#e5ecf6": "#1f262e",  # and the ground of its other template
    THEORY: "#a7b4c0",
    "#cccccc": "#55616c",
    WARNING.lower(): "#ff7b72",
    "#882255": "#c2558c",
    "#0072b2": "#2b93d1",
}
_NUMBER_AND_UNIT = re.compile(r"(\d) (?=(?:%|(?:s|ms|µs|min|h|B|kB)\b))")
_JOINT = "\N{NO-BREAK SPACE}"
_TITLE_CHARACTERS, _TITLE_PX, _LINE_PX = 41, 16, 21
_SMALL_CHARACTERS, _SMALL_PX, _SMALL_LINE_PX = 56, 12, 16
_PANEL_CHARACTERS = 18
_AXIS_CHARACTERS = 34
_LEGEND_PX = 20
_TOOL_BAR_PX = 10
_MOST_NAMED = 4
_MOST_WARNINGS = 4
_MOST_DIFFERENCES = 2
_DASHES = ("solid", "dash", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star")
_PATTERNS = (("", ".", "x", "-"), ("/", "\\", "|", "+"))


def check_known(name: str, values: pd.Series, known: Iterable[str]) -> None:
    """Refuse a column that has a value which is not known.

    Raises
    ------
    ScenarioError
        Which names the column.
    """
    for value in values.unique():
        if value not in known:
            raise ScenarioError(name, value, f"must be among {', '.join(known)}")


def wrap(text: str, characters: int) -> str:
    """Return a text in lines of at most so many characters, as plotly takes it.

    A number and its unit stay together.

    Examples
    --------
    >>> wrap("Half of the changes are seen within 14 s", 39)
    'Half of the changes are seen within<br>14 s'
    """
    together = _NUMBER_AND_UNIT.sub(f"\\1{_JOINT}", text)
    lines = (
        textwrap.wrap(line, characters, break_long_words=False) for line in together.split("<br>")
    )
    return "<br>".join("<br>".join(line) for line in lines).replace(_JOINT, " ")


def metric_title(name: str, *, scale: str = "") -> str:
    """Return a metric's title over a panel: its label, and below it the unit and the scale.

    Examples
    --------
    >>> metric_title("message_rate_per_s")
    'messageRate<br>(1/s)'
    """
    unit = wrap(f"({MEASURES[name].unit}{scale})", _PANEL_CHARACTERS)
    return f"{wrap(MEASURES[name].label, _PANEL_CHARACTERS)}<br>{unit}"


def setting_words(path: str) -> tuple[str, str]:
    """Return the name of a setting or a figure in words, and its unit.

    Examples
    --------
    >>> setting_words("polling.interval_s"), setting_words("clients")
    (('polling interval', 's'), ('clients', ''))
    >>> setting_words("guardrails.0.below"), setting_words("stages.*.bake_s")
    (('guardrails 1 below', ''), ('all stages bake', 's'))
    >>> setting_words("faults.0.bytes_per_s"), setting_words("stages.*.percent")
    (('faults 1 bytes per s', 'bytes/s'), ('all stages percent', '%'))
    >>> setting_words("latency_p50_s")
    ('latency, median', 's')
    """
    if path in MEASURES:
        return MEASURES[path].label, MEASURES[path].unit
    parts = path.split(".")
    if "*" in parts:
        parts = ["all", *(part for part in parts if part != "*")]
    parts = [str(int(part) + 1) if part.isdigit() else part for part in parts]
    parts[-1], unit = without_unit(parts[-1])
    return " ".join(parts).replace("_", " "), unit


def axis_title(path: str, *, scale: str = "") -> str:
    """Return the title of an axis of a setting or a figure.

    Examples
    --------
    >>> axis_title("latency_p50_s", scale="log scale"), axis_title("clients")
    ('latency, median (s, log scale)', 'clients')
    """
    words, unit = setting_words(path)
    inside = ", ".join(filter(None, (unit, scale)))
    return f"{words} ({inside})" if inside else words


def is_measured(run: Run) -> bool:
    """Return whether a run comes from the live lab."""
    return bool(run.provenance["engine"] == "live")


def source(run: Run) -> str:
    """Return "measured" or "simulated"."""
    return "measured" if is_measured(run) else "simulated"


def kind(run: Run) -> str:
    """Return the transport, by its name in `COLOURS` and in the tables of closed forms."""
    scenario = run.scenario
    is_conditional = scenario.transport == "polling" and scenario.polling.etag != "off"
    return "polling with ETag" if is_conditional else scenario.transport


class Named(NamedTuple):
    """A run as a figure calls it.

    Attributes
    ----------
    run : Run
    words : tuple of str
        What tells it apart from the other runs of its transport in the figure.
    place : int
        Its number among the different runs of its transport and source, from 0 on.
    is_new : bool
        Whether it is the first of its replications.
    """

    run: Run
    words: tuple[str, ...]
    place: int
    is_new: bool

    @property
    def name(self) -> str:
        """Its name in the legend."""
        others = [word for word in self.words if word != source(self.run)]
        return ", ".join([NAMES[kind(self.run)], source(self.run), *others])

    @property
    def done(self) -> str:
        """What follows its number in a title, such as ``polled (interval 10 s)``."""
        words = f" ({', '.join(self.words)})" if self.words else ""
        return f"{DONE[kind(self.run)]}{words}"

    @property
    def label(self) -> dict[str, Any]:
        """The legend settings of its trace."""
        return {"name": self.name, "legendgroup": self.name, "showlegend": self.is_new}

    def line(self, *, under: float = 0.0, thin: float = 0.0) -> dict[str, Any]:
        """Return its colour, dash and width; `under` widens polling where push may lie on it."""
        if self.run.scenario.transport in TOLD_TRANSPORTS:
            under = 0.0
        # The dotted line is wider, so that its dots show where it coincides with a solid one.
        dash, width = _DASHES[self.place % len(_DASHES)], 2.0
        if is_measured(self.run):
            dash, width = "dot", 3.5
        return {"color": COLOURS[kind(self.run)], "dash": dash, "width": width + under - thin}

    def curve(self) -> dict[str, Any]:
        """Return the mode of its curve: the first of its kind has no markers, others have a few."""
        if self.place == 0:
            return {"mode": "lines"}
        symbol = SYMBOLS[self.place % len(SYMBOLS)]
        return {
            "mode": "lines+markers",
            "marker": {"symbol": symbol, "size": 8, "maxdisplayed": 12},
        }

    def bar(self) -> dict[str, Any]:
        """Return the colour and pattern of its bars."""
        patterns = _PATTERNS[is_measured(self.run)]
        shape = patterns[self.place % len(patterns)]
        return {"color": COLOURS[kind(self.run)], "pattern": {"shape": shape}}


def labelled(runs: Sequence[Run]) -> list[Named]:
    """Return each run as a figure calls it.

    Different runs of one transport are told apart by their source, names and numbers of clients, or
    else by the settings that differ, or by a number. Replications of one scenario share a name.
    """
    for run in runs:
        refuse_rollout(run)
    many_sources = len({source(run) for run in runs}) > 1
    many_names = len({run.scenario.name for run in runs}) > 1
    many_sizes = len({run.scenario.clients for run in runs}) > 1
    scenarios: dict[tuple[str, ...], list[Run]] = {}
    places: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    found = []
    for run in runs:
        words = [source(run)] if many_sources else []
        words += [run.scenario.name] if many_names else []
        words += [f"{run.scenario.clients:,} clients"] if many_sizes else []
        alike = scenarios.setdefault((kind(run), *words), [])
        hashes = [other.scenario.hash for other in alike]
        is_new = run.scenario.hash not in hashes
        number = len(hashes) if is_new else hashes.index(run.scenario.hash)
        if is_new:
            alike.append(run)
        if number > 0:
            words += _differing(alike[0], run) or [f"scenario {number + 1}"]
        of_kind = places.setdefault((kind(run), source(run)), [])
        if tuple(words) not in of_kind:
            of_kind.append(tuple(words))
        found.append(Named(run, tuple(words), of_kind.index(tuple(words)), is_new))
    return found


def _differing(one: Run, other: Run) -> list[str]:
    """Return the settings of another run that differ, if they are few and plain."""
    left, right = (run.scenario.model_dump(exclude_none=True) for run in (one, other))
    found = differences(left, right)
    plain = all(isinstance(value, int | float | str) for _, value in found.values())
    if len(found) > _MOST_DIFFERENCES or not plain:
        return []
    words = []
    for path, (_, value) in found.items():
        name, unit = setting_words(path)
        said = f"{value:,.10g}" if isinstance(value, float) else str(value)
        words.append(f"{name} {said} {unit}".rstrip())
    return words


def push_on_top(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    """Return the runs with the pushed ones last, so that they are drawn over the others."""
    return tuple(sorted(runs, key=lambda run: run.scenario.transport in TOLD_TRANSPORTS))


def firsts(runs: Sequence[Run]) -> list[Named]:
    """Return the runs whose numbers a title gives: the first of each name."""
    return [named for named in labelled(runs) if named.is_new]


def said(
    runs: Sequence[Run], value: Callable[[pd.Series], float], show: Callable[[float], str]
) -> str:
    """Return a text such as ``"766 kB/h polled, 40 kB/h pushed"``, with all runs; or their range.

    Parameters
    ----------
    runs : sequence of Run
    value : callable
        The number, from a row of `metrics.table`.
    show : callable
        The text of the number.
    """
    found = [(value(named.run.metrics().iloc[0]), named) for named in firsts(runs)]
    if len(found) <= _MOST_NAMED:
        return ", ".join(f"{show(number)} {named.done}" for number, named in found)
    found.sort(key=lambda pair: pair[0])
    low, high = found[0], found[-1]
    return (
        f"{show(low[0])} {low[1].done} to {show(high[0])} {high[1].done}, of {len(found)} scenarios"
    )


def origin(runs: Sequence[Run]) -> str:
    """Return a text that says which runs a title's numbers are of, and after which warm-up."""
    sources = dict.fromkeys(f"{source(run)}, seed {run.provenance['seed']}" for run in runs)
    warm_ups = dict.fromkeys(f"{run.scenario.warm_up_s:g} s" for run in runs)
    each = "one run" if len(runs) == 1 else "one run each"
    return (
        f"The title's numbers: of {each} ({'; '.join(sources)}), after {' and '.join(warm_ups)} "
        "of warm-up; no interval"
    )


def warned(runs: Sequence[Run]) -> list[str]:
    """Return the warnings of runs in short, each once, and whose they are if they are not all's."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        for warning in run.warnings:
            found.setdefault(warning.brief, []).append(run)
    if not found:
        return []
    called = _called(runs)
    lines = []
    for brief, of_them in found.items():
        names = dict.fromkeys(called[id(run)] for run in of_them)
        whose = "" if len(of_them) == len(runs) else f"{', '.join(names)}: "
        lines.append(f"{whose}{brief}")
    if len(lines) > _MOST_WARNINGS:
        more = len(lines) - _MOST_WARNINGS + 1
        lines = [*lines[: _MOST_WARNINGS - 1], f"and {more} more: see the runs' warnings"]
    return lines


def warned_of(table: pd.DataFrame) -> str:
    """Return a line on the warnings of the runs of which a table was made; empty if it has none."""
    found = kinds_of(table.get("warnings", ()))
    return f"<br>⚠ some runs have warnings: {found}" if found else ""


def _called(runs: Sequence[Run]) -> dict[int, str]:
    """Return what warnings call each run, by its identity."""
    if any(run.has_cohorts for run in runs):
        return {id(run): run.scenario.name for run in runs}
    return {id(named.run): named.name for named in labelled(runs)}


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
    """Return a duration in a suitable unit, such as ``1.5 ms`` or ``35 min``.

    Examples
    --------
    >>> duration(0.0015), duration(185), duration(2100), duration(36000)
    ('1.5 ms', '185 s', '35 min', '10 h')
    """
    if not np.isfinite(seconds):
        return "n/a"
    for unit, least_s, factor in (("h", 10_800.0, 3600.0), ("min", 600.0, 60.0)):
        if seconds >= least_s:
            return f"{float(f'{seconds / factor:.{digits}g}'):.10g} {unit}"
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
    if high > np.log10(_LONG_S):  # minutes and hours have no powers of ten
        ticks = [tick for tick in ticks if tick < 60.0]
        ticks += [tick for tick in _LONG_TICKS_S[len(steps)] if low <= np.log10(tick) <= high]
    return {
        "type": "log",
        "range": rounded([low, high]),
        "tickvals": ticks,
        "ticktext": [_tick(tick) for tick in ticks],
    }


_LONG_S = 600.0
_LONG_TICKS_S = {
    1: (60.0, 600.0, 3600.0, 36_000.0, 360_000.0, 3_600_000.0),
    3: (*(60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0), *(7200.0, 18_000.0, 36_000.0, 86_400.0)),
}


def _tick(seconds: float) -> str:
    for unit, factor in (("h", 3600.0), ("min", 60.0)):
        if seconds >= factor and seconds % factor == 0.0:
            return f"{seconds / factor:g} {unit}"
    return duration(seconds)


_TIME_UNITS = (("s", 1.0, 180.0), ("min", 60.0, 3.0 * 3600.0), ("h", 3600.0, 4.0 * 86400.0))
_TIME_STEPS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 240, 480, 720, 1440)


def time_axis(end_s: float, words: str = "time", *, ticks: int = 6) -> dict[str, Any]:
    """Return an axis of times in the unit that suits them; its values stay seconds.

    Parameters
    ----------
    end_s : float
        The last time that it shows, seconds.
    words : str, optional
        What times they are.
    ticks : int, optional
        At most so many steps.

    Examples
    --------
    >>> axis = time_axis(600.0)
    >>> axis["title"]["text"], axis["tickvals"], axis["ticktext"]
    ('time (min)', [0.0, 120.0, 240.0, 360.0, 480.0, 600.0], ['0', '2', '4', '6', '8', '10'])
    """
    unit, factor = next(
        ((unit, factor) for unit, factor, most in _TIME_UNITS if end_s <= most), ("days", 86400.0)
    )
    length = end_s / factor
    scale = 1.0
    while length * scale < ticks:  # less than a unit a tick
        scale *= 10.0
    steps = [*_TIME_STEPS, *(1440 * 2**power for power in range(1, 20))]
    step = next((step for step in steps if length * scale / step <= ticks), steps[-1]) / scale
    marks = [mark * step for mark in range(int(length / step + 1e-9) + 1)]
    return {
        "title": {"text": f"{words} ({unit})"},
        "tickvals": rounded(np.array(marks) * factor, digits=TIME_DIGITS),
        "ticktext": [f"{float(f'{mark:.6g}'):,.10g}" for mark in marks],
    }


def mark_on_log_axis(
    figure: go.Figure, value: float, text: str, *, dash: str = "dash", y: float = 0.02
) -> None:
    """Mark a value of a logarithmic x axis by a grey line, with a text at a height from 0 to 1."""
    line = {"color": THEORY, "dash": dash, "width": 1.5}
    figure.add_vline(x=float(f"{value:.4g}"), line=line)
    figure.add_annotation(
        text=text,
        x=float(f"{np.log10(value):.4g}"),
        yref="paper",
        y=y,
        xanchor="left",
        xshift=4,
        showarrow=False,
        font={"color": THEORY},
    )


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
    about: str = "",
    height: int = 470,
    panels: bool = False,
) -> go.Figure:
    """Give a figure the common layout: the finding as title, its source, axis titles, a legend.

    The title stands below the tool bar and the legend below the axis. Both have the place that they
    take on a narrow page, so that they overlap nothing there.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
        With its traces.
    title, x, y : str
        The finding, and the titles of the axes; an empty one is left as it is.
    whence : sequence of Run, optional
        The runs that are drawn: the subtitle says where the title's numbers are from, and gives the
        runs' warnings in red.
    about : str, optional
        What the subtitle says in place of that.
    height : int, optional
        Of a figure whose title, subtitle and legend have one line each, pixels.
    panels : bool, optional
        Whether titles of panels stand below the subtitle.
    """
    title = wrap(title, _TITLE_CHARACTERS)
    if not about and whence:
        about = origin([named.run for named in firsts(whence)])
    small = about.split("<br>")
    small += [f"⚠ {line}" for line in warned(whence)]
    lines = [wrap(text, _SMALL_CHARACTERS) for text in small if text]
    marked = [
        f'<span style="color:{WARNING}">{line}</span>' if line.startswith("⚠") else line
        for line in lines
    ]
    more_px = title.count("<br>") * _LINE_PX
    more_px += max(0, "<br>".join(lines).count("<br>")) * _SMALL_LINE_PX
    entries = sum(bool(trace.name) and trace.showlegend is not False for trace in figure.data)
    legend_px = _LEGEND_PX * min(max(entries - 1, 0), 6)
    above_px, below_px = (135 if panels else 95), 110
    plot_px = height - above_px - below_px
    top, bottom = above_px + more_px + _TOOL_BAR_PX, below_px + legend_px
    height = plot_px + top + bottom
    head: dict[str, Any] = {"text": title, "font": {"size": _TITLE_PX}}
    head |= {"x": 0.02, "xanchor": "left", "yanchor": "top", "yref": "container"}
    head["y"] = rounded([1.0 - (32 + _TOOL_BAR_PX) / height])[0]
    if lines:
        head["subtitle"] = {
            "text": "<br>".join(marked),
            "font": {"size": _SMALL_PX, "color": THEORY},
        }
    figure.update_layout(
        template="plotly_white",
        title=head,
        font={"size": 13},
        margin={"l": 70, "r": 30, "t": top, "b": bottom},
        height=height,
        legend={
            "orientation": "h",
            "xanchor": "left",
            "x": 0.0,
            "yanchor": "top",
            "y": rounded([-65 / plot_px])[0],
        },
        showlegend=True,
        barmode="group",
    )
    if x:
        figure.update_xaxes(title_text=x)
    if y:
        figure.update_yaxes(title_text=wrap(y, _AXIS_CHARACTERS), automargin=True)
    return figure
