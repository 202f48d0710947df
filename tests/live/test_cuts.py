"""What a cut loses on real sockets and in the simulation: nothing that was sent before.

One server is reset, drained and restarted. Of two nodes, one after the other is also deployed anew.
"""

from __future__ import annotations

import numpy as np
import pytest

import simlib as sl
from tests.live.together import measured_together

pytestmark = pytest.mark.live

ADDED_S = (0.0, 0.1, 0.4, 0.8)
CUTS_S = {"reset": 4.0, "drain": 8.0, "restart": 12.0, "rolling_deploy": 16.0}
TURN_S = 4.0
"""From the deploy of the first node to that of the second."""
NODES = (1, 2)
CLIENTS = 20
CHANGES = 10


def cuts_s(nodes):
    """When something is cut: by each fault once, by a deploy once for each node."""
    times = list(CUTS_S.values())
    return [*times, times[-1] + TURN_S] if nodes > 1 else times[:-1]


def board(added_s, nodes):
    """Ten changes in the last 0.4 s before each cut, which nothing repeats."""
    publish_s = np.concatenate(
        [t - 0.4 + 0.4 / CHANGES * np.arange(CHANGES) for t in cuts_s(nodes)]
    )
    details = {
        "reset": {},
        "drain": {"length_s": 1.0, "batches": 2},
        "restart": {"length_s": 1.0},
        "rolling_deploy": {"length_s": 1.0, "every_s": TURN_S},
    }
    kinds = [kind for kind in CUTS_S if nodes > 1 or kind != "rolling_deploy"]
    faults = [{"kind": kind, "start_s": CUTS_S[kind], **details[kind]} for kind in kinds]
    horizon_s = cuts_s(nodes)[-1] + 4.0
    if added_s:
        faults.append(
            {"kind": "latency", "start_s": 0.0, "length_s": horizon_s, "added_s": added_s}
        )
    return sl.Scenario(
        transport="websocket",
        clients=CLIENTS,
        ramp_s=0.5,
        horizon_s=horizon_s,
        updates={"kind": "times", "publish_s": publish_s},
        websocket={"resync": "none"},
        heartbeat={"direction": "none"},
        reconnect={"policy": "fixed", "base_s": 0.3, "cap_s": 0.3},
        faults=faults,
        server={"nodes": nodes},
    )


@pytest.fixture(scope="module")
def measured():
    """A measured run for each latency that is added to the round trip, in seconds, and nodes."""
    return measured_together(
        {(added_s, nodes): board(added_s, nodes) for nodes in NODES for added_s in ADDED_S}
    )


@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize("added_s", ADDED_S)
def test_what_was_sent_before_a_cut_arrives_in_the_lab_as_in_the_simulation(
    added_s, nodes, measured
):
    live = measured[added_s, nodes]
    cut = []
    for run in (live, sl.simulate(live.scenario, progress=False)):
        assert run.ledger.eligible == CLIENTS * CHANGES * len(cuts_s(nodes))
        assert run.ledger.lost == 0
        table = run.frame("connections")
        cut.append(table[table["cause"] == "closed_by_server"].groupby("node").size().tolist())
    assert cut[0] == cut[1]
    assert len(cut[0]) == nodes
