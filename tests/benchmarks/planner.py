"""How long the lab's planner takes for one move: until the figure follows, and until the verdict.

By hand, on a quiet machine, with compiled loops::

    python -m tests.benchmarks.planner [CLIENTS ...]

It measures both in the kernel, where nobody draws, and in JupyterLab in headless Chromium, from
the key that moves a slider to the frame in which the figure is drawn anew; and writes
``data/measured/planner.csv``, a row for each way, candidate and number of clients. Each move is to
a setting that was not met before, of the round trip, so that the runs of today and the candidate
are simulated anew. The first move, which loads code, is left out. What is drawn first is today's
alone where the candidate's run takes longer.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import numpy as np
import pandas as pd
from tqdm import tqdm

import simlib as sl
from simlib.lab import panels
from simlib.lab.answers import Answers
from tests.lab.jupyter import Page, browser, jupyter_lab, run_all

ROOT = Path(__file__).parents[2]
MOVES = 24
CLIENTS = [1000, 10_000]
CANDIDATES = ["push_fallback", "notify"]
LIMIT_S = 120.0
NEEDS = {"latency_p95_s": 5.0, "utilisation": 0.7, "back_s": 60.0}
SOURCE = """
import simlib as sl
board = sl.Scenario.example("matters").replace(
    {{"clients": {clients}, "server.max_connections": 100_000}})
shown = sl.lab.planner(board, sl.Needs(**{needs}), candidate="{candidate}")
shown
"""


class Took(NamedTuple):
    """How long one move took, seconds: until something, both in calm, and all was drawn."""

    first: float
    figure: float
    verdict: float


def in_kernel(clients: int, candidate: str) -> list[Took]:
    """Measure moves without a widget."""
    board = sl.Scenario.example("matters").replace(
        {"clients": clients, "server.max_connections": 100_000}
    )
    answers = Answers(sl.Needs(**NEEDS), 1)
    figure = panels.empty()
    found = []
    for move in range(MOVES + 1):
        moved = board.replace({"network.rtt_s": 0.02 + 0.005 * move})
        began_s = time.perf_counter()
        drawn_s = []
        for answer in answers.of(moved, candidate):
            panels.redraw(figure, panels.move_of(answer.drawn, is_late=answer.is_late))
            drawn_s.append(time.perf_counter() - began_s)
            if answer.decision is not None:
                answer.decision._repr_html_()
        found.append(Took(drawn_s[0], drawn_s[-2], time.perf_counter() - began_s))
    return found[1:]


_HANDLES = "document.querySelectorAll('.widget-vbox .noUi-handle')"
_POLLS, _ROUND_TRIP = 1, 3
_WATCH = f"""(() => {{
    const plot = document.querySelector('.widget-vbox .js-plotly-plot');
    window.moved = {{drawn: [], at: 0, done: 0}};
    plot.on('plotly_afterplot', () =>
        requestAnimationFrame(() => window.moved.drawn.push(performance.now())));
    {_HANDLES}.forEach(one => one.addEventListener('keydown', () => {{
        window.moved = {{drawn: [], at: performance.now(), done: 0}};
    }}, true));
    const said = [...document.querySelectorAll('.widget-html-content')];
    new MutationObserver(() => {{
        const isBusy = said.some(one => one.textContent.includes('simulating ...'));
        if (!isBusy && window.moved.drawn.length) window.moved.done = performance.now();
    }}).observe(plot.closest('.jp-OutputArea-output'), {{subtree: true, childList: true}});
    return 0;
}})()"""


def in_browser(page: Page) -> list[Took]:
    """Measure moves of the planner that a page shows, from the key to what is drawn."""
    page.wait("document.body.textContent.includes('At a glance')", LIMIT_S)
    page.js(_WATCH)
    _press(page, _ROUND_TRIP, "Home", 36)
    found = []
    keys = ("ArrowRight", 39), ("ArrowLeft", 37)
    turn = 0
    while len(found) <= MOVES:
        before = page.js(f"{_HANDLES}[{_ROUND_TRIP}].getAttribute('aria-valuetext')")
        took = _press(page, _ROUND_TRIP, *keys[turn % 2])
        if page.js(f"{_HANDLES}[{_ROUND_TRIP}].getAttribute('aria-valuetext')") == before:
            turn += 1  # at the end of the slider: on with another interval, and back
            took = _press(page, _POLLS, "ArrowRight", 39)
        assert took is not None
        found.append(took)
    return found[1:]


def _press(page: Page, handle: int, key: str, code: int) -> Took | None:
    """Press a key on a slider; return how long its answer took, None if nothing moved."""
    page.js(f"{_HANDLES}[{handle}].focus()")
    page.press(key, code)
    until_s = time.monotonic() + LIMIT_S
    began_s = time.monotonic()
    while time.monotonic() < until_s:
        moved: dict[str, Any] = page.js("window.moved")
        if moved["done"] and len(moved["drawn"]) >= 2:
            drawn = moved["drawn"]
            times = drawn[0], drawn[-2], max(moved["done"], drawn[-1])
            return Took(*((each - moved["at"]) / 1e3 for each in times))
        if not moved["drawn"] and time.monotonic() - began_s > 5.0:
            return None
        time.sleep(0.02)
    raise TimeoutError(page.text()[-2000:])


def browsed(clients: int, candidate: str) -> list[Took]:
    """Open JupyterLab with a planner, and measure its moves."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folders = [Path(name) / part for part in ("lab", "home", "profile")]
        for each in folders:
            each.mkdir()
        source = SOURCE.format(clients=clients, needs=NEEDS, candidate=candidate).strip()
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        nbformat.write(notebook, folders[0] / "planner.ipynb")
        with (
            jupyter_lab(folders[0], folders[1]) as address,
            browser(folders[2], address.format("planner.ipynb")) as page,
        ):
            run_all(page, LIMIT_S)
            return in_browser(page)


def main(sizes: list[int]) -> None:
    """Measure, write the table, and show it."""
    rows = []
    cases = [(candidate, clients) for candidate in CANDIDATES for clients in sizes]
    for candidate, clients in tqdm(cases, unit="planner"):
        for way, measured in (("kernel", in_kernel), ("browser", browsed)):
            found = 1e3 * np.array(measured(clients, candidate))
            quantiles = {
                f"{name}_p{percent}_ms": np.percentile(found[:, place], percent)
                for place, name in enumerate(Took._fields)
                for percent in (50, 95)
            }
            shared = {"way": way, "candidate": candidate, "clients": clients}
            rows.append({**shared, **quantiles, "moves": len(found)})
    table = pd.DataFrame(rows)
    table.to_csv(ROOT / "data/measured/planner.csv", index=False, float_format="%.3g")
    sys.stdout.write(table.round(0).to_string(index=False) + "\n")


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]] or CLIENTS)
