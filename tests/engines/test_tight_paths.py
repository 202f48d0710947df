"""Paths of the compiled engine that take what nothing disturbs: the same bits, and really taken.

Scenarios of every kind hardly ever come there, so these are aimed. Each test sums up how often the
path was taken: one that nobody takes any more would be equal, and tested no more.
"""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import simlib as sl
from simlib.core.assignment import FlagRules, Propagation
from simlib.core.protocol import Transport
from simlib.engines import enrolled, simulate
from simlib.engines.compiled import simulation as compiled
from simlib.engines.compiled.state import BLOCK
from simlib.scenario import compile_workload, new_record
from tests.engines.test_compiled_engine import assert_equal_tables
from tests.engines.test_rollouts import POLLED, Script

INTERPRETED = bool(numba.config.DISABLE_JIT)
EXAMPLES = 20 if INTERPRETED else 40
SLOW = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture
def taken(monkeypatch):
    """How often the paths were taken by all compiled runs of a test."""
    found = {"at_once": 0, "in_turn": 0}
    finish = compiled.Simulation.finish

    def counted(simulation):
        state = simulation._world.arrays.state
        for name in found:
            found[name] += int(state[name][0])
        finish(simulation)

    monkeypatch.setattr(compiled.Simulation, "finish", counted)
    return found


