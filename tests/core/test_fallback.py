"""Polling instead of push: when a client falls back, when it returns, what that saves."""

from __future__ import annotations

import pytest

import simlib as sl
from simlib.core.client import is_recoverable, step
from simlib.core.client_state import Client
from simlib.core.protocol import Action, Event, State, Transport
from simlib.core.reconnect import Policy
from simlib.scenario import compile_workload

BOARD = sl.Scenario(
    transport="websocket",
    updates={"rate_per_s": 0.1},
    network={"tls": False},
    reconnect={"policy": "fixed"},
    polling={"interval_s": 30.0},
)


def client_with(**fallback):
    rules = compile_workload(BOARD.replace({"fallback": fallback}), 1, 0).rules
    client = Client(0)
    step(client, rules, Event.START, 0.0)
    return client, rules


def fail(client, rules, now):
    """An attempt that fails, after the wait for it if there is one."""
    if client.state == State.WAITING:
        step(client, rules, Event.DEADLINE, now)
    return step(client, rules, Event.CLOSED, now)[0]


def poll_until(client, rules, t):
    """Polls that are answered at once, until `t` or until the client connects."""
    now = client.since_s
    while client.transport == Transport.POLLING:
        step(client, rules, Event.FETCHED, now, 0)
        if client.deadline_s > t:
            return False
        now = client.deadline_s
        actions, _ = step(client, rules, Event.DEADLINE, now)
    assert actions == Action.CLOSE | Action.CONNECT
    return now


def test_a_client_polls_after_its_failures():
    client, rules = client_with(after_failures=3)
    assert fail(client, rules, 0.0) == fail(client, rules, 1.0) == Action.CLOSE
    exchange = client.exchange
    assert fail(client, rules, 2.0) == Action.CLOSE | Action.FETCH
    assert (client.state, client.transport) == (State.FETCHING, Transport.POLLING)
    assert client.exchange > exchange
    assert is_recoverable(client, rules)


def test_a_client_polls_after_its_time_without_a_connection():
    client, rules = client_with(after_s=5.0)
    assert fail(client, rules, 4.9) == Action.CLOSE
    assert fail(client, rules, 5.9) == Action.CLOSE | Action.FETCH


@pytest.mark.parametrize("limit", [{"policy": Policy.NONE}, {"attempts": 1}, {"give_up_s": 1.0}])
def test_a_client_whose_library_gives_up_polls_if_it_may(limit):
    client, rules = client_with()
    rules = rules._replace(reconnect=rules.reconnect._replace(**limit))
    actions = Action.NONE
    for now in (0.5, 1.5):
        if client.transport == Transport.WEBSOCKET:
            actions = fail(client, rules, now)
    assert actions == Action.CLOSE | Action.FETCH


def test_a_client_that_may_not_return_polls_for_good():
    client, rules = client_with(after_failures=1)
    fail(client, rules, 0.0)
    assert not poll_until(client, rules, 1e5)


def test_every_return_in_vain_makes_the_next_wait_longer_up_to_a_cap():
    client, rules = client_with(after_failures=2, return_s=90.0, return_cap_s=300.0)
    fail(client, rules, 0.0)
    fail(client, rules, 0.0)
    waits_s = []
    for _ in range(4):
        began_s = client.since_s
        tried_s = poll_until(client, rules, 1e5)
        waits_s.append(tried_s - began_s)
        fail(client, rules, tried_s)  # once is enough now
        assert client.transport == Transport.POLLING
    assert waits_s == [90.0, 180.0, 300.0, 300.0]


def test_a_client_that_is_pushed_to_again_has_all_its_failures_before_it():
    client, rules = client_with(after_failures=2, return_s=30.0)
    fail(client, rules, 0.0)
    fail(client, rules, 0.0)
    now = poll_until(client, rules, 1e5)
    for event in (Event.CONNECTED, Event.UPGRADED, Event.READY):
        step(client, rules, event, now)
    assert (client.state, client.fallbacks) == (State.OPEN, 0)
    assert fail(client, rules, now + 9.0) == Action.CLOSE
    assert client.state == State.WAITING


BLOCKED = BOARD.replace(
    {
        "clients": 200,
        "horizon_s": 900.0,
        "reconnect": {"policy": "socketio", "jitter_frac": 0.5, "cap_s": 5.0},
        "faults": [{"kind": "block_upgrades", "start_s": 0.0, "length_s": 900.0, "share": 0.3}],
    }
)


def run_with(**fallback):
    scenario = BLOCKED.replace({"fallback": fallback or None})
    return sl.simulate(scenario, engine="compiled", progress=False)


