"""What a sweep adds to its runs, and how much more two threads get done than one.

``python tests/benchmarks/sweep.py [REPEATS]`` measures, `REPEATS` times (5 by default), and writes
medians to ``data/measured/sweep.json``:

- seconds to import simlib, in a fresh process;
- how much more two threads get done than one, each with runs of its own;
- what `sweep` adds to 200 runs of about 50 ms on this machine's processors, with a store: its time
  over the ideal, which is the time of the same runs one after the other, without a store, through
  the number of processors. Workers have been started before.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

import simlib as sl

ROOT = Path(__file__).parents[2]
RUNS = 200
IMPORT = "import time; t = time.perf_counter(); import simlib; print(time.perf_counter() - t)"


def import_s() -> float:
    """How long a fresh process takes to import simlib, of which the bytecode is there."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", IMPORT]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=ROOT, env=environment
    )
    return float(done.stdout)


def seconds(work: Callable[[], object]) -> float:
    """How long something takes."""
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s


def once() -> dict[str, float]:
    """Measure everything once."""
    found = {"import_s": import_s()}
    board = sl.Scenario(
        updates={"rate_per_s": 0.1}, clients=24_000, horizon_s=600.0, server={"poll_s": 1e-6}
    )

    def run(replication: int) -> None:
        sl.simulate(board, replication=replication, engine="compiled", progress=False)

    run(0)
    one_s = seconds(lambda: [run(number) for number in range(20)])
    with ThreadPoolExecutor(2) as pool:
        two_s = seconds(lambda: list(pool.map(run, range(40))))
    found["two_threads_to_one"] = 2.0 * one_s / two_s

    alone_s = seconds(lambda: [run(number) for number in range(RUNS)])
    found["run_s"] = alone_s / RUNS
    ideal_s = alone_s / len(os.sched_getaffinity(0))
    for place in ("threads", "processes"):
        swept(board, place, 4)  # starts the workers
        found[f"sweep_on_{place}_overhead_frac"] = swept(board, place, RUNS) / ideal_s - 1.0
    return found


def swept(board: sl.Scenario, place: str, runs: int) -> float:
    """The seconds that a sweep takes with a store."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"replications": runs, "on": place, "store": folder, "progress": False}
        return seconds(lambda: sl.sweep(board, [{}], **options))


def main(repeats: int) -> dict[str, object]:
    """Measure a few times and return the medians."""
    all_found = [once() for _ in tqdm(range(repeats), desc="benchmark")]
    medians = {
        name: round(statistics.median(found[name] for found in all_found), 4)
        for name in all_found[0]
    }
    return {
        "machine": {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("simlib", "numba", "numpy", "joblib")},
        "repeats": repeats,
        "runs": RUNS,
        **medians,
    }


if __name__ == "__main__":
    table = main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
    text = json.dumps(table, indent=2)
    (ROOT / "data/measured/sweep.json").write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
