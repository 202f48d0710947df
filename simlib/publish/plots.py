"""Figures in pages: what draws one, what it says in words, and the table behind it.

A stored figure becomes a box with a text alternative, beside it its JSON, from which ``site.js``
draws it and makes its table. What needs to be known of a figure for either is found out here:
names of series, what the columns of its table are called, and in which unit its values are.

The picture of a notebook on a card is its first figure that is still readable when it is small,
drawn by plotly as well. A static picture would take a browser where the pages are made, or a
second program that draws plotly's traces: it would have to be as right as the first.
"""

from __future__ import annotations

import copy
import html
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from simlib.publish.notebook import FIGURE_CONFIG, PLOTLY_MIME, decoded

if TYPE_CHECKING:
    from nbformat import NotebookNode

_SECONDS = {"µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_TICK = re.compile(r"([\d,.]+)(?:\s*(\w+))?")
_MOST_NAMED = 8
_SMALL_PLOT_PX, _SMALL_ROW_PX, _SMALL_LINE_PX, _SMALL_PX = 190, 15, 22, 11
_MOST_ENTRIES = 6
_MOST_ROWS = 20
"""Lines of names along the y axis that a card has room for, at most."""
_MOST_HIGH_PX = 700


def plain(text: Any) -> str:
    """Return plotly's text in one line, without its marks.

    Examples
    --------
    >>> plain("<b>latency</b><br>(s)")
    'latency (s)'
    """
    return " ".join(re.sub(r"<[^>]*>", " ", str(text or "")).split())


def figure_html(name: str, figure: dict[str, Any], file: str) -> str:
    """Return the HTML of a figure, its text alternative, and the place of its tools.

    Parameters
    ----------
    name : str
        Its identity in the page.
    figure : dict
        Plotly's JSON.
    file : str
        What the file of its table is called.

    Returns
    -------
    str
    """
    tools = f'<p class="tools" data-of="{name}" data-file="{html.escape(file)}"></p>'
    return f"<figure>{_box(name, figure, FIGURE_CONFIG, says(figure))}{tools}</figure>"


def picture_html(name: str, figure: dict[str, Any]) -> str:
    """Return the HTML of a figure made small for a card, with its title below."""
    caption = html.escape(plain(_title(figure)[0]))
    box = _box(name, _small(figure), {**FIGURE_CONFIG, "staticPlot": True}, says(figure))
    return f'<figure class="picture">{box}<figcaption>{caption}</figcaption></figure>'


def first_good(notebook: NotebookNode) -> dict[str, Any] | None:
    """Return the first figure of a notebook that can be read when it is small.

    That is one with a single panel and of ordinary height; if there is none, the first one of all
    that has not more names along its y axis than a card has lines for.

    Parameters
    ----------
    notebook : NotebookNode
        An executed notebook.

    Returns
    -------
    dict or None
        Plotly's JSON; None if the notebook has no such figure.
    """
    found = [one for one in figures_of(notebook) if _rows(one) <= _MOST_ROWS]
    good = (one for one in found if _is_readable_small(one))
    return next(good, found[0] if found else None)


def figures_of(notebook: NotebookNode) -> Iterator[dict[str, Any]]:
    """Yield the stored figures of a notebook."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            figure = output.get("data", {}).get(PLOTLY_MIME)
            if figure is not None:
                yield figure


def says(figure: dict[str, Any]) -> str:
    """Return what a figure shows, in words: its title, its series and its axes.

    Examples
    --------
    >>> says(
    ...     {
    ...         "data": [{"type": "bar", "name": "polled", "y": [1]}],
    ...         "layout": {"title": {"text": "Bytes"}, "yaxis": {"title": {"text": "kB"}}},
    ...     }
    ... )
    'Bytes. Bars: polled. Up: kB.'
    """
    layout = figure.get("layout", {})
    sentences = list(_title(figure)) or ["A figure without a title"]
    kinds: dict[str, list[str]] = {}
    for trace, name in zip(figure.get("data", []), _names(figure), strict=True):
        if name not in kinds.setdefault(_kind(trace), []):
            kinds[_kind(trace)].append(name)
    for kind, names in kinds.items():
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        sentences.append(f"{kind}: {'; '.join(names[:_MOST_NAMED])}{more}")
    panels = _panels(figure)
    if len(panels) > 1:
        sentences.append(f"Panels: {'; '.join(dict.fromkeys(panels.values()))}")
    for letter, words in (("x", "Across"), ("y", "Up")):
        titles = dict.fromkeys(plain(_text(axis.get("title"))) for axis in _axes(layout, letter))
        if any(titles) and (len(panels) < 2 or not set(titles) <= set(panels.values())):
            sentences.append(f"{words}: {'; '.join(filter(None, titles))}")
    return " ".join(one if one.endswith(("?", "!", ".")) else f"{one}." for one in sentences)


def _box(name: str, figure: dict[str, Any], config: dict[str, Any], words: str) -> str:
    drawn = {
        "data": _readable(figure.get("data", [])),
        "layout": _readable(figure.get("layout", {})),
        "frames": _readable(figure.get("frames", [])),
        "config": config,
    }
    stored = {"figure": drawn, "traces": _traces(figure), "columns": _columns(figure)}
    # No "<" may stand in a script's text: "</script>" and "<!--" would end or hide the rest.
    text = json.dumps(stored, separators=(",", ":")).replace("<", "\\u003c")
    height = drawn["layout"].get("height", 450)
    alternative = html.escape(words)
    return (
        f'<div class="figure" id="{name}" role="img" aria-label="{alternative}" '
        f'data-says="{alternative}" style="min-height:{height}px">'
        f'<p class="missing"><b>Figure:</b> {alternative}<br>'
        "It is drawn by JavaScript, which did not run here: open this page in a browser.</p></div>"
        f'<script type="application/json" data-figure="{name}">{text}</script>'
    )


def _readable(value: Any) -> Any:
    """Return plotly's JSON with arrays as lists, which its binary form also stands for."""
    if isinstance(value, dict):
        if {"dtype", "bdata"} <= value.keys():
            return _readable(_shaped(decoded(value), str(value.get("shape", ""))))
        return {name: _readable(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_readable(one) for one in value]
    # JSON has no other word for a value that is not there.
    return None if isinstance(value, float) and value != value else value


def _shaped(flat: list[Any], shape: str) -> list[Any]:
    """Return the rows of what plotly has stored row by row, with their numbers as a text."""
    width = int(shape.split(",")[1]) if "," in shape else 0
    return [flat[at : at + width] for at in range(0, len(flat), width)] if width else flat


def _text(title: Any) -> str:
    return title if isinstance(title, str) else (title or {}).get("text") or ""


def _title(figure: dict[str, Any]) -> tuple[str, ...]:
    """Return the title and the subtitle of a figure, as far as it has them."""
    title = figure.get("layout", {}).get("title") or {}
    subtitle = "" if isinstance(title, str) else _text(title.get("subtitle"))
    return tuple(filter(None, map(plain, (_text(title), subtitle))))


def _kind(trace: dict[str, Any]) -> str:
    if trace.get("type", "scatter") != "scatter":
        return {"bar": "Bars"}.get(trace["type"], str(trace["type"]).capitalize())
    if trace.get("fill"):
        return "Shaded areas"
    mode = trace.get("mode", "lines")
    return "Lines" if "lines" in mode else "Points"


def _names(figure: dict[str, Any]) -> list[str]:
    """Return a name for each trace: its own, its group's, or what it seems to belong to."""
    traces = figure.get("data", [])
    found = []
    for place, trace in enumerate(traces):
        name = plain(trace.get("name") or trace.get("legendgroup"))
        after = traces[place + 1] if place + 1 < len(traces) else {}
        if not name and trace.get("fill") and after.get("name"):
            name = f"shaded area of {plain(after['name'])}"
        found.append(name or f"series {place + 1}")
    return found


# -- panels and axes --------------------------------------------------------------------------


def _axes(layout: dict[str, Any], letter: str) -> list[dict[str, Any]]:
    return [layout[name] for name in layout if re.fullmatch(rf"{letter}axis\d*", name)]


def _axis_of(trace: dict[str, Any], layout: dict[str, Any], letter: str) -> dict[str, Any]:
    name = trace.get(f"{letter}axis") or letter
    axis: dict[str, Any] = layout.get(f"{letter}axis{name[1:]}") or {}
    return axis


def _panels(figure: dict[str, Any]) -> dict[str, str]:
    """Return what each panel is called, by its x axis: by the title above it or along an axis."""
    layout = figure.get("layout", {})
    of: dict[str, dict[str, Any]] = {}
    for trace in figure.get("data", []):
        of.setdefault(trace.get("xaxis") or "x", trace)
    above = [
        plain(note.get("text"))
        for note in layout.get("annotations", [])
        if note.get("xref") == note.get("yref") == "paper"
    ]
    if len(above) == len(of):
        return dict(zip(of, above, strict=True))
    for letter in "xy":
        titles = [_axis_of(trace, layout, letter).get("title") for trace in of.values()]
        names = [plain(_text(title)) for title in titles]
        if all(names) and len(set(names)) == len(of):
            return dict(zip(of, names, strict=True))
    return {name: f"panel {place}" for place, name in enumerate(of, start=1)}


def _traces(figure: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the name of each trace, its panel, and how values along its axes are read."""
    layout, panels = figure.get("layout", {}), _panels(figure)
    return [
        {
            "name": name,
            "panel": panels[trace.get("xaxis") or "x"] if len(panels) > 1 else None,
            "axes": {c: _reading(_axis_of(trace, layout, c))[1] for c in "xy"},
        }
        for trace, name in zip(figure.get("data", []), _names(figure), strict=True)
    ]


def _columns(figure: dict[str, Any]) -> dict[str, str]:
    """Return what the columns of a figure's table are called: as the axes are, if all agree."""
    layout, traces = figure.get("layout", {}), figure.get("data", [])
    found = {}
    for letter in "xy":
        axes = [_axis_of(trace, layout, letter) for trace in traces]
        # An axis that follows another one leaves its title to that.
        names = {_reading(axis)[0] for axis in axes if axis.get("title") or "matches" not in axis}
        name = names.pop() if len(names) == 1 else ""
        found[letter] = name or letter
    return found


def _reading(axis: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return what values along an axis are called, with their unit, and how they are read.

    Ticks may have another unit than the values: minutes, where these are seconds.
    """
    title = re.sub(r",? *log scale", "", plain(_text(axis.get("title")))).replace(" ()", "")
    ticks = list(zip(axis.get("tickvals") or (), axis.get("ticktext") or (), strict=False))
    read = [(value, _TICK.fullmatch(plain(text))) for value, text in ticks]
    if not ticks or not all(isinstance(value, int | float) for value, _ in read):
        return title, {}
    if not all(match for _, match in read):
        return title, {"labels": {f"{value:.12g}": plain(text) for value, text in ticks}}
    pairs = [(value, float(m[1].replace(",", "")), m[2]) for value, m in read if m and value]
    if pairs and all(unit in _SECONDS for *_, unit in pairs):
        return (title if "(" in title else f"{title} (s)"), {}
    factors = {f"{number / value:.6g}" for value, number, _ in pairs}
    if len(factors) == 1 and factors != {"1"}:
        value, number, _ = pairs[-1]
        return title, {"factor": number / value}
    return title, {}


# -- made small -------------------------------------------------------------------------------


def _is_readable_small(figure: dict[str, Any]) -> bool:
    layout = figure.get("layout", {})
    points = [len(_readable(trace.get("x") or trace.get("y") or [])) for trace in figure["data"]]
    return (
        len(_axes(layout, "x")) <= 1
        and bool(_title(figure))
        and layout.get("height", 450) <= _MOST_HIGH_PX
        and max(points, default=0) > 1
    )


def _small(figure: dict[str, Any]) -> dict[str, Any]:
    """Return a figure without its title, and as high as a card wants it."""
    layout = copy.deepcopy(figure.get("layout", {}))
    named = [t for t in figure["data"] if t.get("name") and t.get("showlegend") is not False]
    entries = len(named) if 1 < len(named) <= _MOST_ENTRIES else 0
    panels = _axes(layout, "x")
    plot_px = max(_SMALL_PLOT_PX * (1 + len(panels)) // 2, _SMALL_ROW_PX * _rows(figure))
    above_px = _SMALL_LINE_PX if len(panels) > 1 else 10
    below_px = 55 + _SMALL_LINE_PX * entries
    layout.pop("title", None)
    for name, axis in layout.items():
        if re.fullmatch(r"[xy]axis\d*", name):
            axis["title"] = {"text": _text(axis.get("title")), "font": {"size": _SMALL_PX}}
            if axis.get("type") == "log" and "tickvals" not in axis and name.startswith("y"):
                axis["nticks"] = 4  # by itself plotly takes what has place on a page
    layout |= {
        "height": above_px + plot_px + below_px,
        "font": {**layout.get("font", {}), "size": _SMALL_PX},
        "margin": {"l": 55, "r": 35, "t": above_px, "b": below_px},
        "showlegend": entries > 0,
        "legend": {**layout.get("legend", {}), "y": -45 / plot_px, "font": {"size": _SMALL_PX}},
    }
    return {"data": figure["data"], "layout": layout}


def _rows(figure: dict[str, Any]) -> int:
    """Return how many lines the names along the y axis take."""
    ticks = figure.get("layout", {}).get("yaxis", {}).get("ticktext") or ()
    lines = sum(1 + str(tick).count("<br>") for tick in _readable(ticks))
    names = {
        one
        for trace in figure["data"]
        for one in _readable(trace.get("y") or [])
        if isinstance(one, str)
    }
    return max(lines, len(names))
