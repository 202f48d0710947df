"""How much faster one build of simlib is than another: both run the same cases in turn.

``python tests/benchmarks/pairs.py OLD NEW [CASE ...] [--pairs N] [--scale X] [--out FILE]``

`OLD` and `NEW` are checkouts. A pair is a run of the one and then one of the other, each in a fresh
process of this file with that checkout's simlib; the next pair begins with the other one. Before
the first, a short run of each compiles what the case needs, so that all find it on disk. `--pairs`
is 5 by default; `--scale` (1) shortens what is simulated: less time, fewer fleets, fewer runs.

The gain of a case is the median of its pairs' old processor time through the new one's, without
imports, loading and setting up. `equal` says whether all runs gave the same results to the last
bit. The table is printed as JSON, and written to `--out`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from tqdm import tqdm

RECORDED = (
    *("bins", "messages", "busy_s", "latency_ticks", "latency_max_s", "wait_ticks"),
    *("wait_histogram", "histogram", "clients", "traffic", "pending"),
)
WARM_SCALE = 0.02
FLEETS = RUNS = 200
LONGER = 10
"""So many times as long as the other pushes of so many clients: a minute has few heartbeats."""

Measured = dict[str, Any]


def timed(work: Callable[[], Any]) -> tuple[Any, Measured]:
    """What something returns, and the seconds that it takes: the processors', and by the clock."""
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    result = work()
    return result, {
        "cpu_s": time.process_time() - cpu_s,
        "wall_s": time.perf_counter() - wall_s,
    }


def one_run(workload: str, clients: int, scale: float, **changes: Any) -> Measured:
    """A run of one of the workloads of `run`, from the first event to the record's last line."""
    from simlib.engines.compiled.simulation import Simulation
    from simlib.scenario import compile_workload, new_record

    case = import_module("run").scenario(workload, clients)  # the file beside this one
    horizon_s = case.horizon_s * scale
    ramp_s = min(case.ramp_s, horizon_s)
    case = case.replace({"horizon_s": horizon_s, "ramp_s": ramp_s, **changes})
    arrays = compile_workload(case, 1, 0)
    record = new_record(case, arrays)
    simulation = Simulation(arrays, record)
    simulation.prepare()

    def run() -> None:
        simulation.run_until(case.horizon_s)
        simulation.finish()

    _, took = timed(run)
    digest = hashlib.sha256()
    for name in RECORDED:
        digest.update(getattr(record, name).tobytes())
    for name in sorted({*record.connections.dtype.names} - {"node"}):  # nobody reads it of one node
        digest.update(record.connections[name].tobytes())
    return {**took, "events": simulation.events, "digest": digest.hexdigest()}


def rehearsal(scale: float) -> Measured:
    """A plan of four stages on healthy fleets of 10,000, one after the other."""
    import simlib as sl

    fleet = import_module("run").scenario("pollers", 10_000).replace(horizon_s=3600.0)
    plan = sl.Plan(
        flag={"propagation": "polled", "every_s": 60.0},
        guardrails=[{"metric": "latency_p95_s", "below": 60.0}],
    )
    options: dict[str, Any] = {"engine": "compiled", "on": "serial", "progress": False}
    sl.rehearse(plan, fleet, replications=2, seed=2, **options)
    fleets = max(2, round(FLEETS * scale))
    found, took = timed(lambda: sl.rehearse(plan, fleet, replications=fleets, **options))
    return {**took, "digest": digest_of(found.fleets)}


def sweep(scale: float) -> Measured:
    """A sweep of runs of about 50 ms, on a thread for each processor, with a store."""
    import simlib as sl

    board = sl.Scenario(
        updates={"rate_per_s": 0.1}, clients=24_000, horizon_s=600.0, server={"poll_s": 1e-6}
    )

    def swept(runs: int) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            options: dict[str, Any] = {"engine": "compiled", "on": "threads", "progress": False}
            return sl.sweep(board, [{}], replications=runs, store=folder, **options)

    swept(4)
    found, took = timed(lambda: swept(max(2, round(RUNS * scale))))
    return {**took, "digest": digest_of(found)}


def digest_of(table: Any) -> str:
    """A digest of a table's texts; a float's text says all of its bits."""
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()


