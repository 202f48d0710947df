"""Closed forms of how often what happens, held against runs."""

from __future__ import annotations

import numpy as np
import pytest

import simlib as sl
from simlib.core.protocol import TRANSPORT_NAMES, Transport
from simlib.scenario import compile_workload, expected

BOARD = sl.Scenario(clients=400, ramp_s=30.0, horizon_s=600.0, updates={"rate_per_s": 0.2})
VISITS = {"arrivals_per_s": 2.0, "length_s": 120.0}
SESSIONS = [
    None,
    VISITS,
    {**VISITS, "length": "constant"},
    {**VISITS, "length_s": 2000.0},
    {**VISITS, "length_s": 2000.0, "length": "constant"},
    {**VISITS, "arrivals": "even"},
]


@pytest.mark.parametrize("until_s", [10.0, 30.0, 100.0, 600.0])
@pytest.mark.parametrize("sessions", SESSIONS)
def test_sessions_and_their_time_are_those_of_workloads(sessions, until_s):
    board = BOARD.replace(sessions=sessions)
    workloads = [compile_workload(board, 1, replication) for replication in range(5)]
    starts = [int((one.start_s < until_s).sum()) for one in workloads]
    there_s = [
        float(np.clip(np.minimum(one.end_s, until_s) - one.start_s, 0.0, None).sum())
        for one in workloads
    ]
    assert expected.sessions(board, until_s) == pytest.approx(np.mean(starts), rel=0.1)
    assert expected.client_seconds(board, until_s) == pytest.approx(np.mean(there_s), rel=0.1)


@pytest.mark.parametrize("transport", TRANSPORT_NAMES)
def test_what_clients_do_is_what_a_run_counts(transport):
    board = BOARD.replace(
        {"transport": transport, "clients": 100, "heartbeat.interval_s": 20.0, "warm_up_s": 100.0}
    )
    timeline = sl.simulate(board, engine="simpy", progress=False).frame("timeline")
    later = timeline[timeline["t_s"] >= 100.0]
    client_s = 500.0 * board.clients
    rates = expected.rates_of(board, Transport[transport.upper()], 0.2)
    polls = rates.polls + rates.asks + rates.fetches
    for counted, rate in (
        ("polls", polls),
        ("messages", rates.pushes),
        ("heartbeats", rates.heartbeats),
    ):
        if transport == "long_polling" and counted == "messages":
            continue  # an answer is a message, too
        assert later[counted].sum() / client_s == pytest.approx(rate, rel=0.2, abs=1e-9), counted


def test_a_crowd_is_sent_away_about_as_often_as_expected():
    doors = {"server.handshake_s": 0.1, "server.shed_wait_s": 4.0, "server.backlog": 100_000}
    rush = {"transport": "websocket", "clients": 1000, "ramp_s": 0.0, "horizon_s": 200.0}
    storm = BOARD.replace({**rush, **doors})
    refused = sl.simulate(storm, engine="simpy", progress=False).frame("timeline")["errors"].sum()
    found = expected.crowd(storm)
    assert found.attempts == pytest.approx(refused, rel=0.4)
    assert found.to_s == pytest.approx(100.0, abs=1.0)


@pytest.mark.parametrize(
    "change",
    [
        {"transport": "polling"},
        {"ramp_s": 300.0},
        {"server.handshake_s": 1e-4},
        {"server.shed_wait_s": None, "websocket.open_timeout_s": 1000.0},
    ],
)
def test_who_is_let_in_in_time_is_no_crowd(change):
    doors = {"server.handshake_s": 0.1, "server.shed_wait_s": 4.0}
    storm = BOARD.replace({"transport": "websocket", "clients": 1000, "ramp_s": 0.0, **doors})
    assert expected.crowd(storm) is not None
    assert expected.crowd(storm.replace(change)) is None
