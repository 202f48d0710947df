"""A rollout on the real server that is killed or rolled back: predicted beside measured.

``python tests/benchmarks/rollouts.py [REPEATS]`` takes 300 real clients to push in three stages
and back in five ways, `REPEATS` times each (5 by default, a replication each), predicts every run
by simulation with the same draws, and writes ``data/measured/rollouts.csv``: a row per way and
figure with the median prediction, the median and the range measured, and the median difference run
by run. Times are the scenario's, which runs ten times faster than the clock.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

import simlib as sl

ROOT = Path(__file__).parents[2]
SCALE = 10.0
KILL_S = 165.0
AT_S = [49.0, 79.0, 159.0, 299.0]
BOARD = sl.Scenario(
    clients=300,
    ramp_s=10.0,
    horizon_s=300.0,
    updates={"rate_per_s": 0.2},
    reconnect={"policy": "full_jitter"},
)
PLAN = sl.Plan(
    start_s=21.501,  # never at the very moment at which some tab reads the flag
    check_every_s=10.0,
    stages=[{"percent": percent, "bake_s": 30.0} for percent in (10, 50, 100)],
    flag={"propagation": "polled", "every_s": 30.0},
    kill_s=KILL_S,
)
GRADUAL = {"percents": [50, 25, 0], "every_s": 20.0}
BLOCKED = {"kind": "block_upgrades", "share": 0.2, "start_s": 0.0, "length_s": 300.0}
BEHIND_A_PROXY = BOARD.replace(faults=[BLOCKED], fallback={"after_failures": 2})
WAYS: dict[str, tuple[dict[str, Any], sl.Scenario]] = {
    "flag polled every 30 s": ({}, BOARD),
    "sockets closed at once": ({"rollback.sockets": "closed"}, BOARD),
    "sockets drained over 60 s": (
        {"flag.every_s": 120.0, "rollback": {"sockets": "drained", "window_s": 60.0}},
        BOARD,
    ),
    "50, 25, 0 % by a guardrail": (
        {
            "rollback": GRADUAL,
            "guardrails": [{"metric": "connection_count", "below": 200.0}],
            "decision.failures": 4,
            "kill_s": None,
        },
        BOARD,
    ),
    "20 % of upgrades blocked": (
        {},
        BOARD.replace(faults=[BLOCKED], fallback={"after_failures": 2}),
    ),
}


def main(repeats: int) -> pd.DataFrame:
    """Measure and predict every way; return the table that is written."""
    tables = []
    for way, (changes, board) in WAYS.items():
        plan = PLAN.replace(changes)
        for replication in tqdm(range(repeats), desc=way):
            options: dict[str, Any] = {"replication": replication, "progress": False}
            live = sl.roll_out(plan, board, engine="live", time_scale=SCALE, **options)
            predicted = sl.roll_out(plan, live.run.scenario, **options)
            back_s = float(
                live.history.loc[live.history["event"].isin(["rolled_back", "killed"]), "t_s"].min()
            )
            table = sl.rollouts.compare(predicted.run, live.run, AT_S, back_s=back_s)
            ledger = live.run.ledger
            unbalanced = ledger.delivered + ledger.lost + ledger.pending - ledger.eligible
            other = live.run.provenance["cpu"]["other_cores"]
            tables.append(table.assign(way=way, unbalanced=unbalanced, other_cores=other))
    return (
        pd.concat(tables)
        .groupby(["way", "figure"], sort=False)
        .agg(
            predicted=("predicted", "median"),
            measured_median=("measured", "median"),
            measured_low=("measured", "min"),
            measured_high=("measured", "max"),
            difference=("difference", "median"),
            repeats=("measured", "size"),
            unbalanced=("unbalanced", "max"),
            other_cores=("other_cores", "max"),
        )
        .reset_index()
    )


if __name__ == "__main__":
    result = main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
    result.to_csv(ROOT / "data/measured/rollouts.csv", index=False, float_format="%.6g")
    sys.stdout.write(result.to_string(index=False) + "\n")