CASES: dict[str, Callable[[float], Measured]] = {
    "push": lambda scale: one_run("push", 1_000_000, scale),
    "push_client_beats": lambda scale: one_run(
        "push", 1_000_000, scale, **{"heartbeat.direction": "client"}
    ),
    "push_spread": lambda scale: one_run(
        "push", 100_000, LONGER * scale, **{"network.rtt_spread": 0.3}
    ),
    "push_no_beats": lambda scale: one_run(
        "push", 1_000_000, scale, **{"heartbeat.direction": "none"}
    ),
    "storm_100k": lambda scale: one_run("storm", 100_000, scale),
    "storm_1m": lambda scale: one_run("storm", 1_000_000, scale),
    "polling": lambda scale: one_run("pollers", 1_000_000, scale),
    "rehearse": rehearsal,
    "sweep": sweep,
}
"""The cases by name. Each is given the scale."""


def in_a_process(checkout: Path, case: str, scale: float) -> Measured:
    """What a case measures in a fresh process with a checkout's simlib."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", case, str(scale)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
    )
    found: Measured = json.loads(done.stdout)
    if Path(found["package"]).parent != checkout:
        raise SystemExit(f"{checkout}: simlib was imported from {found['package']}")
    return found


def row_of(case: str, pairs: list[tuple[Measured, Measured]]) -> dict[str, object]:
    """The row of a case: medians of each build, and of the pairs' gains."""

    def gains(name: str) -> list[float]:
        return [old[name] / new[name] for old, new in pairs]

    olds, news = zip(*pairs, strict=True)
    row: dict[str, object] = {"case": case, "pairs": len(pairs)}
    for build, runs in (("old", olds), ("new", news)):
        for name in ("cpu_s", "wall_s"):
            row[f"{build}_{name}"] = round(statistics.median(run[name] for run in runs), 4)
    for name, of in (("gain", "cpu_s"), ("wall_gain", "wall_s")):
        found = gains(of)
        row[name] = round(statistics.median(found), 3)
        row[f"{name}_range"] = [round(min(found), 3), round(max(found), 3)]
    row["equal"] = len({run["digest"] for run in (*olds, *news)}) == 1
    return row


def commit_of(checkout: Path) -> str:
    """The commit of a checkout, with a mark if files differ from it; empty if it is none."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def machine() -> dict[str, object]:
    """This machine, and how busy it is."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "load_1_min": round(os.getloadavg()[0], 2),
    }


def main(
    builds: tuple[Path, Path], cases: list[str], pairs: int, scale: float
) -> dict[str, object]:
    """Run every case in turn, and return the table."""
    table: dict[str, object] = {
        "machine": machine(),
        "old": commit_of(builds[0]),
        "new": commit_of(builds[1]),
        "scale": scale,
    }
    rows = []
    for case in cases:
        for build in builds:
            in_a_process(build, case, min(scale, WARM_SCALE))
        found = []
        for number in tqdm(range(pairs), desc=case):
            order = (0, 1) if number % 2 == 0 else (1, 0)
            ran = {which: in_a_process(builds[which], case, scale) for which in order}
            found.append((ran[0], ran[1]))
        rows.append(row_of(case, found))
        print(json.dumps(rows[-1]), file=sys.stderr)
    return {**table, "rows": rows}


def arguments() -> argparse.Namespace:
    """What the command line says."""
    reader = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    reader.add_argument("old", type=lambda text: Path(text).resolve())
    reader.add_argument("new", type=lambda text: Path(text).resolve())
    reader.add_argument("cases", nargs="*", metavar="case", help=", ".join(CASES))
    reader.add_argument("--pairs", type=int, default=5)
    reader.add_argument("--scale", type=float, default=1.0)
    reader.add_argument("--out", type=Path)
    given = reader.parse_args()
    given.cases = given.cases or list(CASES)
    if unknown := set(given.cases) - CASES.keys():
        reader.error(f"{', '.join(sorted(unknown))}: must be among {', '.join(CASES)}")
    return given


if __name__ == "__main__":
    if "--one" in sys.argv:
        import simlib

        result = CASES[sys.argv[2]](float(sys.argv[3]))
        package = str(Path(simlib.__file__).parent)
        sys.stdout.write(json.dumps({**result, "package": package}))
    else:
        asked = arguments()
        result = main((asked.old, asked.new), asked.cases, asked.pairs, asked.scale)
        text = json.dumps(result, indent=2)
        if asked.out is not None:
            asked.out.write_text(text + "\n", encoding="utf-8")
        sys.stdout.write(text + "\n")
