"""The compiled engine: the reference engine's tables, to the last bit."""

from __future__ import annotations

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

import simlib as sl
from tests.strategies import scenarios

ALWAYS = ("timeline", "clients", "latency", "connections")
KEPT = ("deliveries", "events")


def assert_equal_runs(scenario, *, seed=3, keep=()):
    one, other = (
        sl.simulate(scenario, seed=seed, keep=keep, engine=engine, progress=False)
        for engine in ("simpy", "compiled")
    )
    for name in (*ALWAYS, *keep):
        pd.testing.assert_frame_equal(one.frame(name), other.frame(name), check_exact=True)
    return one


@settings(max_examples=250)
@given(scenario=scenarios(), seed=st.integers(0, 2**64 - 1))
def test_engines_agree_on_scenarios_of_every_kind(scenario, seed):
    assert_equal_runs(scenario, seed=seed)


@settings(max_examples=250)
@given(scenario=scenarios())
def test_engines_agree_on_each_delivery_and_event(scenario):
    assert_equal_runs(scenario, keep=KEPT)
