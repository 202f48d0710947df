"""Attempts that are folded: equal to the reference engine, by an aimed search that counts them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, target
from hypothesis import strategies as st

import simlib as sl
from simlib.engines.compiled import attempts
from simlib.engines.compiled import simulation as compiled
from simlib.scenario import compile_workload, new_record
from tests.engines.test_compiled_engine import EXAMPLES, assert_equal_runs

BOARD = sl.Scenario(
    transport="websocket",
    clients=40,
    ramp_s=0.0,
    horizon_s=60.0,
    updates={"rate_per_s": 0.2},
    network={"rtt_s": 1.0},
    heartbeat={"direction": "none"},
    reconnect={"policy": "full_jitter", "base_s": 0.5, "cap_s": 8.0},
    server={"handshake_s": 0.4, "accept_s": 0.01, "shed_wait_s": 0.5},
)
POLICIES = [
    {"policy": "full_jitter", "base_s": 0.5, "cap_s": 8.0},
    {"policy": "equal_jitter", "base_s": 0.2, "cap_s": 3.0},
    {"policy": "decorrelated_jitter", "base_s": 0.3, "cap_s": 5.0},
    {"policy": "full_jitter", "base_s": 0.5, "cap_s": 8.0, "attempts": 5},
    {"policy": "decorrelated_jitter", "base_s": 1.0, "cap_s": 1.0},  # all delays are 1 s
    {"policy": "fixed", "base_s": 1.0},
]


@st.composite
def storms(draw):
    """Everybody connects at once or soon, and most are turned away, dropped or too late."""
    pick = lambda *values: draw(st.sampled_from(values))  # noqa: E731
    return BOARD.replace(
        {
            "clients": draw(st.integers(4, 40)),
            "ramp_s": pick(0.0, 0.0, 1.0, 10.0),
            "horizon_s": pick(20.0, 33.3),
            "bin_s": pick(0.3, 1.0, 50.0),
            "updates": pick(
                {"rate_per_s": 0.3}, {"kind": "times", "publish_s": [0.0, 0.5, 1.5, 2.5, 7.0]}
            ),
            "network.rtt_s": pick(0.0, 0.0, 0.04, 0.1234567, 1.0),
            "network.tls": draw(st.booleans()),
            "heartbeat.direction": pick("none", "none", "server", "client"),
            "heartbeat.interval_s": pick(2.0, 7.0),
            "heartbeat.timeout_s": pick(0.5, 5.0),
            "websocket.resync": pick("none", "snapshot"),
            "websocket.open_timeout_s": pick(0.2, 0.9, 3.0, 20.0),
            "websocket.upgrade_timeout_s": pick(0.0, 0.0, 1.0, 5.0),
            "websocket.ready_timeout_s": pick(0.0, 0.5),
            "server.handshake_s": pick(0.05, 0.4, 1.3),
            "server.accept_s": pick(0.0, 0.01, 0.2),
            "server.authenticate_s": pick(0.0, 0.1),
            "server.backlog": pick(1, 3, 1000, 1000, 10**8),
            "server.max_connections": pick(5, 1000),
            "server.shed_wait_s": pick(0.05, 0.2, 1.0, 1.0, None),
            "server.admit_per_s": pick(None, None, 0.7),
            "reconnect": pick(*POLICIES[:4], *POLICIES),
        }
    )


def fold(board, seed=3):
    """How many attempts the compiled engine has folded, and whether it had to begin anew."""
    workload = compile_workload(board, seed, 0)
    simulation = compiled.Simulation(workload, new_record(board, workload))
    simulation.run_until(board.horizon_s)
    return simulation.folded, not simulation.may_fold


@settings(max_examples=EXAMPLES)
@given(scenario=storms(), seed=st.integers(0, 2**32))
def test_engines_agree_on_storms(scenario, seed):
    run = assert_equal_runs(scenario, seed=seed)
    target(float(fold(scenario, seed)[0]))
    assert run.frame("clients")["attempts"].sum() > 0


@pytest.mark.parametrize("rtt_s", [0.0, 0.04, 1.0])
@pytest.mark.parametrize("policy", POLICIES[:4], ids=lambda policy: policy["policy"])
def test_most_attempts_of_a_storm_are_folded(policy, rtt_s):
    board = BOARD.replace({"reconnect": policy, "network.rtt_s": rtt_s})
    made = assert_equal_runs(board).frame("clients")["attempts"].sum()
    folded, is_anew = fold(board)
    assert not is_anew
    assert folded > 0.6 * made


def test_a_run_in_which_a_folded_attempt_meets_another_event_begins_anew():
    met = BOARD.replace({"updates": {"kind": "times", "publish_s": [2.5]}})
    assert_equal_runs(met)  # as the first requests arrive
    assert fold(met) == (0, True)


def test_a_run_that_may_fill_an_endless_backlog_begins_anew():
    few = {"clients": 4, "network.rtt_s": 0.0, "server.max_connections": 1}
    board = BOARD.replace({**few, "reconnect.cap_s": 0.5, "server.backlog": 4 * attempts._ENDLESS})
    run = assert_equal_runs(board)
    assert run.frame("clients")["attempts"].sum() > board.server.backlog
    assert fold(board) == (0, True)
    assert fold(board.replace({"server.backlog": 1000}))[0] > 0


@pytest.mark.parametrize(
    "change",
    [
        {"reconnect": POLICIES[4]},
        {"reconnect": POLICIES[4], "network.rtt_s": 0.0},
        {"reconnect": POLICIES[5]},
        {"hidden": {"every_s": 5.0, "length_s": 2.0}},
        {"sessions": {"arrivals_per_s": 0.5, "length_s": 10.0}},
        {"server.service": "exponential"},
        {"network.rtt_spread": 0.5},
        {"websocket.open_timeout_s": 3.0},  # the refusal comes after four seconds
    ],
)
def test_nothing_is_folded_where_an_attempt_may_be_disturbed(change):
    assert_equal_runs(BOARD.replace(change))
    assert fold(BOARD.replace(change)) == (0, False)


@pytest.mark.parametrize("rtt_s", [0.0, 0.04, 1.0])
def test_a_run_in_slices_that_ends_early_is_the_same_to_any_moment(rtt_s):
    board = BOARD.replace({"network.rtt_s": rtt_s})
    workload = compile_workload(board, 3, 0)
    for end_s in (0.5, 2.5, 2.6, 4.1, 7.7, 20.0):
        records = []
        for engine in ("simpy", "compiled"):
            from simlib.engines import _engine

            record = new_record(board, workload)
            simulation = _engine(engine)(workload, record)
            for t in (0.3 * end_s, 0.9 * end_s, end_s):
                simulation.run_until(t)
            record.end_at(end_s)
            simulation.finish()
            records.append(record)
        one, other = records
        for name in ("bins", "messages", "busy_s", "clients", "traffic", "histogram", "wait_ticks"):
            assert (getattr(one, name) == getattr(other, name)).all(), (end_s, name)
