"""Clients that read slowly on a real server: what each policy costs, predicted and measured.

``python tests/benchmarks/slow_readers.py [REPEATS]`` runs 100 clients of whom some take 10 kB/s
of the 80 kB/s that are published, under each policy, `REPEATS` times (5 by default, a replication
each), predicts every run by simulation with the same draws, and writes
``data/measured/slow_readers.csv``: a row per policy, replication and source.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from tqdm import tqdm

import simlib as sl
from simlib import outages

ROOT = Path(__file__).parents[2]
BOARD = sl.Scenario(
    transport="websocket",
    clients=100,
    ramp_s=1.0,
    horizon_s=24.0,
    warm_up_s=2.0,
    updates={"rate_per_s": 20.0, "delta_bytes": 4000},
    heartbeat={"interval_s": 20.0, "timeout_s": 20.0},
    reconnect={"policy": "full_jitter", "base_s": 1.0, "cap_s": 5.0},
    faults=[
        {
            "kind": "bandwidth",
            "start_s": 4.0,
            "length_s": 16.0,
            "share": 0.05,
            "bytes_per_s": 10_000.0,
        }
    ],
)
POLICIES = {
    "unbounded": None,
    "block": 65_536,
    "close": 65_536,
    "drop_oldest": 65_536,
    "coalesce": None,
}


def main(repeats: int) -> None:
    """Measure all policies, write the table, and show it."""
    tables = []
    for policy, buffer_bytes in POLICIES.items():
        scenario = BOARD.replace(
            {"server.slow_consumers": policy, "server.buffer_bytes": buffer_bytes}
        )
        for replication in tqdm(range(repeats), desc=policy):
            keep = ("deliveries",)
            live = sl.measure(scenario, replication=replication, keep=keep, progress=False)
            run = sl.simulate(live.scenario, replication=replication, keep=keep, progress=False)
            table = outages.slow_consumers(live, run)
            table["other_cores"] = live.provenance["cpu"]["other_cores"]
            tables.append(table)
    table = pd.concat(tables, ignore_index=True)
    path = ROOT / "data/measured/slow_readers.csv"
    table.to_csv(path, index=False, float_format="%.6g")
    sys.stdout.write(table.to_string(index=False) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
