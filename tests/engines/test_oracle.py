"""The engine against a naive second opinion, client by client."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simlib as sl
from simlib.scenario import compile_workload
from tests import oracle


def base(transport, seed_rate, clients, rtt_s, tls, session_s):
    return sl.Scenario(
        transport=transport,
        clients=clients,
        ramp_s=20.0,
        horizon_s=120.0,
        updates={"rate_per_s": seed_rate},
        sessions=None
        if session_s is None
        else {"arrivals_per_s": 0.05, "length_s": session_s, "length": "constant"},
        network={"rtt_s": rtt_s, "rtt_spread": 0.4, "tls": tls},
        heartbeat={"direction": "none"},
        server={
            "workers": 64,
            "accept_s": 0.0,
            "poll_s": 0.4,
            "handshake_s": 0.002,
            "authenticate_s": 0.001,
            "fan_out_s": 0.0,
            "send_s": 0.0,
        },
    )


CASES = {
    "seed_rate": st.sampled_from([0.05, 0.3, 1.0]),
    "clients": st.integers(1, 6),
    "rtt_s": st.sampled_from([0.0, 0.05, 0.5]),
    "tls": st.booleans(),
    "session_s": st.sampled_from([None, 35.0]),
}


def seen(run, client):
    rows = run.frame("deliveries")
    rows = rows[rows["client"] == client]
    return list(zip(rows["version"], rows["applied_s"], strict=True))


def same(ours, theirs):
    assert [version for version, _ in ours] == [version for version, _ in theirs]
    assert [t for _, t in ours] == pytest.approx([t for _, t in theirs], abs=1e-9)


@settings(max_examples=40)
@given(seed=st.integers(0, 1000), drags=st.booleans(), **CASES)
def test_polled_changes_are_seen_when_the_oracle_says(seed, drags, **case):
    scenario = base("polling", **case)
    if drags:
        scenario = scenario.replace(drag={"every_s": 40.0, "length_s": 4.0})
    run = sl.simulate(
        scenario, seed=seed, keep=("deliveries", "events"), engine="simpy", progress=False
    )
    workload = compile_workload(scenario, seed, 0)
    events = run.frame("events")
    for client in range(len(workload.start_s)):
        mine = events[events["client"] == client]
        starts = mine["t_s"][mine["event"] == "drag_start"].tolist()
        stops = mine["t_s"][mine["event"] == "drag_end"].tolist()
        stops += [float("inf")] * (len(starts) - len(stops))
        theirs = oracle.polled(workload, scenario, client, list(zip(starts, stops, strict=True)))
        same(seen(run, client), theirs)


@settings(max_examples=40)
@given(seed=st.integers(0, 1000), snapshot=st.booleans(), **CASES)
def test_pushed_changes_are_seen_when_the_oracle_says(seed, snapshot, **case):
    scenario = base("websocket", **case).replace(
        {"websocket.resync": "snapshot" if snapshot else "none"}
    )
    run = sl.simulate(scenario, seed=seed, keep=("deliveries",), engine="simpy", progress=False)
    workload = compile_workload(scenario, seed, 0)
    for client in range(len(workload.start_s)):
        same(seen(run, client), oracle.pushed(workload, scenario, client))
