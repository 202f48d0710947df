"""An explorer in a page: its HTML, and the scripts that all explorers of a page share."""

from __future__ import annotations

import base64
import html
import itertools
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import plotly.graph_objects as go

from simlib.core.measures import MEASURES
from simlib.engines.compiled import loop
from simlib.engines.compiled.variants import GENERAL
from simlib.engines.wasm.image import STACK_END, Image, words_of_array
from simlib.engines.wasm.kernels import SAMPLES, TALLIED
from simlib.engines.wasm.modules import module_of
from simlib.engines.wasm.object_file import without_notes
from simlib.figures import style
from simlib.run import Run, sentences
from simlib.scenario import Scenario
from simlib.web import warned
from simlib.web.laid_out import (
    EDGES_S,
    MARKS,
    NUMBERS,
    SCHEDULE,
    SPANS_S,
    SUMS,
    WARNED,
    Bytes,
    LaidOut,
    laid_out,
)
from simlib.web.packed import packed
from simlib.web.shown import (
    MARK,
    Column,
    cells_of,
    columns_of,
    head_of,
    label_of,
    line_of,
    names_of,
    ran,
)
from simlib.web.sliders import Slider
from simlib.web.specs import Spec

STYLE = """
.explorer { border: 1px solid var(--line, #dfe5eb); border-radius: 8px; padding: 1rem; }
.explorer .sliders { display: grid; gap: .4rem 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); }
.explorer .slider { display: grid; grid-template-columns: 1fr auto; font-size: .9rem; }
.explorer input, .explorer select { grid-column: 1 / -1; width: 100%; min-height: 1.8rem; }
.explorer output { font-variant-numeric: tabular-nums; font-weight: 600; }
.explorer .state { display: flex; flex-wrap: wrap; gap: .8rem; align-items: center;
  min-height: 2.6rem; font-size: .85rem; color: var(--soft, #5b6b7b); }
.explorer .said { margin: 0; flex: 1; }
.explorer progress, .explorer .stop { visibility: hidden; }
.explorer.busy progress, .explorer.busy .stop { visibility: visible; }
.explorer table { width: 100%; }
.explorer .warned { list-style: none; margin: .6rem 0; padding: 0; }
.explorer .warned li { margin: .4rem 0; padding: .4rem .6rem; border-left: 4px solid #d55e00;
  background: #fff4ec; color: #222; max-width: 60em; }
@media (max-width: 30rem) {
  .explorer { padding: .6rem; }
  .explorer th, .explorer td { padding: .3rem .2rem; font-size: .8rem; }
}
.explorer .caveat { font-size: .85rem; color: var(--soft, #5b6b7b); }
.explorer .figures { display: grid; gap: 0 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }
@media print { .explorer .state, .explorer input, .explorer select { display: none; } }
"""
_LOST = (
    "This part simulates by itself, in a browser with JavaScript and WebAssembly. It did not start "
    "here."
)
_CAVEAT = "Not checked here, but by a run's <code>warnings</code> in Python: {}."
_READ = {
    "histogram": "record.histogram",
    "sums": SUMS,
    "spans": SPANS_S,
    "numbers": NUMBERS,
    "schedule": SCHEDULE,
    "edges": EDGES_S,
    "warned": WARNED,
}
_NOT_CLEARED = ("q.pool", "q.heap", "arrays.beats.flying.pool", "arrays.beats.flying.heap")
"""What is never read before it is written to."""
_LATENCIES_S = (1e-3, 1e3)


