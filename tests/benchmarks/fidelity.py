"""How far predictions are from the real server, beside how far the server is from itself.

``python tests/benchmarks/fidelity.py [RUNS]`` measures the board of matters with 200 clients on
both transports, `RUNS` times each (5 by default, one seed, so that only the machine differs),
predicts each once by simulation, and writes ``data/measured/fidelity.csv``: a row per transport
and quantity with the prediction, the runs' median and range, the median error of the prediction,
the floor (median deviation of a run from the mean of the others), the bar and the verdict.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

import simlib as sl
from simlib.live.lab import QUIET_CORES

ROOT = Path(__file__).parents[2]
BOARD = sl.Scenario.load(ROOT / "data/scenarios/matters.toml")
SECONDS = {"horizon_s": 30.0, "warm_up_s": 5.0, "cool_down_s": 1.0, "ramp_s": 4.0}
CASES = {
    "polling": (BOARD, 40.0),
    "websocket": (
        BOARD.replace({"transport": "websocket", "updates.rate_per_s": 2.0, **SECONDS}),
        1.0,
    ),
}
QUANTITIES = (
    "latency_p50_s",
    "latency_p95_s",
    "latency_p99_s",
    "up_bytes_per_h",
    "down_bytes_per_h",
)


def main(runs: int) -> pd.DataFrame:
    """Measure, predict, compare; return the table that is written."""
    rows = []
    for transport, (scenario, time_scale) in CASES.items():
        measured = [
            sl.measure(scenario, time_scale=time_scale, progress=False)
            for _ in tqdm(range(runs), desc=transport)
        ]
        predicted = sl.simulate(measured[0].scenario, progress=False)
        tables = [sl.metrics.compare(predicted, run).set_index("quantity") for run in measured]
        other_cores = max(run.provenance["cpu"]["other_cores"] for run in measured)
        for name in QUANTITIES:
            values = np.array([table.loc[name, "measured"] for table in tables], dtype=float)
            others = (values.sum() - values) / (runs - 1)
            error = float(np.median(tables[0].loc[name, "predicted"] - values))
            allowed = float(np.median([table.loc[name, "allowed"] for table in tables]))
            floor = float(np.median(np.abs(values - others)))
            verdict = ""
            if not np.isnan(allowed):
                is_within = abs(error) <= allowed
                is_quiet = other_cores < QUIET_CORES
                verdict = "within" if is_within else "outside" if is_quiet else "inconclusive"
            rows.append(
                {
                    "transport": transport,
                    "quantity": name,
                    "predicted": tables[0].loc[name, "predicted"],
                    "measured_median": np.median(values),
                    "measured_low": values.min(),
                    "measured_high": values.max(),
                    "error": error,
                    "floor": floor,
                    "allowed": allowed,
                    "verdict": verdict,
                    "runs": runs,
                    "other_cores": other_cores,
                }
            )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    table = main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
    table.to_csv(ROOT / "data/measured/fidelity.csv", index=False, float_format="%.6g")
    sys.stdout.write(table.to_string(index=False) + "\n")
