"""How long a move of an explorer's slider takes in a page, from the wish to the drawn figures.

``python tests/benchmarks/sliders.py [MOVES]`` renders a page with an explorer for each number of
clients and opens it from its file in headless Chromium, without a network; it moves the slider
`MOVES` times (20 by default), waits for each to be drawn, and writes to
``data/measured/sliders.csv``: the board, the clients, medians and 95 % quantiles in milliseconds;
the time from opening the page until the first picture; the events of a move; and the bytes that the
explorer adds to its page. Boards are polled, pushed to, and both beside each other.
"""

from __future__ import annotations

import asyncio
import csv
import sys
import tempfile
from pathlib import Path

import nbformat
import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[2]))

import simlib as sl
from simlib.publish.frame import explorer_js
from simlib.publish.render import render
from simlib.web.page import explorer_html
from tests.devtools import Browser

ROOT = Path(__file__).parents[2]
CLIENTS = (1_000, 10_000, 50_000)
BOARD = sl.Scenario.example("matters").replace({"horizon_s": 600.0, "warm_up_s": 60.0})
PUSHED = BOARD.replace(transport="websocket")
BOARDS = {"polled": [BOARD], "pushed": [PUSHED], "both": [BOARD, PUSHED]}
SLIDERS = {
    "polled": {"polling.interval_s": (10.0, 60.0)},
    "pushed": {"updates.rate_per_s": (0.05, 0.2)},
    "both": {"polling.interval_s": (10.0, 60.0)},
}
BOX = "document.querySelector('.explorer')"
MOVE = f"""(async () => {{
  const box = {BOX}, input = box.querySelector("[data-slider]");
  const before = box.dataset.drawn, start = performance.now();
  input.value = POSITION;
  input.dispatchEvent(new Event("input"));
  while (box.dataset.drawn === before) await new Promise(requestAnimationFrame);
  return performance.now() - start;
}})()"""


def page_of(folder: Path, board: str, clients: int) -> tuple[Path, int]:
    """Render a page of an explorer alone, and return it and how many bytes the explorer has."""
    # The server bears it: a queue that grows is another board.
    server = {"server.workers": max(1, clients // 2_000), "clients": clients}
    boards = [each.replace(server) for each in BOARDS[board]]
    shown = sl.web.explorer(boards, SLIDERS[board])
    output = nbformat.v4.new_output("execute_result", shown._repr_mimebundle_())
    cell = nbformat.v4.new_code_cell("sl.web.explorer(...)", outputs=[output])
    path = folder / f"{board}_{clients}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    added = len(explorer_js().encode()) + len(explorer_html(shown.spec, "one").encode())
    return render(path, folder), added


async def measured(browser: Browser, page: Path, moves: int) -> dict[str, float]:
    """Open a page, move its slider, and return how long that took."""
    tab = await browser.look_at(page.as_uri())
    await tab.until(f"{BOX}?.dataset.drawn === '1'")
    first_ms = await tab.value("performance.now()")
    took_ms = []
    positions = await tab.value(f"Number({BOX}.querySelector('[data-slider]').max) + 1")
    for move in range(moves):
        position = (5 * move + 1) % positions
        took_ms.append(await tab.value(MOVE.replace("POSITION", str(position))))
    events = await tab.value(f"{BOX}.querySelector('.said').textContent")
    assert not tab.failures, tab.failures
    median, high = np.quantile(took_ms, [0.5, 0.95])
    return {
        "p50_ms": round(float(median), 1),
        "p95_ms": round(float(high), 1),
        "first_ms": round(first_ms),
        "events": int(events.partition(" events")[0].replace(",", "")),
    }


async def every(moves: int) -> list[dict[str, object]]:
    """Measure every board with every number of clients."""
    cases = [(board, clients) for board in BOARDS for clients in CLIENTS]
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for board, clients in tqdm(cases, desc="sliders"):
            page, added = page_of(Path(folder), board, clients)
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
                async with Browser.started(profile) as browser:
                    found = await measured(browser, page, moves)
            rows.append({"board": board, "clients": clients, **found, "added_bytes": added})
    return rows


def main(moves: int) -> None:
    """Measure, and write a row for each."""
    rows = asyncio.run(every(moves))
    with (ROOT / "data/measured/sliders.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
