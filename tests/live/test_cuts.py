"""What a cut loses on real sockets and in the simulation: nothing that was sent before."""

from __future__ import annotations

import asyncio
from unittest.mock import MagicMock

import numpy as np
import pytest

import simlib as sl
from simlib.core.client_state import Client
from simlib.core.record import Count
from simlib.live.connections import SafetyPollConnection
from simlib.scenario import compile_workload, new_record
from tests.live.together import measured_together

pytestmark = pytest.mark.live

ADDED_S = (0.0, 0.1, 0.4, 0.8)
CUTS_S = {"reset": 4.0, "drain": 8.0, "restart": 12.0}
CLIENTS = 20
CHANGES = 10


def board(added_s):
    """Ten changes in the last 0.4 s before each of three cuts, which nothing repeats."""
    publish_s = np.concatenate(
        [t - 0.4 + 0.4 / CHANGES * np.arange(CHANGES) for t in CUTS_S.values()]
    )
    details = {"reset": {}, "drain": {"length_s": 1.0, "batches": 2}, "restart": {"length_s": 1.0}}
    faults = [{"kind": kind, "start_s": t, **details[kind]} for kind, t in CUTS_S.items()]
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
        faults=faults,
    )


@pytest.fixture(scope="module")
def measured():
    """A measured run for each latency that is added to the round trip, in seconds."""
    return measured_together({added_s: board(added_s) for added_s in ADDED_S})


@pytest.mark.parametrize("added_s", ADDED_S)
def test_what_was_sent_before_a_cut_arrives_in_the_lab_as_in_the_simulation(added_s, measured):
    live = measured[added_s]
    for run in (live, sl.simulate(live.scenario, progress=False)):
        assert run.ledger.eligible == CLIENTS * CHANGES * len(CUTS_S)
        assert run.ledger.lost == 0


@pytest.mark.parametrize(("moved_on", "failures"), [(0, 1), (1, 1), (2, 0)])
def test_a_safety_poll_fails_with_its_connection_unless_its_socket_is_long_gone(moved_on, failures):
    owner = MagicMock(has_ended=False, is_proxied=False)
    owner.now_s.return_value = 1.0
    owner.record = new_record(board(0.0), compile_workload(board(0.0), 1, 0), ())
    client = Client(0)
    client.exchange = 3
    connection = SafetyPollConnection(owner, client)
    connection.connection_made(MagicMock(spec=asyncio.Transport))
    connection.exchange = 3  # it has sent its request
    client.exchange += moved_on
    connection.connection_lost(None)
    assert owner.record.bins[0, :, Count.SAFETY_ERRORS].sum() == failures