def test_behind_a_proxy_that_blocks_upgrades_only_those_who_fall_back_see_changes():
    blocked, saved = run_with(), run_with(after_failures=3)
    cut_off = blocked.frame("clients")["connections"] == 0
    assert 0.2 < cut_off.mean() < 0.4
    assert (blocked.frame("clients").loc[cut_off, "delivered"] == 0).all()
    assert (saved.frame("clients").loc[cut_off, "delivered"] > 0).all()
    assert (saved.frame("clients").loc[cut_off, "fallbacks"] == 1).all()
    on_polling = saved.frame("timeline")["fallback_count"].iloc[-1]
    assert on_polling == cut_off.sum()
    assert blocked.metrics()["fallback_to_polling_frac"].iloc[0] == 0.0


def fallen_frac(**changes):
    """The share of push's clients that poll, on a board where some upgrades are blocked."""
    board = sl.Scenario(
        transport="websocket",
        updates={"rate_per_s": 0.1},
        clients=40,
        ramp_s=0.0,
        horizon_s=200.0,
        fallback={"after_failures": 2},
        faults=[{"kind": "block_upgrades", "start_s": 0.0, "length_s": 200.0, "share": 0.25}],
    ).replace(changes)
    run = sl.simulate(board, engine="simpy", progress=False)
    share = (run.frame("clients")["fallbacks"] > 0).mean()
    return run.metrics()["fallback_to_polling_frac"].iloc[0], share


def test_who_fell_back_in_the_warm_up_still_polls_after_it():
    frac, share = fallen_frac(warm_up_s=100.0)
    assert frac == share > 0.1


def test_who_returns_to_push_polls_no_more():
    blocked = {"kind": "block_upgrades", "start_s": 0.0, "length_s": 60.0, "share": 0.25}
    frac, share = fallen_frac(
        warm_up_s=100.0, faults=[blocked], **{"fallback.return_s": 20.0, "polling.interval_s": 5.0}
    )
    assert frac == 0.0 < share


def test_a_session_that_ends_on_polling_counts_until_its_end():
    """Sessions of 50 s, in which the wait before falling back is the same for all."""
    sessions = {"arrivals_per_s": 0.2, "length_s": 50.0, "length": "constant"}
    blocked = {"kind": "block_upgrades", "start_s": 0.0, "length_s": 200.0, "share": 1.0}
    board = {"sessions": sessions, "clients": 0, "faults": [blocked], "warm_up_s": 100.0}
    at_once, _ = fallen_frac(**board, reconnect={"policy": "fixed", "base_s": 0.0})
    later, _ = fallen_frac(**board, reconnect={"policy": "fixed", "base_s": 10.0})
    assert at_once == pytest.approx(1.0, abs=0.01)
    assert later == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_a_rollback_ends_the_fallback_of_those_who_are_to_poll_anyway(engine):
    plan = sl.Plan(
        control={"transport": "polling"},
        treatment={"transport": "websocket"},
        start_s=20.0,
        stages=[{"percent": 100, "bake_s": 80}],
        check_every_s=10.0,
        flag={"propagation": "polled", "every_s": 5.0},
        kill_s=100.0,
    )
    blocked = {"kind": "block_upgrades", "start_s": 0.0, "length_s": 200.0, "share": 0.5}
    board = sl.Scenario(
        updates={"rate_per_s": 0.1},
        clients=40,
        ramp_s=0.0,
        horizon_s=200.0,
        fallback={"after_failures": 2},
        faults=[blocked],
    )
    rollout = sl.roll_out(plan, board, engine=engine, progress=False)
    timeline = rollout.run.frame("timeline").query("cohort == 'treatment'").set_index("t_s")
    falls = rollout.run.frame("clients")["fallbacks"].gt(0).sum()
    assert timeline.loc[90.0, "fallback_count"] == falls > 10
    assert timeline.loc[110.0, "fallback_count"] == 0.0
    shown = rollout.history.set_index("t_s")["fallback_to_polling_frac"]
    assert shown[90.0] == pytest.approx(falls / 40)


def test_those_who_return_too_often_pay_with_attempts_and_lose_nothing():
    often = run_with(after_failures=3, return_s=30.0)
    seldom = run_with(after_failures=3, return_s=600.0)
    assert often.frame("clients")["attempts"].sum() > seldom.frame("clients")["attempts"].sum()
    assert often.ledger.lost == seldom.ledger.lost == 0
    causes = often.frame("connections")["cause"]
    assert (causes == "switched").sum() > 0
