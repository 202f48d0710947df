"""Clients that read slowly on a real server: what each policy costs, predicted and measured.

``python tests/benchmarks/slow_readers.py [REPEATS] [POLICY ...]`` runs 100 clients of whom some
take 10 kB/s of the 80 kB/s that are published, under each policy (or those named), `REPEATS` times
(5 by default, a replication each), predicts every run by simulation with the same draws, and writes
``data/measured/slow_readers.csv``: a row per policy, replication and source. ``nobody slow`` is the
same path with bandwidth for all.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from tqdm import tqdm

import simlib as sl
from simlib.analysis import outages

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
    "nobody slow": None,
}


def scenario_of(policy: str) -> sl.Scenario:
    """The board under a policy."""
    if policy == "nobody slow":
        return BOARD.replace({"faults": [{**BOARD.faults[0].model_dump(), "bytes_per_s": 1e9}]})
    changes = {"server.slow_consumers": policy, "server.buffer_bytes": POLICIES[policy]}
    return BOARD.replace(changes)


def main(repeats: int, policies: list[str]) -> None:
    """Measure policies, put them into the table, and show it."""
    path = ROOT / "data/measured/slow_readers.csv"
    before = pd.read_csv(path)
    tables = [before[~before["policy"].isin(policies)]]
    for policy in policies:
        scenario = scenario_of(policy)
        for replication in tqdm(range(repeats), desc=policy):
            keep = ("deliveries",)
            live = sl.measure(scenario, replication=replication, keep=keep, progress=False)
            run = sl.simulate(live.scenario, replication=replication, keep=keep, progress=False)
            table = outages.slow_consumers(live, run).assign(policy=policy)
            tables.append(table.assign(other_cores=live.provenance["cpu"]["other_cores"]))
    table = pd.concat(tables, ignore_index=True)
    order = list(POLICIES)
    table = table.sort_values("policy", key=lambda names: names.map(order.index), kind="stable")
    table.to_csv(path, index=False, float_format="%.6g")
    sys.stdout.write(table.to_string(index=False) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5, sys.argv[2:] or list(POLICIES))