UPDATES = st.one_of(
    st.fixed_dictionaries({"rate_per_s": st.sampled_from([0.1, 0.5, 1.0])}),
    st.just({"kind": "bursts", "rate_per_s": 0.1, "burst_size": 3, "burst_gap_s": 0.01}),
    st.just({"kind": "times", "publish_s": [3.0, 3.0, 7.5, 11.0, 20.0, 29.0]}),
)
BOARDS = st.fixed_dictionaries(
    {
        "clients": st.sampled_from([3, 20, 60, 2 * BLOCK + 30]),
        "ramp_s": st.sampled_from([0.0, 1.0, 10.0]),
        "horizon_s": st.sampled_from([20.0, 40.0]),
        "warm_up_s": st.sampled_from([0.0, 7.0]),
        "cool_down_s": st.sampled_from([0.0, 5.0]),
        "bin_s": st.sampled_from([0.3, 1.0, 50.0]),
        "updates": UPDATES,
        "sessions": st.sampled_from(
            [None, None, {"arrivals_per_s": 1.0, "length_s": 6.0, "length": "exponential"}]
        ),
        "polling": st.fixed_dictionaries(
            {
                "interval_s": st.sampled_from([1.0, 3.0, 7.0]),
                "jitter_frac": st.sampled_from([0.0, 0.3]),
                "etag": st.sampled_from(["off", "content"]),
            }
        ),
        "websocket": st.sampled_from(
            [
                {"push": "delta", "resync": "none"},
                {"push": "delta", "resync": "snapshot"},
                {"push": "delta", "resync": "replay", "replay_changes": 5},
                {"push": "snapshot", "resync": "none"},
            ]
        ),
        "heartbeat": st.fixed_dictionaries(
            {
                "direction": st.sampled_from(["none", "none", "server", "client"]),
                "interval_s": st.sampled_from([2.0, 25.0]),
                "timeout_s": st.sampled_from([0.5, 20.0]),
                "any_message": st.sampled_from([False, False, True]),
            }
        ),
        "reconnect": st.just({"policy": "full_jitter", "base_s": 0.5, "cap_s": 2.0}),
        "fallback": st.sampled_from([None, None, {"after_failures": 1, "return_s": 5.0}]),
        "network": st.fixed_dictionaries(
            {
                "rtt_s": st.sampled_from([0.0, 0.04, 1.0]),
                "rtt_spread": st.sampled_from([0.0, 0.0, 0.0, 0.5]),
            }
        ),
        "server": st.fixed_dictionaries(
            {
                "workers": st.sampled_from([1, 1, 1, 2]),
                "nodes": st.sampled_from([1, 1, 1, 2]),
                "service": st.sampled_from(["constant", "constant", "constant", "exponential"]),
                "hop_s": st.sampled_from([0.0, 1e-3, 0.5]),
                "broker_s": st.sampled_from([0.0, 0.5]),
                "send_s": st.sampled_from([0.0, 1e-4, 0.003, 0.05]),
                "fan_out_s": st.sampled_from([0.0, 0.01]),
                "poll_s": st.sampled_from([0.0, 1e-3, 0.3]),
                "accept_s": st.sampled_from([0.0, 1e-3]),
                "shed_wait_s": st.sampled_from([None, None, 0.2]),
                "keep_alive_s": st.sampled_from([75.0, 75.0, 2.0]),
            }
        ),
        "faults": st.sampled_from(
            [
                [],
                [],
                [],
                [{"kind": "reset", "start_s": 6.0, "share": 0.5}],
                [{"kind": "restart", "start_s": 6.0, "length_s": 1.0}],
                [{"kind": "drain", "start_s": 5.0, "length_s": 5.0, "batches": 2}],
                [{"kind": "path_loss", "start_s": 6.0, "length_s": 3.0, "share": 0.5}],
            ]
        ),
    }
)
SOCKETS = st.sampled_from(["websocket", "websocket", "sse"])
COHORTS = st.sampled_from(
    [
        *[(Transport.POLLING, Transport.WEBSOCKET)] * 3,
        (Transport.POLLING, Transport.SSE),
        (Transport.WEBSOCKET, Transport.WEBSOCKET),
        (Transport.WEBSOCKET, Transport.SSE),
        (Transport.SSE, Transport.LONG_POLLING),
        (Transport.NOTIFY, Transport.WEBSOCKET),
    ]
)
FLAGS = st.builds(
    FlagRules,
    propagation=st.sampled_from([int(each) for each in Propagation]),
    every_s=st.sampled_from([0.5, 7.0, 30.0]),
    delay_s=st.sampled_from([0.0, 3.0]),
    cached_frac=st.sampled_from([0.5, 1.0]),
    closes=st.booleans(),
    window_s=st.sampled_from([0.0, 5.0]),
    jitter_s=st.sampled_from([0.0, 4.0]),
    transports=COHORTS.map(lambda pair: tuple(map(int, pair))),
)
PERCENTS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.0, 4.0, 7.5, 12.0, 18.0]), st.sampled_from([0.0, 20.0, 60.0, 100.0])
    ),
    min_size=1,
    max_size=5,
).map(lambda steps: sorted(steps, key=lambda step: step[0]))
TREATMENTS = st.sampled_from(
    [
        None,
        None,
        {"heartbeat.interval_s": 5.0},
        {"heartbeat.any_message": True},
        {"polling.interval_s": 2.0, "polling.jitter_frac": 0.1},
        {"websocket.safety_poll_s": 3.0},
    ]
)


def assert_equal(board, tables=(), controller_of=lambda: None):
    runs = [
        simulate(board, seed=5, engine=engine, progress=False, controller=controller_of())
        for engine in ("simpy", "compiled")
    ]
    assert_equal_tables(*runs, tables)
    return runs[1]


def as_board(values, **more):
    try:
        return sl.Scenario(**{**values, **more})
    except sl.ScenarioError as error:
        raise AssertionError(values) from error


def test_broadcasts_by_blocks_are_equal(taken):
    @SLOW
    @given(values=BOARDS, transport=SOCKETS)
    def agrees(values, transport):
        if transport == "sse" and values["heartbeat"]["direction"] == "client":
            values = {**values, "heartbeat": {**values["heartbeat"], "direction": "server"}}
        assert_equal(as_board(values, transport=transport))

    agrees()
    assert taken["at_once"] > 100 * EXAMPLES


