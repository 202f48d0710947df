"""How fast the SimPy engine is, and how much memory a client takes.

``python tests/benchmarks/run.py [REPEATS]`` simulates the board of matters (10 changes a minute)
for ten minutes at 1,000 and 10,000 clients on both transports, `REPEATS` times in turn (5 by
default), each in a fresh process, and writes medians to ``data/measured/engines.json``. An event
is an entry taken from SimPy's queue; time is the processor's; memory is the growth of the
process's peak resident size.
"""

from __future__ import annotations

import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

import simlib as sl

ROOT = Path(__file__).parents[2]
SIZES = (1_000, 10_000)
TRANSPORTS = ("polling", "websocket")


def one(transport: str, clients: int) -> dict[str, float]:
    """Simulate once in this process: events, processor seconds, bytes a client."""
    from simlib.engines.simpy_engine import Simulation
    from simlib.scenario import compile_workload, new_record

    board = sl.Scenario.load(ROOT / "data/scenarios/matters.toml")
    board = board.replace(transport=transport, clients=clients)
    before_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    start_s = time.process_time()
    workload = compile_workload(board, 1, 0)
    record = new_record(board, workload)
    simulation = Simulation(workload, record)
    simulation.run_until(board.horizon_s)
    cpu_s = time.process_time() - start_s
    events = next(simulation.clock._eid) - len(simulation.clock._queue)
    after_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "events": events,
        "cpu_s": cpu_s,
        "bytes_per_client": (after_bytes - before_bytes) / clients,
    }


def main(repeats: int) -> dict[str, object]:
    """Run every case in turn and return the medians."""
    cases = [(transport, clients) for transport in TRANSPORTS for clients in SIZES]
    results: dict[tuple[str, int], list[dict[str, float]]] = {case: [] for case in cases}
    for case in tqdm([case for _ in range(repeats) for case in cases], desc="benchmark"):
        command = [sys.executable, __file__, "--one", case[0], str(case[1])]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results[case].append(json.loads(out))
    rows = []
    for (transport, clients), runs in results.items():
        ns = [run["cpu_s"] / run["events"] * 1e9 for run in runs]
        rows.append(
            {
                "engine": "simpy",
                "transport": transport,
                "clients": clients,
                "events": runs[0]["events"],
                "events_per_s": round(1e9 / statistics.median(ns)),
                "ns_per_event": round(statistics.median(ns)),
                "bytes_per_client": round(
                    statistics.median(run["bytes_per_client"] for run in runs)
                ),
            }
        )
    ratios = {}
    for transport in TRANSPORTS:
        small, large = (row["ns_per_event"] for row in rows if row["transport"] == transport)
        ratios[transport] = round(large / small, 3)
    return {
        "machine": {"cores": len(processors()), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("simlib", "simpy", "numpy")},
        "repeats": repeats,
        "rows": rows,
        "ns_per_event_10000_to_1000": ratios,
    }


def processors() -> list[int]:
    """The processors that this process may use."""
    import psutil

    return list(psutil.Process().cpu_affinity() or [])


if __name__ == "__main__":
    if "--one" in sys.argv:
        sys.stdout.write(json.dumps(one(sys.argv[2], int(sys.argv[3]))))
    else:
        table = main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
        text = json.dumps(table, indent=2)
        (ROOT / "data/measured/engines.json").write_text(text + "\n", encoding="utf-8")
        sys.stdout.write(text + "\n")
