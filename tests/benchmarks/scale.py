"""How the cost of an event and the memory of a client grow with the number of clients.

``python tests/benchmarks/scale.py [WORKLOAD...] [--clients N...] [--repeats N] [--out FILE]`` runs
the compiled engine with every transport and in a storm, from a thousand clients to ten million, as
the workloads of `run` have them, and then ten million that are pushed to for an hour. A quiet
machine takes about half an hour for all, with 8 GB free. By default all goes to
``data/measured/scale.json``; parts of it go where `--out` says, or are only printed.

Every number of clients is simulated for the same time, so that the same things happen to each. Of
few clients there are so many replications that they take about as long as a million clients; each
process is fresh, and medians of `REPEATS` of them are written (5 by default; 3 from a million
clients on, 1 from ten million on). Time is the processor's, for the run only: without imports,
compilation and setting out the clients. Memory is the growth of the process's peak.

An event is one of those that single events would be: a folded attempt to connect counts as the
`FOLDED` events that it is in the general loop, to which few clients go.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from simlib.core.protocol import TRANSPORT_NAMES
from simlib.scenario import compile_workload, new_record

ROOT = Path(__file__).parents[2]
CLIENTS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
HOUR = "push_hour"
WORKLOADS = (*TRANSPORT_NAMES, "storm", HOUR)
LASTS_S = 600.0
HORIZON_S = {
    "storm": 300.0,
    HOUR: 3600.0,
    "notify": 120.0,
    "sse_notify": 120.0,
    "long_polling": 120.0,
    "sse": 300.0,
}
"""How long is simulated, if it is not `LASTS_S`."""
HOUR_CLIENTS = 10_000_000
FOLDED = 6
"""How many events more a refused attempt is in the general loop than where it is folded."""
AS_MANY_AS = 500_000
"""How many clients all replications have together, where there are several."""
MOST_REPLICATIONS = 200
MOST_FACTOR, MOST_HOUR_GB = 2.5, 6.0
MOST_BYTES = {"polling": 150, "websocket": 200, "storm": 200}
"""What the figures should be at most; of bytes a client, at a million."""

Measured = dict[str, Any]


def scenario(workload: str, clients: int, scale: float = 1.0) -> Any:
    """A workload of `run`, or its board with another transport, for a part of its time."""
    boards = import_module("run")  # the file beside this one
    horizon_s = HORIZON_S.get(workload, LASTS_S)
    if workload == "storm":
        board = boards.scenario("storm", clients, horizon_s)
    else:
        transport = "websocket" if workload == HOUR else workload
        board = boards.scenario("pollers", clients, horizon_s).replace(transport=transport)
    ramp_s, horizon_s = board.ramp_s * scale, horizon_s * scale
    return board.replace(horizon_s=horizon_s, bin_s=horizon_s / 100.0, ramp_s=ramp_s)


def one(workload: str, clients: int, scale: float) -> Measured:
    """Simulate in this process: events, processor seconds, bytes a client."""
    from simlib.engines.compiled.simulation import Simulation

    boards, case = import_module("run"), scenario(workload, clients, scale)
    boards.warm_up("compiled", case)
    before_bytes, events, cpu_s = boards.peak_bytes(), 0, 0.0
    replications = min(MOST_REPLICATIONS, max(1, int(AS_MANY_AS * scale / clients)))
    for replication in range(replications):
        arrays = compile_workload(case, 1, replication)
        simulation = Simulation(arrays, new_record(case, arrays))
        start_s = time.process_time()
        simulation.run_until(case.horizon_s)
        cpu_s += time.process_time() - start_s
        simulation.finish()
        events += simulation.events + FOLDED * simulation.folded
    peak_bytes = boards.peak_bytes()
    return {
        "replications": replications,
        "events": events,
        "cpu_s": cpu_s,
        "bytes_per_client": (peak_bytes - before_bytes) / clients,
        "peak_gb": peak_bytes / 1e9,
    }


def in_a_process(workload: str, clients: int, scale: float) -> Measured:
    """What is measured in a fresh process."""
    command = [sys.executable, __file__, "--one", workload, str(clients), str(scale)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: Measured = json.loads(done.stdout)
    return found


def row_of(workload: str, clients: int, scale: float, runs: list[Measured]) -> Measured:
    """The medians of some processes."""

    def median(name: str) -> float:
        return statistics.median(run[name] for run in runs)

    costs = [1e9 * run["cpu_s"] / run["events"] for run in runs]
    return {
        "workload": workload,
        "clients": clients,
        "horizon_s": scenario(workload, clients, scale).horizon_s,
        "processes": len(runs),
        "replications": runs[0]["replications"],
        "events": runs[0]["events"],
        "cpu_s": round(median("cpu_s"), 4),
        "ns_per_event": round(statistics.median(costs), 2),
        "ns_per_event_range": [round(min(costs), 2), round(max(costs), 2)],
        "bytes_per_client": round(median("bytes_per_client")),
        "peak_gb": round(median("peak_gb"), 3),
    }


def verdict_of(workload: str, rows: list[Measured]) -> Measured:
    """What the rows of a workload say: is it as good at any size, and small enough?"""
    if workload == HOUR:
        gb = rows[0]["peak_gb"]
        return {"cpu_s": rows[0]["cpu_s"], "peak_gb": gb, "is_small": gb < MOST_HOUR_GB}
    costs = [row["ns_per_event"] for row in rows]
    found: Measured = {
        "factor": round(max(costs) / min(costs), 2),
        "is_even": max(costs) <= MOST_FACTOR * min(costs),
    }
    million = [row["bytes_per_client"] for row in rows if row["clients"] == 1_000_000]
    if million and workload in MOST_BYTES:
        found["is_small"] = million[0] <= MOST_BYTES[workload]
    return found


def processes(clients: int, repeats: int) -> int:
    """How many processes measure one size."""
    most = 1 if clients >= 10_000_000 else 3 if clients >= 1_000_000 else repeats
    return min(most, repeats)


def table_of(runs: dict[tuple[str, int], list[Measured]], scale: float) -> Measured:
    """The rows of what has been measured so far, and what they say."""
    rows = [row_of(*case, scale, found) for case, found in runs.items() if found]
    by_workload = {row["workload"]: [] for row in rows}
    for row in rows:
        by_workload[row["workload"]].append(row)
    verdicts = {workload: verdict_of(workload, its) for workload, its in by_workload.items()}
    return {"rows": rows, "verdicts": verdicts}


def main(asked: argparse.Namespace) -> Measured:
    """Run all sizes of every workload in turn; what is measured is written down as it comes."""
    pairs = import_module("pairs")  # the file beside this one
    result = {
        "machine": pairs.machine(),
        "commit": pairs.commit_of(ROOT),
        "versions": {name: version(name) for name in ("simlib", "numba", "numpy")},
        "repeats": asked.repeats,
        "scale": asked.scale,
    }
    cases = [
        (w, n) for w in asked.workloads for n in ([HOUR_CLIENTS] if w == HOUR else asked.clients)
    ]
    runs: dict[tuple[str, int], list[Measured]] = {case: [] for case in cases}
    most = {case: processes(case[1], asked.repeats) for case in cases}
    started = [case for k in range(asked.repeats) for case in cases if k < most[case]]
    for case in (bar := tqdm(started, desc="scale")):
        bar.set_postfix_str(f"{case[0]}, {case[1]:,} clients")
        runs[case].append(in_a_process(*case, asked.scale))
        result |= table_of(runs, asked.scale)
        if asked.out is not None:
            asked.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def arguments() -> argparse.Namespace:
    """What the command line says."""
    reader = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    reader.add_argument("workloads", nargs="*", metavar="workload", help=", ".join(WORKLOADS))
    reader.add_argument("--clients", nargs="+", type=lambda text: int(float(text)), default=CLIENTS)
    reader.add_argument("--repeats", type=int, default=5)
    reader.add_argument("--scale", type=float, default=1.0, help="part of the time")
    reader.add_argument("--out", type=Path)
    asked = reader.parse_args()
    is_whole = not asked.workloads and asked.clients is CLIENTS and asked.scale == 1.0
    asked.workloads = asked.workloads or list(WORKLOADS)
    if unknown := set(asked.workloads) - set(WORKLOADS):
        reader.error(f"{', '.join(sorted(unknown))}: must be among {', '.join(WORKLOADS)}")
    if asked.out is None and is_whole:
        asked.out = ROOT / "data/measured/scale.json"
    return asked


if __name__ == "__main__":
    if "--one" in sys.argv:
        sys.stdout.write(json.dumps(one(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))))
    else:
        sys.stdout.write(json.dumps(main(arguments()), indent=2) + "\n")
