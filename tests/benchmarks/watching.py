"""Does watching disturb what is measured? The same live run alone, watched, and on a screen.

``python -m tests.benchmarks.watching [REPEATS]`` measures one scenario `REPEATS` times (8 by
default) in each of three ways, in turn, each time on another seed, which all three have: alone;
watched by `sl.lab.watch`, whose widget nobody draws; and watched in a real JupyterLab in headless
Chromium, which draws it with the processors of this machine. It takes some 30 s a run, wants a
quiet machine, and writes ``data/measured/watching.csv``: a row per way and quantity, with the
median, and the mean of what is added to the run alone, with its interval of 95 % over the seeds.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import pandas as pd
from tqdm import tqdm

import simlib as sl
from simlib.theory import mean_interval
from tests.lab.jupyter import Page, browser, jupyter_lab, run_all

ROOT = Path(__file__).parents[2]
LIMIT_S = 300.0
BOARD = sl.Scenario(
    transport="websocket",
    clients=100,
    horizon_s=20.0,
    ramp_s=2.0,
    warm_up_s=2.0,
    cool_down_s=0.0,
    bin_s=0.5,
    updates={"rate_per_s": 5.0},
)
Found = dict[str, float]


def figures_of(run: sl.Run, own_s: float, wall_s: float) -> Found:
    """Return what is compared of a run; `own_s` is the processor time of who started it."""
    median_s, p95_s = run.latency_quantiles([0.5, 0.95])
    cpu = run.provenance["cpu"]
    return {
        "latency_p50_ms": 1e3 * float(median_s),
        "latency_p95_ms": 1e3 * float(p95_s),
        "server_cores": cpu["server_cores"],
        "client_cores": cpu["client_cores"],
        "own_cores": own_s / wall_s,
        "other_cores": cpu["other_cores"],
        "warnings": float(len(run.warnings)),
    }


def alone(seed: int) -> Found:
    """Measure without a watcher."""
    began_s, busy_s = time.monotonic(), time.process_time()
    run = sl.measure(BOARD, seed=seed, progress=False)
    return figures_of(run, time.process_time() - busy_s, time.monotonic() - began_s)


def watched(seed: int) -> Found:
    """Measure with the live view, as far as it goes without a browser."""
    began_s, busy_s = time.monotonic(), time.process_time()
    shown = sl.lab.watch(BOARD, seed=seed, replications=2)
    while shown.run is None and shown.error is None:
        time.sleep(0.02)
    own_s, wall_s = time.process_time() - busy_s, time.monotonic() - began_s
    shown.wait()
    if shown.error is not None:
        raise shown.error
    found = figures_of(shown.run, own_s, wall_s)
    shown.close()
    return found


class Kept:
    """In a notebook: shows the live view, and writes its figures when the run is over."""

    def __init__(self, seed: int) -> None:
        import threading

        self.path = Path(f"{seed}.json")
        self.began_s, self.busy_s = time.monotonic(), time.process_time()
        self.shown = sl.lab.watch(BOARD, seed=seed, replications=2)
        threading.Thread(target=self._write, daemon=True).start()

    def _write(self) -> None:
        while self.shown.run is None and self.shown.error is None:
            time.sleep(0.02)
        own_s, wall_s = time.process_time() - self.busy_s, time.monotonic() - self.began_s
        self.shown.wait()
        found: Found = {"frames": float(self.shown.frames)}
        if self.shown.run is not None:
            found |= figures_of(self.shown.run, own_s, wall_s)
        written = self.path.with_suffix(".new")
        written.write_text(json.dumps(found))
        written.rename(self.path)


def on_a_screen(page: Page, folder: Path) -> Callable[[int], Found]:
    """Return what measures with the live view in JupyterLab, in Chromium."""

    def measured(seed: int) -> Found:
        (folder / "seed.json").write_text(json.dumps(seed))
        run_all(page)
        path = folder / f"{seed}.json"
        until_s = time.monotonic() + LIMIT_S
        while not path.exists():
            if time.monotonic() > until_s:
                raise TimeoutError(page.text())
            time.sleep(0.5)
        found: Found = json.loads(path.read_text())
        frames = found.pop("frames")
        if frames < 5.0 * BOARD.horizon_s:
            raise RuntimeError(f"only {frames:g} frames were drawn")
        return found

    return measured


SOURCE = """
import json
from tests.benchmarks.watching import Kept
kept = Kept(json.load(open("seed.json")))
kept.shown
"""


def compared(found: dict[str, list[Found]]) -> pd.DataFrame:
    """Return the table that is written."""
    of = {way: pd.DataFrame(rows) for way, rows in found.items()}
    rows = []
    for way, table in of.items():
        for name in table.columns:
            added, low, high = mean_interval((table[name] - of["alone"][name]).to_numpy())
            shown = {"added": added, "added_low": low, "added_high": high}
            rows.append(
                {
                    "way": way,
                    "quantity": name,
                    "median": table[name].median(),
                    "least": table[name].min(),
                    "most": table[name].max(),
                    **(shown if way != "alone" else dict.fromkeys(shown)),
                    "repeats": len(table),
                }
            )
    return pd.DataFrame(rows)


def main(repeats: int) -> None:
    """Measure everything, write the table, and show it."""
    with contextlib.ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        folders = [Path(name) / part for part in ("lab", "home", "profile")]
        for each in folders:
            each.mkdir()
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SOURCE.strip())])
        nbformat.write(notebook, folders[0] / "live.ipynb")
        address = stack.enter_context(jupyter_lab(folders[0], folders[1]))
        page = stack.enter_context(browser(folders[2], address.format("live.ipynb")))
        ways = {"alone": alone, "watched": watched, "screen": on_a_screen(page, folders[0])}
        found: dict[str, list[Found]] = {way: [] for way in ways}
        for seed in tqdm(range(1, repeats + 1), unit="seed"):
            turned = list(ways) if seed % 2 else list(ways)[::-1]
            for way in turned:
                found[way].append(ways[way](seed))
    table = compared(found)
    path = ROOT / "data/measured/watching.csv"
    table.to_csv(path, index=False, float_format="%.4g")
    sys.stdout.write(table.to_string(index=False) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