def explorer_html(spec: Spec, name: str) -> str:
    """Return an explorer as a part of a page, which needs `script` too.

    Parameters
    ----------
    spec : Spec
    name : str
        Its ``id`` in the page.
    """
    words = module_of(GENERAL).words
    laid = [laid_out(each, spec.sliders, spec.seed, words, spec.plan) for each in spec.scenarios]
    runs = [ran(each, spec.seed, spec.plan, engine="compiled") for each in spec.scenarios]
    warns = [warned.warned(each, spec.sliders, spec.plan) for each in spec.scenarios]
    names, left_out = names_of(spec, runs), list(dict.fromkeys(k for _, ks in warns for k in ks))
    shown = _shown(spec, columns_of(runs)) | {"laid": [_as_json(each) for each in laid]}
    shown["warned"] = [
        {"name": name, "kinds": warned.as_json(kinds)}
        for name, (kinds, _) in zip(names, warns, strict=True)
    ]
    data = packed(json.dumps(shown, separators=(",", ":")).encode())
    sliders = "".join(
        _slider_html(slider, f"{name}-{place}", spec.scenarios[0])
        for place, slider in enumerate(spec.sliders)
    )
    figures = "".join(
        f'<div data-explored="{which}" role="group" aria-label="not yet drawn"></div>'
        for which in ("latency", "over_time")
    )
    return (
        f"<style>{STYLE}</style>"
        f'<section class="explorer" id="{name}" aria-label="Explorer: simulates as you move">'
        f'<div class="sliders">{sliders}</div>'
        f'<div class="state"><p class="said" role="status">{_LOST}</p>'
        '<progress value="0" aria-label="simulated so far">'
        '</progress><button type="button" class="stop">Stop</button>'
        '<button type="button" class="again">As at first</button></div>'
        f"{_table_html(spec, runs)}{_warned_html(names, runs, left_out)}"
        f'<p class="caveat">{_CAVEAT.format(", ".join(left_out))}</p>'
        f'<div class="figures">{figures}</div>'
        f'<script type="text/plain">{data}</script></section>'
    )


@cache
def script() -> str:
    """Return the script of explorers: the module, and what runs it."""
    worker = _source("machine") + _source("worker")
    sources = {
        "module": packed(without_notes(module_of(GENERAL).code)),
        "worker": packed(worker.encode()),
    }
    # No "<" may stand in a script's text: "</script>" and "<!--" would end or hide the rest.
    given = json.dumps(sources).replace("<", "\\u003c")
    shown = _source("unpack") + _source("view")
    return f'"use strict";{{\nconst SOURCES = {given};\n{shown}}}\n'


def _source(name: str) -> str:
    """Return a script without what is there for its readers: indents, comments."""
    text = (files("simlib.web") / f"{name}.js").read_text(encoding="utf-8")
    text = text.replace('"use strict";\n', "", 1)
    lines = (line.strip() for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines if line and not line.startswith("//"))


def _table_html(spec: Spec, runs: Sequence[Run]) -> str:
    """Return the table that `view.js` fills anew, as Python fills it."""
    heads = "".join(f"<th scope='col'>{html.escape(each.head)}</th>" for each in columns_of(runs))
    rows = "".join(
        f"<tr><th scope='row'>{html.escape(head)}</th>"
        f"{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for head, cells in cells_of(spec, runs).items()
    )
    return f"<table><thead><tr><td></td>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _warned_html(names: Sequence[str], runs: Sequence[Run], left_out: Sequence[str]) -> str:
    """Return the warnings of runs, but for the kinds that a page does not check."""
    said = "".join(
        f"<li>{html.escape(f'⚠ {name}: {warning}')}</li>"
        for name, run in zip(names, runs, strict=True)
        for warning in run.warnings
        if warning.kind not in left_out
    )
    return f'<ul class="warned" aria-live="polite" aria-label="Warnings">{said}</ul>'


def _slider_html(slider: Slider, name: str, scenario: Scenario) -> str:
    label = html.escape(label_of(slider.path, scenario))
    start = html.escape(slider.texts[slider.start])
    head = f'<label for="{name}">{label}</label><output for="{name}">{start}</output>'
    if slider.is_range:
        moved = (
            f'<input type="range" id="{name}" data-slider min="0" step="1" disabled '
            f'max="{len(slider.values) - 1}" value="{slider.start}">'
        )
    else:
        options = "".join(
            f'<option value="{place}"{" selected" * (place == slider.start)}>{html.escape(text)}'
            "</option>"
            for place, text in enumerate(slider.texts)
        )
        moved = f'<select id="{name}" data-slider disabled>{options}</select>'
    return f'<div class="slider">{head}{moved}</div>'


