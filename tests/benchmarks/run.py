"""How fast the engines are, and how much memory a client takes.

``python tests/benchmarks/run.py [REPEATS]`` runs three workloads: pollers (30 s, 12 changes
a minute), push (the same changes, a heartbeat every 30 s) and a storm (everybody connects at once,
the server turns most of them away, they come back with full jitter). Where SimPy can, both engines
run the same scenario in turn, each in a fresh process, `REPEATS` times (5 by default); beyond, the
compiled engine alone, a million clients for a whole hour. Medians go to
``data/measured/engines.json``.

Then come other engines on two workloads that they can state, see `peers`.

An event is what the compiled engine counts: a session's start or end, an alarm, an arrival at the
server or at a client. SimPy handles the same events and is charged for the same number. Time is
the processor's, without imports and compilation; memory is the growth of the
process's peak beyond what it holds when a run begins.
"""

from __future__ import annotations

import ctypes
import gc
import json
import math
import platform
import statistics
import subprocess
import sys
import time
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

from tqdm import tqdm

import simlib as sl
from simlib.engines.compiled import variants
from simlib.scenario import Workload, compile_workload, new_record

ROOT = Path(__file__).parents[2]
TOGETHER = (100, 1_000, 10_000, 100_000)
ALONE = (1_000_000, 10_000_000)
HORIZON_S = {100: 3600.0, 1_000: 600.0, 10_000: 300.0, 100_000: 60.0, 10_000_000: 90.0}
WORKLOADS = ("pollers", "push", "storm")


def horizon_s(workload: str, clients: int) -> float:
    """How long is simulated: a million clients for an hour, or until their storm has passed."""
    if clients == 1_000_000:
        return 300.0 if workload == "storm" else 3600.0
    return 10.0 if workload == "storm" and clients > 10_000 else HORIZON_S[clients]


def scenario(workload: str, clients: int, lasts_s: float | None = None) -> sl.Scenario:
    """One workload; the server is the faster the more clients there are, so that it keeps up."""
    job_s = 10.0 / clients / 100.0
    board = sl.Scenario(
        clients=clients,
        ramp_s=0.0 if workload == "storm" else 30.0,
        horizon_s=horizon_s(workload, clients) if lasts_s is None else lasts_s,
        updates={"rate_per_s": 0.2},
        server={
            **dict.fromkeys(("poll_s", "handshake_s", "authenticate_s"), job_s),
            **dict.fromkeys(("accept_s", "heartbeat_s", "send_s"), job_s / 100.0),
            "max_connections": 100_000_000,
        },
    )
    if workload == "pollers":
        return board
    push = board.replace(transport="websocket")
    if workload == "push":
        return push
    # The doors are as wide as lets everybody in after about 200 s.
    doors = {"server.handshake_s": 200.0 / clients, "server.backlog": 100_000_000}
    rush = {"server.shed_wait_s": 4.0, "heartbeat.direction": "none"}
    return push.replace({**doors, **rush})


def engine(name: str, workload: Workload, record: Any) -> Any:
    """An engine's simulation."""
    if name == "simpy":
        from simlib.engines import reference

        return reference.Simulation(workload, record)
    from simlib.engines.compiled import simulation

    return simulation.Simulation(workload, record)


def peak_bytes() -> int:
    """The process's peak resident size so far."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def forget_peak() -> None:
    """Give back what is free, and let the process's peak begin anew from what it holds now."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def warm_up(name: str, case: sl.Scenario) -> None:
    """Simulate a little of a case, in the copy of the loop that the whole of it goes to."""
    from_clients = 0 if case.clients >= variants.FROM_CLIENTS else math.inf
    small = case.replace(clients=10, ramp_s=0.0, horizon_s=5.0)
    with mock.patch.object(variants, "FROM_CLIENTS", from_clients):
        arrays = compile_workload(small, 1, 0)
        simulation = engine(name, arrays, new_record(small, arrays))
        simulation.run_until(5.0)
        simulation.finish()


def one(workload: str, name: str, clients: int) -> dict[str, float]:
    """Simulate once in this process: events, processor seconds, bytes a client."""
    case = scenario(workload, clients)
    warm_up(name, case)
    forget_peak()
    before_bytes = peak_bytes()
    arrays = compile_workload(case, 1, 0)
    simulation = engine(name, arrays, new_record(case, arrays))
    start_s = time.process_time()
    simulation.run_until(case.horizon_s)
    cpu_s = time.process_time() - start_s
    simulation.finish()
    grown_bytes = peak_bytes() - before_bytes
    events = 0
    if name == "compiled":
        # A folded attempt counts as the events that it is for SimPy.
        events = simulation.events + import_module("scale").FOLDED * simulation.folded
    return {"events": events, "cpu_s": cpu_s, "bytes_per_client": grown_bytes / clients}


def main(repeats: int) -> dict[str, object]:
    """Run every case in turn and return the medians."""
    cases = [(w, e, n) for w in WORKLOADS for n in TOGETHER for e in ("simpy", "compiled")]
    cases += [(w, "compiled", n) for w in WORKLOADS for n in ALONE]
    results: dict[tuple[str, str, int], list[dict[str, float]]] = {case: [] for case in cases}
    for case in tqdm([case for _ in range(repeats) for case in cases], desc="benchmark"):
        command = [sys.executable, __file__, "--one", case[0], case[1], str(case[2])]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results[case].append(json.loads(out))
    rows = []
    for (workload, name, clients), runs in results.items():
        events = results[workload, "compiled", clients][0]["events"]
        cpu_s = [run["cpu_s"] for run in runs]
        row: dict[str, object] = {
            "workload": workload,
            "engine": name,
            "clients": clients,
            "horizon_s": horizon_s(workload, clients),
            "events": int(events),
            "cpu_s": round(statistics.median(cpu_s), 4),
            "ns_per_event": round(statistics.median(cpu_s) / events * 1e9, 1),
            "bytes_per_client": round(statistics.median(run["bytes_per_client"] for run in runs)),
        }
        if name == "simpy":
            compiled = results[workload, "compiled", clients]
            ratios = [a["cpu_s"] / b["cpu_s"] for a, b in zip(runs, compiled, strict=True)]
            row["simpy_to_compiled"] = round(statistics.median(ratios), 1)
            row["simpy_to_compiled_range"] = [round(min(ratios), 1), round(max(ratios), 1)]
        rows.append(row)
    return {
        "machine": {"cores": len(processors()), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("simlib", "simpy", "numba", "numpy")},
        "repeats": repeats,
        "rows": rows,
        "peers": import_module("peers").peers(repeats),  # the file beside this one
    }


def processors() -> list[int]:
    """The processors that this process may use."""
    import psutil

    return list(psutil.Process().cpu_affinity() or [])


if __name__ == "__main__":
    if "--one" in sys.argv:
        sys.stdout.write(json.dumps(one(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
    else:
        table = main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
        text = json.dumps(table, indent=2)
        (ROOT / "data/measured/engines.json").write_text(text + "\n", encoding="utf-8")
        sys.stdout.write(text + "\n")
