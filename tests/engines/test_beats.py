"""Heartbeats that go round by themselves: SimPy's tables, to the last bit."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simlib as sl
from simlib.core.assignment import FlagRules, Propagation
from simlib.core.protocol import Transport
from simlib.engines import reference
from simlib.engines.compiled import simulation as compiled
from simlib.engines.compiled import variants
from simlib.scenario import compile_workload, new_record
from tests.engines.test_compiled_engine import assert_equal_runs
from tests.engines.test_rollouts import PERCENTS, assert_equal_rollouts
from tests.strategies import PUBLISH_S, _in_units_of, faults, reconnects

EXAMPLES = 25 if numba.config.DISABLE_JIT else 50
NARROW = {"latency", "bandwidth"}
"""Faults of paths, with which no heartbeat goes round by itself."""


@pytest.fixture(autouse=True)
def rounds(monkeypatch):
    """How many heartbeats of each run went round by themselves."""
    found = []
    finish = compiled.Simulation.finish

    def finish_and_count(simulation):
        found.append(int(simulation._world.arrays.beats.ring[0].rounds))
        finish(simulation)

    monkeypatch.setattr(compiled.Simulation, "finish", finish_and_count)
    return found


BOARD = sl.Scenario(
    transport="websocket",
    updates={"rate_per_s": 0.1},
    clients=20,
    ramp_s=3.0,
    horizon_s=60.0,
    heartbeat={"interval_s": 2.5, "timeout_s": 2.5},
    network={"rtt_s": 0.04},
)
DIRECTIONS = ("server", "client")
ALIKE = st.fixed_dictionaries({"rtt_s": st.sampled_from([0.0, 0.04, 0.5, 1.0])})
APART = st.fixed_dictionaries(
    {"rtt_s": st.sampled_from([0.04, 0.5, 1.0]), "rtt_spread": st.sampled_from([0.001, 0.3, 1.5])}
) | st.sampled_from(
    [
        # Two or three distances on a grid: much is due at the same moment.
        {"rtt_quantiles": [[0.5, 0.5], [0.500001, 1.0]]},
        {"rtt_quantiles": [[0.3, 0.0], [0.300001, 0.5], [0.7, 0.5], [0.700001, 2.0]]},
    ]
)
"""Round-trip times that are the same for all clients, and such that differ."""


@st.composite
def beating(draw, paths=ALIKE) -> sl.Scenario:
    """A scenario whose heartbeats may go round by themselves, with much that disturbs them."""
    horizon_s = draw(st.sampled_from([20.0, 60.0]))
    times_s = st.sampled_from([0.5, 1.0, 2.0, 5.0, 10.0])
    activity = st.none() | st.fixed_dictionaries({"every_s": times_s, "length_s": times_s})
    policy = reconnects().filter(lambda found: found["policy"] != "actioncable")
    found = draw(faults(horizon_s, 1)) if draw(st.booleans()) else []
    found = [fault for fault in found if fault["kind"] not in NARROW]
    services_s = st.sampled_from([0.0, 1e-4, 0.01, 0.5])
    sessions = {
        "arrivals_per_s": st.sampled_from([0.1, 0.5]),
        "length_s": st.sampled_from([5.0, 30.0]),
        "length": st.sampled_from(["exponential", "constant"]),
    }
    values = {
        "transport": "websocket",
        "clients": draw(st.sampled_from([1, 3, 8, 20, 40])),
        "ramp_s": draw(st.sampled_from([0.0, 3.0, 10.0])),
        "horizon_s": horizon_s,
        "bin_s": draw(st.sampled_from([0.3, 1.0, 50.0])),
        "warm_up_s": draw(st.sampled_from([0.0, 7.0])),
        "updates": draw(
            st.fixed_dictionaries({"rate_per_s": st.sampled_from([0.0, 0.05, 0.5])})
            | st.fixed_dictionaries({"kind": st.just("times"), "publish_s": PUBLISH_S})
        ),
        "sessions": draw(st.none() | st.fixed_dictionaries(sessions)),
        "websocket": {
            "push": draw(st.sampled_from(["delta", "snapshot"])),
            "resync": draw(st.sampled_from(["none", "snapshot"])),
            "open_timeout_s": draw(st.sampled_from([0.2, 3.0, 20.0])),
        },
        "heartbeat": {
            "direction": draw(st.sampled_from(DIRECTIONS)),
            "interval_s": draw(st.sampled_from([1.5, 2.0, 2.5, 5.0])),
            "timeout_s": draw(st.sampled_from([0.6, 1.0, 2.0, 2.5, 5.0, 20.0])),
            "closing_s": draw(st.sampled_from([0.0, 0.0, 1.5])),
        },
        "reconnect": draw(policy),
        "drag": draw(activity),
        "hidden": draw(activity),
        "network": {
            **draw(paths),
            "tls": draw(st.booleans()),
            "unanswered_s": draw(st.sampled_from([3.0, 900.0])),
        },
        "server": {
            "heartbeat_s": draw(st.sampled_from([0.0, 0.0, 1e-4, 0.01, 0.5])),
            **{name: draw(services_s) for name in ("accept_s", "handshake_s", "authenticate_s")},
            "send_s": draw(st.sampled_from([0.0, 1e-4, 0.01, 0.1])),
            "shed_wait_s": draw(st.sampled_from([None, 0.2])),
        },
        "faults": found,
    }
    unit_s = draw(st.sampled_from([1.0, 1.0, 0.628709007359844, 1.0 / 3.0]))
    try:
        return sl.Scenario(**_in_units_of(unit_s, values))
    except sl.ScenarioError:  # rounded, a fault ends after the horizon
        return sl.Scenario(**values)


@settings(max_examples=2 * EXAMPLES)
@given(scenario=beating(), seed=st.integers(0, 2**64 - 1), kept=st.booleans())
def test_engines_agree_on_heartbeats_that_go_round(scenario, seed, kept):
    assert_equal_runs(scenario, seed=seed, keep=("deliveries",) if kept else ())


@settings(max_examples=2 * EXAMPLES)
@given(scenario=beating(APART), seed=st.integers(0, 2**64 - 1), kept=st.booleans())
def test_engines_agree_on_heartbeats_of_clients_that_are_not_equally_far(scenario, seed, kept):
    assert_equal_runs(scenario, seed=seed, keep=("deliveries",) if kept else ())


@settings(max_examples=EXAMPLES)
@given(
    scenario=beating(ALIKE | APART),
    percents=PERCENTS,
    closes=st.booleans(),
    back=st.sampled_from((1, -1)),
)
def test_engines_agree_on_heartbeats_that_go_round_in_a_rollout(scenario, percents, closes, back):
    transports = (int(Transport.POLLING), int(Transport.WEBSOCKET))[::back]
    flag = FlagRules(int(Propagation.POLLED), 7.0, 0.0, 0.0, closes, 5.0, 0.0, transports)
    assert_equal_rollouts(scenario, flag, percents)


@pytest.mark.parametrize("from_clients", [0, 1_000_000])
@pytest.mark.parametrize("spread", [0.0, 0.3])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_heartbeats_that_nothing_disturbs_go_round(
    direction, spread, from_clients, rounds, monkeypatch
):
    monkeypatch.setattr(variants, "FROM_CLIENTS", from_clients)
    board = BOARD.replace({"heartbeat.direction": direction, "network.rtt_spread": spread})
    run = assert_equal_runs(board)
    heartbeats = run.columns("timeline")["heartbeats"].sum()
    assert heartbeats - 40 <= rounds[0] < heartbeats


DISTURBED = {
    "sessions": {"sessions": {"arrivals_per_s": 0.5, "length_s": 10.0}},
    "hidden": {"hidden": {"every_s": 9.0, "length_s": 4.0}},
    "drag": {"drag": {"every_s": 5.0, "length_s": 2.0}},
    "reset": {"faults": [{"kind": "reset", "start_s": 20.01, "share": 0.5}]},
    "restart": {"faults": [{"kind": "restart", "start_s": 20.0, "length_s": 5.0}]},
    "path_loss": {"faults": [{"kind": "path_loss", "start_s": 20.0, "length_s": 9.0}]},
    "lifetime": {
        "faults": [{"kind": "lifetime", "start_s": 10.0, "length_s": 30.0, "age_s": 15.0}]
    },
    "late": {"server.heartbeat_s": 0.06, "heartbeat.timeout_s": 0.5},
    "slow broadcasts": {"server.send_s": 0.2, "heartbeat.timeout_s": 1.5},
    "at once": {
        "network.rtt_s": 0.0,
        "ramp_s": 0.0,
        "server.heartbeat_s": 0.0,
        "heartbeat.timeout_s": 2.0,
    },
    "round": {"network.rtt_s": 1.0, "ramp_s": 0.0, "server.heartbeat_s": 0.0},
}


@pytest.mark.parametrize("spread", [0.0, 0.3])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("what", DISTURBED)
def test_engines_agree_on_heartbeats_that_are_disturbed(what, direction, spread, rounds):
    board = BOARD.replace({**DISTURBED[what], "heartbeat.direction": direction})
    board = board.replace({"network.rtt_spread": spread})
    for seed in range(2):
        assert_equal_runs(board, seed=seed)
    assert min(rounds) > 50


@pytest.mark.parametrize(
    "changes",
    [
        {"heartbeat.direction": "none"},
        {"heartbeat.any_message": True},
        {"heartbeat.interval_s": 0.04},
        {"network.rtt_s": 3.0, "network.rtt_spread": 0.01},
        {"network.idle_s": 5.0},
        {"server.service": "exponential"},
        {"server.workers": 2},
        {"server.nodes": 2},
        {"websocket.safety_poll_s": 7.0},
        {"transport": "sse"},
        {"faults": [{"kind": "latency", "start_s": 5.0, "length_s": 1.0, "added_s": 0.1}]},
    ],
    ids=str,
)
def test_heartbeats_that_differ_do_not_go_round(changes, rounds):
    assert_equal_runs(BOARD.replace({"clients": 5, "horizon_s": 20.0, **changes}))
    assert rounds == [0]


SILENT = {"updates": {"rate_per_s": 0.0}}


def test_an_alarm_that_is_due_with_the_one_before_is_that_one(rounds):
    ties = {"network.rtt_s": 0.5, "ramp_s": 0.0, "server.heartbeat_s": 0.0, **SILENT}
    heartbeat = {"direction": "client", "interval_s": 2.0, "timeout_s": 2.5}
    assert_equal_runs(BOARD.replace({**ties, "heartbeat": heartbeat}))
    assert rounds == [0]


LATTICE = {
    "clients": 1,
    "ramp_s": 0.0,
    "horizon_s": 30.0,
    "network": {"rtt_s": 1.0, "rtt_spread": 0.0, "tls": False},
    "websocket": {"push": "snapshot", "resync": "none"},
    "server": {
        **dict.fromkeys(("handshake_s", "authenticate_s", "send_s", "fan_out_s", "accept_s"), 0.0),
        "heartbeat_s": 0.125,
    },
}


@pytest.mark.parametrize("timeout_s", [2.0, 5.0, 6.25])
@pytest.mark.parametrize("open_timeout_s", [17.5, 20.0])
def test_a_former_alarm_that_is_due_with_the_present_one_fires(open_timeout_s, timeout_s):
    """It has an earlier word: its ping reaches the worker before a change that is due with it."""
    board = BOARD.replace(LATTICE).replace(
        {
            "heartbeat": {"direction": "client", "interval_s": 2.0, "timeout_s": timeout_s},
            "websocket.open_timeout_s": open_timeout_s,
            "updates": {"kind": "times", "publish_s": [10.0, 14.0, 17.5, 18.0]},
        }
    )
    assert_equal_runs(board)


@pytest.mark.parametrize(("interval_s", "timeout_s"), [(2.0, 8.0), (8.0, 8.0), (4.0, 3.0)])
@pytest.mark.parametrize("wait_s", [0.5, 1.0, 1.5, 2.5, 3.0, 5.5])
def test_a_former_alarm_that_is_due_with_a_retry_fires(interval_s, timeout_s, wait_s):
    times_s = [15.0, *(0.5 * step for step in range(39, 54))]
    board = BOARD.replace(LATTICE).replace(
        {
            "clients": 2,
            "server.heartbeat_s": 0.0,
            "server.accept_s": 0.125,
            "heartbeat": {"direction": "server", "interval_s": interval_s, "timeout_s": timeout_s},
            "reconnect": {"policy": "fixed", "base_s": wait_s, "cap_s": wait_s},
            "websocket.open_timeout_s": 50.0,
            "updates": {"kind": "times", "publish_s": times_s},
            "faults": [{"kind": "reset", "start_s": 19.0, "share": 0.5}],
        }
    )
    assert_equal_runs(board)


@pytest.mark.parametrize("spread", [0.0, 0.3])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_nothing_is_counted_that_has_not_happened(direction, spread):
    board = BOARD.replace({"heartbeat.direction": direction, "server.heartbeat_s": 0.01})
    board = board.replace({"network.rtt_spread": spread})
    board = board.replace({"reconnect.policy": "fixed"})  # folded attempts are counted at their end
    workload = compile_workload(board, 3, 0)
    records = [new_record(board, workload) for _ in range(2)]
    pair = [
        engine.Simulation(workload, record)
        for engine, record in zip((reference, compiled), records, strict=True)
    ]
    for step in range(1, 400):
        for simulation in pair:
            simulation.run_until(0.123 * step)
        for name in ("bins", "messages", "busy_s"):
            np.testing.assert_array_equal(*(getattr(record, name) for record in records))


@pytest.mark.parametrize("rtt_spread", [0.0, 0.3])
def test_a_fault_finds_room_for_all_whose_heartbeats_go_round(rtt_spread):
    """The event list holds each member's events again, whatever room happens to be left."""
    for clients in range(40, 1500, 97):
        board = sl.Scenario(
            transport="websocket",
            updates={"rate_per_s": 0.1},
            clients=clients,
            horizon_s=70.0,
            network={"rtt_spread": rtt_spread},
            faults=[{"kind": "restart", "start_s": 60.0, "length_s": 5.0}],
        ).replace(sl.library("websockets"))
        run = sl.simulate(board, engine="compiled", progress=False)
        assert run.is_complete