def test_rollouts_beside_tight_paths_are_equal(taken):
    @SLOW
    @given(values=BOARDS, flag=FLAGS, percents=PERCENTS, changes=TREATMENTS)
    def agrees(values, flag, percents, changes):
        board = as_board({**values, "heartbeat": pings_for(values, flag)})
        treatment = board.replace(changes) if changes else None
        assert_equal(board, ("exposures",), lambda: Script(flag, percents, treatment=treatment))

    agrees()
    assert taken["at_once"] > 10 * EXAMPLES
    assert taken["in_turn"] > 100 * EXAMPLES


def pings_for(values, flag):
    """Streams have no pings of their clients."""
    pings = values["heartbeat"]
    if int(Transport.SSE) in flag.transports and pings["direction"] == "client":
        return {**pings, "direction": "server"}
    return pings


@SLOW
@given(values=BOARDS, flag=FLAGS, percents=PERCENTS)
def test_what_a_block_sums_up_is_never_too_late(values, flag, percents):
    """At any time, of each block: who is in it, until when, since when and of which cohort."""
    board = as_board({**values, "heartbeat": pings_for(values, flag)})
    workload = compile_workload(board, 5, 0)
    script = Script(flag, percents)
    rules = script.cohort_rules(board, workload)
    workload = enrolled(workload, flag, script.buckets(workload), rules)
    simulation = compiled.Simulation(workload, new_record(board, workload))
    steps = sorted({*np.arange(0.5, board.horizon_s, 1.5), *(t for t, _ in percents)})
    for t in steps:
        simulation.run_until(t)
        while script.due_s() <= t:
            simulation.set_percentage(script.observe(None))
        assert_sums_up(simulation._world)


def assert_sums_up(world):
    arrays, record = world.arrays, world.record
    order = arrays.order[: int(arrays.state["slots"][0])]
    for index, first in enumerate(range(0, len(order), BLOCK)):
        block, places = arrays.blocks[index], slice(first, first + BLOCK)
        numbers, until_s = order[places], arrays.undisturbed_until_s[: len(order)][places]
        assert block["listeners"] == (numbers >= 0).sum()
        assert block["least_s"] <= until_s.min()
        served = numbers[(numbers >= 0) & (until_s > -np.inf)]
        if len(served) and block["cohort"] >= 0:
            assert (record.cohort[served] == block["cohort"]).all()
        if len(served):
            assert block["exposed_s"] >= record.cohort_s[served].max()


def test_most_messages_are_counted_at_once_and_most_polls_handled_in_turn(taken):
    board = sl.Scenario(
        clients=400,
        ramp_s=5.0,
        horizon_s=120.0,
        updates={"rate_per_s": 0.5},
        polling={"interval_s": 5},
    )
    script = Script(POLLED._replace(every_s=10.0), [(0.0, 0.0), (30.0, 50.0), (60.0, 100.0)])
    run = simulate(board, engine="compiled", progress=False, controller=script)
    timeline = run.frame("timeline")
    assert taken["at_once"] > 0.9 * timeline["messages"].sum()
    assert taken["in_turn"] > 0.8 * 3 * timeline["polls"].sum()


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_holes_in_the_list_do_not_keep_others_from_being_served_at_once(taken, spread):
    """Half of the sessions end, one by one, and nobody comes after them."""
    board = sl.Scenario(
        transport="websocket",
        clients=3 * BLOCK,
        ramp_s=1.0,
        horizon_s=60.0,
        updates={"rate_per_s": 1.0},
        heartbeat={"direction": "none"},
        faults=[
            {"kind": "block_upgrades", "start_s": 10.0, "length_s": 50.0},
            {"kind": "reset", "start_s": 20.0, "share": 0.5},
        ],
        network={"rtt_spread": spread},
    )
    run = assert_equal(board)
    messages = run.frame("clients")["messages"].sum()
    assert messages - taken["at_once"] < 3 * BLOCK * 3
