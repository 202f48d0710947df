"""How latency grows with the number of clients: real servers beside predictions.

``python tests/benchmarks/capacity.py [RUNS]`` runs 100 to 4,000 real clients against the real
server, polling and pushed to, `RUNS` times each (2 by default, a replication each), simulates the
same scenarios with the same draws, and writes ``data/measured/capacity.csv``: a row for each
transport, number of clients and quantity, with the predictions' and the measurements' means.

Polls cost what the real server takes for them. A push takes the real server less than the one
process of all clients, which would then be what is measured: sends are emulated (``measure(...,
emulate_sends=True)``), so that the server takes `SEND_S` for each.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

import simlib as sl

ROOT = Path(__file__).parents[2]
CLIENTS = (100, 500, 2000, 4000)
JOINING_PER_S = 250.0
COUNTED_S = 30.0
SEND_S = 400e-6
QUANTITIES = {
    "polling": ("latency_p50_s", "latency_p95_s", "poll_response_s", "poll_response_p95_s"),
    "websocket": ("latency_p50_s", "latency_p95_s", "latency_p99_s", "latency_max_s"),
}


def board(transport: str, clients: int) -> sl.Scenario:
    """A board on which every client is there before changes count."""
    joined_s = clients / JOINING_PER_S + 2.0
    waits_s = 12.0 if transport == "polling" else 5.0
    return sl.Scenario(
        transport=transport,
        clients=clients,
        ramp_s=clients / JOINING_PER_S,
        warm_up_s=joined_s,
        cool_down_s=waits_s,
        horizon_s=joined_s + COUNTED_S + waits_s,
        updates={"kind": "poisson", "rate_per_s": 0.2},
        polling={"interval_s": 10.0},
        heartbeat={"direction": "none"},
        server={"send_s": SEND_S},
    )


def main(runs: int) -> pd.DataFrame:
    """Measure, predict, compare; return the table that is written."""
    rows = []
    for transport, quantities in QUANTITIES.items():
        for clients in CLIENTS:
            pairs, other_cores = [], 0.0
            for replication in tqdm(range(runs), desc=f"{clients} clients, {transport}"):
                options = {"replication": replication, "progress": False}
                emulates = transport == "websocket"
                live = sl.measure(board(transport, clients), emulate_sends=emulates, **options)
                pairs.append((sl.simulate(live.scenario, **options).totals()[0], live.totals()[0]))
                other_cores = max(other_cores, live.provenance["cpu"]["other_cores"])
            for name in quantities:
                predicted, measured = np.array([[a[name], b[name]] for a, b in pairs]).T
                errors = predicted - measured
                rows.append(
                    {
                        "transport": transport,
                        "clients": clients,
                        "quantity": name,
                        "predicted": predicted.mean(),
                        "measured": measured.mean(),
                        "measured_low": measured.min(),
                        "measured_high": measured.max(),
                        "worst_error": errors[np.abs(errors).argmax()],
                        "runs": runs,
                        "other_cores": other_cores,
                    }
                )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    table = main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    table.to_csv(ROOT / "data/measured/capacity.csv", index=False, float_format="%.4g")
    sys.stdout.write(table.to_string(index=False) + "\n")