def _shown(spec: Spec, named: Sequence[Column]) -> dict[str, Any]:
    """Return what the page shows of a run, and how: for `view.js`."""
    names = {*spec.shown, spec.over_time, "latency_p50_s"}
    over_time = line_of(spec.over_time)
    return {
        "sliders": [{"texts": each.texts, "start": each.start} for each in spec.sliders],
        "tallied": TALLIED,
        "samples": SAMPLES,
        "numbers": sentences.NUMBERS,
        "measures": {
            name: {key: getattr(MEASURES[name], key) for key in _OF_A_MEASURE} for name in names
        },
        "lines": [
            {"name": name, "text": head_of(name), "factor": line_of(name).factor}
            for name in spec.shown
        ],
        "runs": [
            {
                "name": each.called,
                "binS": each.run.scenario.bin_s,
                "measures": [name for name in names if each.transport in MEASURES[name].transports],
                "line": {"line": each.line, "name": each.name, **each.curve},
            }
            for each in named
        ],
        "figures": {
            "latency": {
                "first": _LATENCIES_S[0],
                "last": _LATENCIES_S[1],
                "layout": _layout(
                    len(named), "publish to apply (s, log scale)", "seen (%)", log=True
                ),
            },
            "over_time": {
                "name": spec.over_time,
                "factor": over_time.factor,
                "words": head_of(spec.over_time),
                "isLevel": MEASURES[spec.over_time].worse == "neither",
                "mark": MARK,
                "layout": _layout(len(named), "time (s)", over_time.name, log=False),
            },
        },
        "config": {"displaylogo": False, "responsive": True},
    }


_OF_A_MEASURE = ("name", "numerator", "denominator", "per", "sample")


def _layout(lines: int, x: str, y: str, *, log: bool) -> dict[str, Any]:
    figure = go.Figure([go.Scatter(name=str(number)) for number in range(lines)])
    style.layout(figure, "\N{NO-BREAK SPACE}<br>\N{NO-BREAK SPACE}", x, y, height=400)
    figure.update_yaxes(rangemode="tozero")
    if log:
        figure.update_xaxes(type="log")
        figure.update_yaxes(range=[0, 101])
    found: dict[str, Any] = json.loads(figure.to_json())["layout"]
    found["transition"] = {"duration": 0}
    return found


def _as_json(laid: LaidOut) -> dict[str, Any]:
    """Return what `machine.js` is told of a run's memory."""
    image = laid.image
    places, state = image.places, image.places["arrays.state"]
    fields: Any = state.dtype.fields
    arrays = {name: [places[where].address, _items(image, where)] for name, where in _READ.items()}
    arrays["events"] = [state.address + int(fields["events"][1]), 1]
    return {
        "states": {
            "finished": loop.FINISHED,
            "needs_room": loop.NEEDS_ROOM,
            "must_not_fold": loop.MUST_NOT_FOLD,
        },
        "end": image.end,
        "stack_end": STACK_END,
        "block": image.block,
        "words": image.words,
        "steps": image.steps,
        "most_steps": image.most_steps,
        "may_fold": state.address + int(fields["may_fold"][1]),
        "segments": [[at, _text(content)] for at, content in image.segments],
        "cleared": _cleared(image),
        "arrays": arrays,
        "cohorts": places["record.histogram"].shape[0],
        "tallied": [
            word for name in (SUMS, SPANS_S, EDGES_S) for word in words_of_array(places[name])
        ],
        "noted": [word for name in (WARNED, MARKS) for word in words_of_array(places[name])],
        "groups": [
            {"sliders": group.sliders, "changes": [_pieces(each) for each in group.changes]}
            for group in laid.groups
        ],
    }


def _items(image: Image, where: str) -> int:
    items = 1
    for length in image.places[where].shape:
        items *= length
    return items


def _cleared(image: Image) -> list[tuple[int, int]]:
    """Return the parts of the memory that are 0 before a run begins: address and length."""
    starts = [*sorted(place.address for place in image.places.values()), image.end]
    kept = {image.places[name].address for name in _NOT_CLEARED}
    parts: list[tuple[int, int]] = []
    for start, after in itertools.pairwise(starts):
        if start in kept:
            continue
        begun = parts.pop()[0] if parts and sum(parts[-1]) == start else start
        parts.append((begun, after - begun))
    return [(at, n) for at, n in parts if n]


def _pieces(changes: Bytes) -> list[tuple[int, str]]:
    return [(at, _text(content)) for at, content in sorted(changes.items())]


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
