"""How soon the first result is there after an install, and what compiling takes.

``python tests/benchmarks/first_result.py [REPEATS]`` measures, `REPEATS` times (1 by default), each
time with an empty cache and in fresh processes, and writes medians to
``data/measured/first_result.csv``:

- how long each copy of the loop is compiled, alone on the machine;
- `python -m simlib.engines.warm`, which compiles all of them, and once more when all is kept; then
  the first run on the compiled engine, in a process that has imported simlib;
- the README's first example and its second run, from an empty cache, while the engine is compiled
  beside it, and from a full one: seconds since the process began.
"""

from __future__ import annotations

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).parents[2]
COPY = """
import json, sys, time
from simlib.engines import warm
import simlib.engines.compiled.simulation
start_s, cpu_s = time.perf_counter(), time.process_time()
warm.compile_copies(copy for copy in warm.COPIES if copy.label == sys.argv[1])
print(json.dumps([time.perf_counter() - start_s, time.process_time() - cpu_s]))
"""
FIRST = """
import json, time
import simlib as sl
board = sl.Scenario(updates={"rate_per_s": 0.1}, clients=1, horizon_s=1, ramp_s=0)
start_s, cpu_s = time.perf_counter(), time.process_time()
sl.simulate(board, engine="compiled")
print(json.dumps([time.perf_counter() - start_s, time.process_time() - cpu_s]))
"""
EXAMPLE = """
import json, os, sys, time
import psutil
begun_s = psutil.Process().create_time()
import simlib as sl
def since():
    return time.time() - begun_s, time.process_time()
found = {}
board = sl.Scenario.example("matters")
polled = sl.simulate(board)
pushed = sl.simulate(board.replace(transport="websocket"))
sl.summary(polled, pushed)
found["first example"] = since()
before = since()
again = sl.simulate(board.replace({"clients": 2_000}))
found["a run of 2,000 clients after it"] = [b - a for a, b in zip(before, since())]
found["its engine"] = again.provenance["engine"]
print(json.dumps(found))
from simlib.engines import warm
limit_s = time.time() + 900.0
while sys.argv[1] == "wait" and warm.missing([warm.GENERAL]) and time.time() < limit_s:
    time.sleep(1.0)
print(json.dumps({"compiled beside it by": [time.time() - begun_s, 0.0]}))
"""


def in_a_process(cache: str, *arguments: str) -> tuple[list[str], float, float]:
    """The lines that a program prints, and its seconds: by the clock, of processors."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache, "PYTHONPATH": str(ROOT)}
    for name in (
        "CI",
        "PYTHONDONTWRITEBYTECODE",
    ):  # without bytecode every start is a second longer
        environment.pop(name, None)
    before, start_s = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    after, took_s = os.times(), time.perf_counter() - start_s
    cpu_s = after.children_user + after.children_system
    cpu_s -= before.children_user + before.children_system
    return done.stdout.splitlines(), took_s, cpu_s


def once() -> dict[str, tuple[float, float, str]]:
    """Measure everything once: seconds by the clock, of processors, and by which engine."""
    found = {}
    for label in ("general", "pushes", "polls"):
        with tempfile.TemporaryDirectory() as cache:
            lines, _, _ = in_a_process(cache, "-c", COPY, label)
            found[f"compile {label}"] = (*json.loads(lines[0]), "compiled")
    with tempfile.TemporaryDirectory() as cache:
        for state in ("nothing", "everything"):
            _, *took_s = in_a_process(cache, "-m", "simlib.engines.warm")
            found[f"warm, {state} kept"] = (*took_s, "compiled")
        lines, _, _ = in_a_process(cache, "-c", FIRST)
        found["first run, everything kept"] = (*json.loads(lines[0]), "compiled")
    with tempfile.TemporaryDirectory() as cache:
        for state, wait in (("nothing", "wait"), ("the general copy", "")):
            lines, _, _ = in_a_process(cache, "-c", EXAMPLE, wait)
            figures = json.loads(lines[0])
            engine = figures.pop("its engine")
            figures |= json.loads(lines[1]) if wait else {}
            for name, took_s in figures.items():
                found[f"{name}, {state} kept"] = (*took_s, engine if "2,000" in name else "")
        _forget_the_rest(cache)
    return found


def _forget_the_rest(cache: str) -> None:
    """End what is still compiled beside the example: by the lock, nothing else writes there."""
    import psutil

    for process in psutil.process_iter(["cmdline", "environ"]):
        own = (process.info["environ"] or {}).get("NUMBA_CACHE_DIR") == cache
        if own and "--ahead" in (process.info["cmdline"] or []):
            process.kill()
            process.wait(10.0)


def main(repeats: int) -> None:
    """Measure a few times and write the medians."""
    every = [once() for _ in tqdm(range(repeats), desc="benchmark")]
    with (ROOT / "data/measured/first_result.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["what", "seconds", "processor_s", "engine"])
        for name in every[0]:
            by_clock, of_processors = (
                round(statistics.median(found[name][which] for found in every), 2)
                for which in (0, 1)
            )
            table.writerow([name, by_clock, of_processors, every[0][name][2]])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
