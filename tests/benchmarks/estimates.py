"""How long runs take, beside what `sl.estimate` says of them.

``python tests/benchmarks/estimates.py [REPEATS]`` asks for an estimate of each of `CASES`, runs it,
each time in a fresh process, `REPEATS` times (3 by default), and writes medians to
``data/measured/estimates.json``. Time is the processor's, without imports and compilation.

``python tests/benchmarks/estimates.py --costs`` measures what is behind the estimates:
it runs `SAMPLES`, fits what each thing takes each loop of the engines, and prints `COSTS_S` and
`PROBE_S` for ``simlib/engines/forecast.py``.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

import simlib as sl

ROOT = Path(__file__).parents[2]
JOB_S = 0.1
"""The server is the faster the more clients there are: all of its polls take it as long."""


def board(clients: int, transport: str, horizon_s: float, **changes: Any) -> sl.Scenario:
    """A board of so many clients whose server keeps up."""
    job_s = JOB_S / clients
    server = {
        **dict.fromkeys(("poll_s", "handshake_s", "authenticate_s"), job_s),
        **dict.fromkeys(("accept_s", "heartbeat_s", "send_s"), job_s / 100.0),
        "max_connections": 100_000_000,
        "backlog": 100_000_000,
    }
    plain = sl.Scenario(
        clients=clients,
        transport=transport,
        ramp_s=min(30.0, horizon_s),
        horizon_s=horizon_s,
        updates={"rate_per_s": 0.2},
        server=server,
    )
    return plain.replace(changes)


_RUSH = {"ramp_s": 0.0, "server.shed_wait_s": 4.0, "heartbeat.direction": "none"}


def storm(clients: int, horizon_s: float) -> sl.Scenario:
    """Everybody comes at once, and is let in within 200 s."""
    doors = {"server.handshake_s": 200.0 / clients}
    return board(clients, "websocket", horizon_s, **_RUSH, **doors)


_NO_BEATS = {"heartbeat.direction": "none"}
_VISITS = {"sessions": {"arrivals_per_s": 200.0, "length_s": 300.0}}
_FEW_VISITS = {"sessions": {"arrivals_per_s": 4.0, "length_s": 60.0}}
CASES = {
    "polling 10,000": board(10_000, "polling", 7200.0),
    "polling 100,000, 3 nodes": board(100_000, "polling", 3600.0, **{"server.nodes": 3}),
    "polling 1,000,000": board(1_000_000, "polling", 900.0),
    "push 10,000, tabs come and go": board(10_000, "websocket", 3600.0, **_VISITS),
    "push 100,000, pings from clients": board(
        100_000, "websocket", 900.0, **{"heartbeat.direction": "client"}
    ),
    "push 1,000,000": board(1_000_000, "websocket", 600.0),
    "notify 50,000": board(50_000, "notify", 600.0),
    "streams 200,000": board(200_000, "sse", 300.0),
    "long polling 50,000": board(50_000, "long_polling", 600.0),
    "storm 300,000": storm(300_000, 300.0),
}
"""Transports and sizes, none of which is among `SAMPLES`."""

SAMPLES: dict[str, list[sl.Scenario]] = {
    "simpy": [
        board(600, "polling", 300.0),
        board(300, "polling", 60.0, **{"polling.interval_s": 2.0}),
        board(1500, "polling", 20.0),
        board(400, "websocket", 300.0, **_NO_BEATS),
        board(400, "websocket", 120.0, **{"heartbeat.interval_s": 5.0, "heartbeat.timeout_s": 4.0}),
        board(300, "notify", 300.0, **_NO_BEATS),
        board(300, "long_polling", 300.0),
        board(600, "polling", 300.0, drag={"every_s": 10.0, "length_s": 2.0}),
        storm(500, 100.0),
        *(board(200, kind, 300.0, **_FEW_VISITS) for kind in ("polling", "websocket")),
    ],
    "general": [
        *(board(n, "polling", 1200.0) for n in (8_000, 40_000, 90_000)),
        board(20_000, "polling", 900.0, drag={"every_s": 10.0, "length_s": 2.0}),
        *(board(n, "websocket", 600.0) for n in (8_000, 40_000, 90_000)),
        *(board(n, "websocket", 2400.0, **_NO_BEATS) for n in (20_000, 90_000)),
        board(90_000, "websocket", 60.0),
        *(board(n, "notify", 600.0, **_NO_BEATS) for n in (20_000, 100_000)),
        *(board(n, "long_polling", 600.0) for n in (20_000, 100_000)),
        *(storm(n, 300.0) for n in (20_000, 90_000)),
        board(60_000, "sse", 600.0),
        *(board(10_000, kind, 400.0, **_VISITS) for kind in ("polling", "websocket")),
    ],
    "polls": [
        *(board(n, "polling", 300.0) for n in (250_000, 2_000_000)),
        board(400_000, "polling", 1800.0),
        board(400_000, "polling", 300.0, drag={"every_s": 10.0, "length_s": 2.0}),
        board(700_000, "polling", 40.0),
        board(10_000, "polling", 1200.0, **_VISITS),
    ],
    "pushes": [
        *(board(n, "websocket", 240.0) for n in (250_000, 2_000_000)),
        *(board(n, "websocket", 900.0, **_NO_BEATS) for n in (250_000, 700_000)),
        board(400_000, "websocket", 900.0),
        board(400_000, "websocket", 300.0, drag={"every_s": 10.0, "length_s": 2.0}),
        board(700_000, "websocket", 40.0),
        *(storm(n, 300.0) for n in (220_000, 700_000)),
        *(board(10_000, "websocket", t, **_VISITS) for t in (1200.0, 2400.0)),
    ],
}
"""What the costs are fitted to, by the loop that runs it."""


def run(scenario: sl.Scenario, engine: str) -> dict[str, Any]:
    """An estimate, and the processor seconds of the run: in all, and of its loop alone."""
    from simlib.engines import _engine
    from simlib.scenario import compile_workload, new_record

    found = sl.estimate(scenario, engine=engine)
    workload = compile_workload(scenario, 1, 0)
    simulation = _engine(engine)(workload, new_record(scenario, workload))
    if engine == "compiled":
        simulation.prepare()
    start_s = time.process_time()
    simulation.run_until(scenario.horizon_s)
    loop_s = time.process_time() - start_s
    del simulation, workload
    start_s = time.process_time()
    sl.simulate(scenario, engine=engine, progress=False)
    took_s = time.process_time() - start_s
    return {"estimate_s": found.seconds, "took_s": took_s, "loop_s": loop_s}


def in_a_process(*which: str) -> dict[str, Any]:
    """What `run` returns of a case or a sample in a fresh process."""
    command = [sys.executable, __file__, "--one", *which]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main(repeats: int) -> dict[str, object]:
    """Run every case and return the table."""
    rows = []
    for name, scenario in tqdm(CASES.items(), desc="benchmark"):
        found = [in_a_process("case", name) for _ in range(repeats)]
        estimate_s, took_s = (
            statistics.median(one[key] for one in found) for key in ("estimate_s", "took_s")
        )
        rows.append(
            {
                "case": name,
                "clients": scenario.clients,
                "transport": scenario.transport,
                "horizon_s": scenario.horizon_s,
                "estimate_s": round(estimate_s, 2),
                "took_s": round(took_s, 2),
                "estimate_to_truth": round(estimate_s / took_s, 2),
            }
        )
        print(json.dumps(rows[-1]), file=sys.stderr)
    ratios = [float(str(row["estimate_to_truth"])) for row in rows]
    return {
        "machine": {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version()},
        "repeats": repeats,
        "worst_factor": max(max(ratio, 1.0 / ratio) for ratio in ratios),
        "rows": rows,
    }


def costs() -> dict[str, dict[str, float]]:
    """Fit what each thing takes each loop to the time of the samples, by relative error."""
    import numpy as np
    from scipy.optimize import nnls

    from simlib.engines.forecast import Forecast

    fitted: dict[str, dict[str, float]] = {}
    for loop, samples in SAMPLES.items():
        engine = "simpy" if loop == "simpy" else "compiled"
        counts, loop_s, around_s = [], [], []
        for number, scenario in enumerate(tqdm(samples, desc=loop)):
            forecast = Forecast(scenario, engine)
            assert forecast.loop == loop, (loop, number, forecast.loop)
            counts.append(forecast.counts(scenario.horizon_s))
            found = in_a_process("sample", loop, str(number))
            loop_s.append(found["loop_s"])
            around_s.append((found["took_s"] - found["loop_s"]) / scenario.clients)
        names = sorted({name for each in counts for name in each})
        table = np.array([[each.get(name, 0.0) for name in names] for each in counts])
        times_s = np.array(loop_s)
        found_s, _ = nnls(table / times_s[:, np.newaxis], np.ones(len(times_s)))
        errors = table @ found_s / times_s
        print(loop, "fit to truth", errors.round(2).tolist(), file=sys.stderr)
        client_s = max(0.0, statistics.median(around_s))
        fitted[loop] = {"client": client_s, **dict(zip(names, found_s.tolist(), strict=True))}
    return fitted


def probes() -> dict[str, float]:
    """What a round of each probe takes here, seconds."""
    from simlib.engines import forecast

    found = {}
    for engine in ("simpy", "compiled"):
        ratios = [forecast._slowness(engine) for _ in range(15)]
        found[engine] = statistics.median(ratios) * forecast.PROBE_S[engine]
    return found


def three(value: float) -> float:
    """A number with three digits."""
    return float(f"{value:.3g}") if math.isfinite(value) else value


if __name__ == "__main__":
    if "--one" in sys.argv:
        kind, *which = sys.argv[sys.argv.index("--one") + 1 :]
        if kind == "case":
            result = run(CASES[which[0]], "compiled")
        else:
            sample = SAMPLES[which[0]][int(which[1])]
            result = run(sample, "simpy" if which[0] == "simpy" else "compiled")
        sys.stdout.write(json.dumps(result))
    elif "--costs" in sys.argv:
        table = {
            "COSTS_S": {
                loop: {name: three(value) for name, value in of_it.items()}
                for loop, of_it in costs().items()
            },
            "PROBE_S": {engine: three(value) for engine, value in probes().items()},
        }
        sys.stdout.write(json.dumps(table, indent=4) + "\n")
    else:
        table = main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
        text = json.dumps(table, indent=2)
        (ROOT / "data/measured/estimates.json").write_text(text + "\n", encoding="utf-8")
        sys.stdout.write(text + "\n")
