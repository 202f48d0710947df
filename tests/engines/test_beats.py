"""Heartbeats that go round by themselves: SimPy's tables, to the last bit."""

from __future__ import annotations

import numba
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simlib as sl
from simlib.core.assignment import FlagRules, Propagation
from simlib.engines.compiled import simulation as compiled
from tests.engines.test_compiled_engine import assert_equal_runs
from tests.engines.test_rollouts import PERCENTS, assert_equal_rollouts
from tests.strategies import PUBLISH_S, _in_units_of, faults, reconnects

EXAMPLES = 25 if numba.config.DISABLE_JIT else 100
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


@st.composite
def beating(draw, with_faults=True) -> sl.Scenario:
    """A scenario whose heartbeats may go round by themselves, with much that disturbs them."""
    horizon_s = draw(st.sampled_from([20.0, 60.0]))
    times_s = st.sampled_from([0.5, 1.0, 2.0, 5.0, 10.0])
    activity = st.none() | st.fixed_dictionaries({"every_s": times_s, "length_s": times_s})
    policy = reconnects().filter(lambda found: found["policy"] != "actioncable")
    found = draw(faults(horizon_s, 1)) if with_faults and draw(st.booleans()) else []
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
            "rtt_s": draw(st.sampled_from([0.0, 0.04, 0.5, 1.0])),
            "rtt_spread": 0.0,
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


@settings(max_examples=4 * EXAMPLES)
@given(scenario=beating(), seed=st.integers(0, 2**64 - 1), kept=st.booleans())
def test_engines_agree_on_heartbeats_that_go_round(scenario, seed, kept):
    assert_equal_runs(scenario, seed=seed, keep=("deliveries",) if kept else ())


@settings(max_examples=EXAMPLES)
@given(scenario=beating(), percents=PERCENTS, closes=st.booleans(), where=st.integers(0, 2))
def test_engines_agree_on_heartbeats_that_go_round_in_a_rollout(scenario, percents, closes, where):
    flag = FlagRules(
        propagation=int(Propagation.POLLED),
        every_s=7.0,
        delay_s=0.0,
        cached_frac=0.0,
        closes=closes,
        window_s=5.0,
        jitter_s=0.0,
        transports=((0, 1), (1, 0), (1, 1))[where],
    )
    assert_equal_rollouts(scenario, flag, percents)
