"""What heartbeats cost: this build beside another one.

``python tests/benchmarks/beats.py OTHER [REPEATS]`` runs push at a million clients for an hour,
with heartbeats of the server and of the clients, by the build in the folder ``OTHER`` and by this
one in turn, each in a fresh process, `REPEATS` times (5 by default). It prints the processor's
seconds of both, without imports and compilation, and the median of the pairs' ratios; both builds
have to come to the same counts and busy seconds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
DIRECTIONS = ("server", "client")


def one(direction: str, clients: int, horizon_s: float) -> dict[str, float]:
    """Simulate once in this process: processor seconds, and sums that builds agree in."""
    import run as bench  # the file beside this one; of the folder in hand, as is simlib

    from simlib.scenario import compile_workload, new_record

    case = bench.scenario("push", clients).replace(
        {"horizon_s": horizon_s, "heartbeat.direction": direction}
    )
    workload = compile_workload(case, 1, 0)
    record = new_record(case, workload)
    simulation = bench.engine("compiled", workload, record)
    simulation.prepare()
    start_s = time.process_time()
    simulation.run_until(horizon_s)
    cpu_s = time.process_time() - start_s
    simulation.finish()
    counts, busy_s = int(record.bins.sum()), float(record.busy_s.sum())
    return {"cpu_s": cpu_s, "counts": counts, "busy_s": busy_s}


def in_folder(folder: Path, *arguments: str) -> dict[str, float]:
    """What `one` finds with the build in a folder."""
    paths = os.pathsep.join((str(folder), str(folder / "tests" / "benchmarks")))
    done = subprocess.run(
        [sys.executable, __file__, "--one", *arguments],
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"},
    )
    return json.loads(done.stdout)


def main(other: Path, repeats: int, clients: int = 1_000_000, horizon_s: float = 3600.0) -> None:
    """Run every pair and print what came of it."""
    for direction in DIRECTIONS:
        arguments = direction, str(clients), str(horizon_s)
        pairs = []
        for _ in range(repeats):
            old, new = (in_folder(folder, *arguments) for folder in (other, ROOT))
            assert (old["counts"], old["busy_s"]) == (new["counts"], new["busy_s"])
            pairs.append((old["cpu_s"], new["cpu_s"]))
        ratio = statistics.median(old / new for old, new in pairs)
        olds, news = zip(*pairs, strict=True)
        print(
            f"{direction}: {statistics.median(olds):.2f} s and {statistics.median(news):.2f} s, "
            f"{ratio:.1f} times faster ({min(news):.2f} to {max(news):.2f} s)"
        )


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        print(json.dumps(one(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))))
    else:
        main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5)
