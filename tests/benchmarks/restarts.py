"""A real server that is killed under real clients: how far the prediction is from what happens.

``python tests/benchmarks/restarts.py [REPEATS]`` kills the server for 5 s under 500 and 2,000
connections with three client settings, `REPEATS` times each (5 by default, a replication each),
predicts every run by simulation with the same draws, and writes ``data/measured/restarts.csv``:
a row per setting and quantity with medians, the range measured, the median relative error run by
run, and the floor (median relative deviation of a measured run from the mean of the others).

Then it kills the server 20 times in one run under a steady stream of changes, with a snapshot on
every return and without, and writes ``data/measured/kills.csv``: the ledgers, measured and
predicted.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

import simlib as sl
from simlib.analysis import outages
from simlib.scenario.presets import library

ROOT = Path(__file__).parents[2]
BOARD = sl.Scenario(
    transport="websocket",
    ramp_s=4.0,
    horizon_s=32.0,
    updates={"rate_per_s": 1.0},
    websocket={"resync": "none"},
    faults=[{"kind": "restart", "start_s": 8.0, "length_s": 5.0}],
)
POLICIES = {
    "full jitter, 1 to 5 s": {"reconnect": {"policy": "full_jitter", "cap_s": 5.0}},
    "socket.io-client": {**library("socket.io-client"), "wire.envelope": "native"},
    "fixed, 1 s": {"reconnect": {"policy": "fixed"}},
}
CLIENTS = (500, 2000)
QUANTITIES = ("t50_s", "t95_s", "t100_s", "peak_per_s", "attempts", "lost")
KILLS = [{"kind": "restart", "start_s": 6.0 + 4.0 * kill, "length_s": 1.0} for kill in range(20)]


def storms(repeats: int) -> pd.DataFrame:
    """Measure and predict the storms; return the table that is written."""
    rows = []
    for policy, changes in POLICIES.items():
        for clients in CLIENTS:
            scenario = BOARD.replace({**changes, "clients": clients, "name": policy})
            measured, predicted, other_cores = [], [], 0.0
            for replication in tqdm(range(repeats), desc=f"{policy}, {clients}"):
                live = sl.measure(scenario, replication=replication, progress=False)
                other_cores = max(other_cores, live.provenance["cpu"]["other_cores"])
                run = sl.simulate(
                    live.scenario, replication=replication, engine="compiled", progress=False
                )
                measured.append(outages.reconnections(live).iloc[0])
                predicted.append(outages.reconnections(run).iloc[0])
            for name in QUANTITIES:
                ours = np.array([row[name] for row in measured], dtype=float)
                theirs = np.array([row[name] for row in predicted], dtype=float)
                others = (ours.sum() - ours) / (repeats - 1)
                rows.append(
                    {
                        "policy": policy,
                        "clients": clients,
                        "quantity": name,
                        "predicted": np.median(theirs),
                        "measured_median": np.median(ours),
                        "measured_low": ours.min(),
                        "measured_high": ours.max(),
                        "error_frac": np.median(theirs / ours - 1.0),
                        "floor_frac": np.median(np.abs(ours / others - 1.0)),
                        "repeats": repeats,
                        "other_cores": other_cores,
                    }
                )
    return pd.DataFrame(rows)


def kills(repeats: int) -> pd.DataFrame:
    """Kill the server 20 times a run; return the ledgers."""
    rows = []
    for resync in ("snapshot", "none"):
        scenario = BOARD.replace(
            {
                "clients": 200,
                "horizon_s": 95.0,
                "updates.rate_per_s": 5.0,
                "websocket.resync": resync,
                "reconnect": {"policy": "full_jitter", "cap_s": 2.0},
                "faults": KILLS,
            }
        )
        for replication in tqdm(range(repeats), desc=f"20 kills, resync {resync}"):
            live = sl.measure(scenario, replication=replication, progress=False)
            run = sl.simulate(live.scenario, replication=replication, progress=False)
            for one in (live, run):
                ledger = one.ledger
                rows.append(
                    {
                        "resync": resync,
                        "source": "measured" if one is live else "predicted",
                        "replication": replication,
                        **ledger._asdict(),
                    }
                )
    return pd.DataFrame(rows)


def main(repeats: int) -> None:
    """Measure everything, write the tables, and show them."""
    for name, measure in (("restarts", storms), ("kills", kills)):
        table = measure(repeats)
        table.to_csv(ROOT / f"data/measured/{name}.csv", index=False, float_format="%.6g")
        sys.stdout.write(table.to_string(index=False) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
