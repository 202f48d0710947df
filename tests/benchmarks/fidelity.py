"""How far predictions are from the real server, beside how far the server is from itself.

``python tests/benchmarks/fidelity.py [RUNS]`` measures the board of matters with 200 clients on
every transport, `RUNS` times each (5 by default, one seed, so that only the machine differs),
predicts each once by simulation, and writes ``data/measured/fidelity.csv``: a row per transport
and quantity with the prediction, the runs' median and range, the median error of the prediction,
the floor (median deviation of a run from the mean of the others), the bar and the verdict.

What an answer to a held request costs the lab's server varies twofold between machines, and from
the first after a pause to the next. So long polling is measured a second time with answers that
take `ANSWER_S` each (``measure(..., emulate_sends=True)``), which holds the rules alone to the bar.

The costs of the lab's server are those of one machine. How slow this one is the runs say: by the
service demand law (Denning and Buzen 1978, "The operational analysis of queueing network models"),
the mean demand of a job is the time that the server was busy, divided by its jobs. So ``demand`` is
busy time as measured over that as predicted, and ``calibrated`` is the prediction with all costs of
the server times that, with an error and a verdict of its own. It uses no measured latency.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

import simlib as sl
from simlib.live.lab import QUIET_CORES
from simlib.live.loopback import SERVICE_S

ROOT = Path(__file__).parents[2]
BOARD = sl.Scenario.load(ROOT / "data/scenarios/matters.toml")
SECONDS = {"horizon_s": 30.0, "warm_up_s": 5.0, "cool_down_s": 1.0, "ramp_s": 4.0}
TOLD_PER_S = {"websocket": 2.0, "sse": 2.0, "long_polling": 0.5, "notify": 0.5, "sse_notify": 0.5}
"""Changes a second; fewer where each makes all clients ask at once."""
ANSWER_S = 0.4e-3
TOLD = {
    transport: BOARD.replace({"transport": transport, "updates.rate_per_s": rate, **SECONDS})
    for transport, rate in TOLD_PER_S.items()
}
CASES: dict[str, tuple[sl.Scenario, dict[str, Any]]] = {
    "polling": (BOARD, {"time_scale": 40.0}),
    **{transport: (scenario, {}) for transport, scenario in TOLD.items()},
    "long_polling, 0.4 ms an answer": (
        TOLD["long_polling"].replace({"server.send_s": ANSWER_S}),
        {"emulate_sends": True},
    ),
}
"""Each scenario, and how it is measured."""
QUANTITIES = (
    "latency_p50_s",
    "latency_p95_s",
    "latency_p99_s",
    "up_bytes_per_h",
    "down_bytes_per_h",
    "payload_up_bytes_per_h",
    "payload_down_bytes_per_h",
)


def at_demand(scenario: sl.Scenario, demand: float) -> sl.Scenario:
    """Return the scenario with all costs of its server times `demand`."""
    costs = {name: getattr(scenario.server, name) * demand for name in SERVICE_S}
    return scenario.replace({f"server.{name}": cost for name, cost in costs.items()})


def utilisation(run: sl.Run) -> float:
    """Return which part of the time the server was busy."""
    return float(run.metrics().iloc[0]["utilisation"])


def compare(transport: str, measured: list[sl.Run]) -> Iterator[dict[str, Any]]:
    """Yield a row for each quantity."""
    scenario = measured[0].scenario
    predicted = sl.simulate(scenario, progress=False)
    demand = 1.0  # where sends are emulated, the busy time of processors says nothing
    if not measured[0].provenance["emulates_sends"]:
        demand = float(np.median([utilisation(run) for run in measured])) / utilisation(predicted)
    calibrated = sl.simulate(at_demand(scenario, demand), progress=False).metrics().iloc[0]
    tables = [sl.metrics.compare(predicted, run).set_index("quantity") for run in measured]
    other_cores = max(run.provenance["cpu"]["other_cores"] for run in measured)
    for name in QUANTITIES:
        values = np.array([table.loc[name, "measured"] for table in tables], dtype=float)
        others = (values.sum() - values) / (len(values) - 1)
        allowed = float(np.median([table.loc[name, "allowed"] for table in tables]))
        row = {
            "transport": transport,
            "quantity": name,
            "predicted": tables[0].loc[name, "predicted"],
            "measured_median": np.median(values),
            "measured_low": values.min(),
            "measured_high": values.max(),
            "error": float(np.median(tables[0].loc[name, "predicted"] - values)),
            "floor": float(np.median(np.abs(values - others))),
            "allowed": allowed,
        }
        row["verdict"] = _verdict(row["error"], allowed, other_cores)
        row["demand"] = demand
        row["calibrated"] = calibrated[name]
        row["calibrated_error"] = float(np.median(calibrated[name] - values))
        row["calibrated_verdict"] = _verdict(row["calibrated_error"], allowed, other_cores)
        yield {**row, "runs": len(measured), "other_cores": other_cores}


def _verdict(error: float, allowed: float, other_cores: float) -> str:
    if np.isnan(allowed):
        return ""
    if abs(error) <= allowed:
        return "within"
    return "outside" if other_cores < QUIET_CORES else "inconclusive"


def main(runs: int) -> pd.DataFrame:
    """Measure, predict, compare; return the table that is written."""
    rows: list[dict[str, Any]] = []
    for transport, (scenario, how) in CASES.items():
        measured = [
            sl.measure(scenario, progress=False, **how) for _ in tqdm(range(runs), desc=transport)
        ]
        rows += compare(transport, measured)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    table = main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
    table.to_csv(ROOT / "data/measured/fidelity.csv", index=False, float_format="%.6g")
    sys.stdout.write(table.to_string(index=False) + "\n")
