"""What a cut loses on real sockets and in the simulation: nothing that was sent before.

One server is reset, drained and restarted. Two nodes are reset, and deployed one after the other.
"""

from __future__ import annotations

from collections import ChainMap
from unittest.mock import MagicMock

import numpy as np
import pytest

import simlib as sl
from simlib.core.client_state import Client
from simlib.core.record import Count
from simlib.live.connections import SafetyPollConnection
from simlib.scenario import compile_workload, new_record
from tests.live.together import Together

pytestmark = pytest.mark.live

ADDED_S = (0.0, 0.1, 0.4, 0.8)
TURN_S = 4.0
"""From the deploy of the first node to that of the second."""
CUTS = {
    1: {
        "reset": {"start_s": 4.0},
        "drain": {"start_s": 8.0, "length_s": 1.0, "batches": 2},
        "restart": {"start_s": 12.0, "length_s": 1.0},
    },
    2: {
        "reset": {"start_s": 4.0},
        "rolling_deploy": {"start_s": 8.0, "length_s": 0.9, "every_s": TURN_S},
    },
}
"""The faults by the number of nodes."""
CLIENTS = 20
CHANGES = 10


def cuts_s(nodes):
    """When something is cut: by each fault once, by a deploy once for each node."""
    times = [fault["start_s"] for fault in CUTS[nodes].values()]
    return times + [times[-1] + TURN_S] * (nodes > 1)


def board(added_s, nodes):
    """Ten changes in the last 0.4 s before each cut, which nothing repeats."""
    publish_s = np.concatenate(
        [t - 0.4 + 0.4 / CHANGES * np.arange(CHANGES) for t in cuts_s(nodes)]
    )
    faults = [{"kind": kind, **details} for kind, details in CUTS[nodes].items()]
    if added_s:
        faults.append({"kind": "latency", "start_s": 0.0, "length_s": 16.0, "added_s": added_s})
    return sl.Scenario(
        transport="websocket",
        clients=CLIENTS,
        ramp_s=0.5,
        horizon_s=16.0,
        updates={"kind": "times", "publish_s": publish_s},
        websocket={"resync": "none"},
        heartbeat={"direction": "none"},
        reconnect={"policy": "fixed", "base_s": 0.3, "cap_s": 0.3},
        server={"nodes": nodes},
        faults=faults,
    )


@pytest.fixture(scope="module")
def measured():
    """A measured run for each latency that is added to the round trip, in seconds, and nodes."""
    return ChainMap(
        *(
            Together(
                {(added_s, nodes): board(added_s, nodes) for added_s in ADDED_S},
                at_a_time=4 // nodes,
            )
            for nodes in CUTS
        )
    )


@pytest.mark.parametrize("nodes", CUTS)
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


@pytest.mark.parametrize(("moved_on", "failures"), [(0, 1), (1, 1), (2, 0)])
def test_a_safety_poll_fails_with_its_connection_unless_its_socket_is_long_gone(moved_on, failures):
    owner = MagicMock(has_ended=False)
    owner.now_s.return_value = 1.0
    owner.record = new_record(board(0.0, 1), compile_workload(board(0.0, 1), 1, 0), ())
    client = Client(0)
    client.exchange = 3
    connection = SafetyPollConnection(owner, client)
    connection.is_accepted = MagicMock(**{"done.return_value": False})  # no socket to be counted
    connection.exchange = 3  # it has sent its request
    client.exchange += moved_on
    connection.connection_lost(None)
    assert owner.record.bins[0, :, Count.SAFETY_ERRORS].sum() == failures
