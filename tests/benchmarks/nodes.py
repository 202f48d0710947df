"""A broadcast that several real nodes send at once, beside the simulation and the closed form.

``python tests/benchmarks/nodes.py [RUNS]`` pushes five changes to 1,000 and to 2,000 sockets on
one, two and four real servers whose sends are emulated (``measure(..., emulate_sends=True)``: each
takes ``server.send_s``), `RUNS` times each (3 by default, a replication each), and writes
``data/measured/nodes.csv``: when the last client has a change, measured, simulated with the same
draws, and by `theory.fan_out`, which knows only by chance how many clients are at each node.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

import simlib as sl
from simlib import theory

ROOT = Path(__file__).parents[2]
SEND_S = 1e-3
FAN_OUT_S = 1e-3
HOP_S = 0.01
CHANGES = 5
CASES = [(clients, nodes) for clients in (1000, 2000) for nodes in (1, 2, 4)]


def board(clients: int, nodes: int) -> sl.Scenario:
    """A board on which each change has reached all clients well before the next."""
    every_s = 1.0 + SEND_S * clients / nodes
    return sl.Scenario(
        transport="websocket",
        clients=clients,
        ramp_s=clients / 200.0,
        horizon_s=clients / 200.0 + 2.0 + CHANGES * every_s,
        updates={
            "kind": "times",
            "publish_s": clients / 200.0 + 2.0 + every_s * np.arange(CHANGES),
        },
        websocket={"resync": "none"},
        heartbeat={"direction": "none"},
        server={"nodes": nodes, "send_s": SEND_S, "fan_out_s": FAN_OUT_S, "hop_s": HOP_S},
    )


def last_s(run: sl.Run) -> float:
    """Mean latency of the client that is served last, over the changes."""
    return float(run.frame("deliveries").groupby("version")["latency_s"].max().mean())


def main(runs: int) -> pd.DataFrame:
    """Measure, predict, compare; return the table that is written."""
    rows = []
    for clients, nodes in CASES:
        scenario, measured, simulated, other_cores = board(clients, nodes), [], [], 0.0
        for replication in tqdm(range(runs), desc=f"{clients} clients, {nodes} nodes"):
            options = {"replication": replication, "keep": ("deliveries",), "progress": False}
            live = sl.measure(scenario, emulate_sends=True, **options)
            measured.append(last_s(live))
            simulated.append(last_s(sl.simulate(live.scenario, engine="simpy", **options)))
            other_cores = max(other_cores, live.provenance["cpu"]["other_cores"])
        expected = theory.fan_out(
            clients,
            SEND_S,
            FAN_OUT_S,
            0.0,
            down_s=live.scenario.network.rtt_s / 2.0,
            workers=nodes,
            hop_s=HOP_S if nodes > 1 else 0.0,
        )
        of_theory = np.array(measured) / expected.last_mean_s - 1.0
        of_simulation = np.array(measured) / np.array(simulated) - 1.0
        rows.append(
            {
                "clients": clients,
                "nodes": nodes,
                "measured_s": np.mean(measured),
                "simulated_s": np.mean(simulated),
                "theory_s": expected.last_mean_s,
                "worst_error_of_theory": of_theory[np.abs(of_theory).argmax()],
                "worst_error_of_simulation": of_simulation[np.abs(of_simulation).argmax()],
                "runs": runs,
                "other_cores": other_cores,
            }
        )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    table = main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
    table.to_csv(ROOT / "data/measured/nodes.csv", index=False, float_format="%.4g")
    sys.stdout.write(table.to_string(index=False) + "\n")
