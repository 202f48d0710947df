"""Polls go round by themselves wherever a run is cut, with the same results."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simlib as sl
from simlib.engines import simulate
from simlib.engines.compiled import variants
from simlib.engines.compiled.simulation import Simulation
from simlib.engines.wasm.image import leaves
from simlib.scenario import compile_workload, new_record
from tests.engines.test_compiled_engine import assert_equal_tables

BOARD = sl.Scenario(
    updates={"rate_per_s": 0.5}, clients=2000, horizon_s=300.0, server={"poll_s": 1e-6}
)


def run(scenario, seed=1, cuts=()):
    """A run on the compiled engine that is cut at some times."""
    workload = compile_workload(scenario, seed, 0)
    simulation = Simulation(workload, new_record(scenario, workload))
    for t in (*sorted(cuts), scenario.horizon_s):
        simulation.run_until(t)
    taken = simulation.taken
    simulation.finish()
    return simulation, taken


def differing(one, other):
    """The names of arrays that two runs do not have alike."""
    return [
        name
        for (name, ours), (_, theirs) in zip(leaves(one.world), leaves(other.world), strict=True)
        if isinstance(ours, np.ndarray) and name.partition(".")[0] == "record"
        if ours.tobytes() != theirs.tobytes()
    ]


@pytest.mark.parametrize("from_clients", [0, variants.FROM_CLIENTS], ids=["polls", "general"])
def test_rounds_begin_again_after_a_cut(from_clients):
    with mock.patch.object(variants, "FROM_CLIENTS", from_clients):
        whole, in_whole = run(BOARD)
        cut, in_cut = run(BOARD, cuts=[50.0, 100.0, 150.0, 200.0])
    assert in_whole["in_rounds"] > 0.5 * whole.events
    assert in_cut["in_rounds"] > 0.98 * in_whole["in_rounds"]
    assert differing(whole, cut) == []


@st.composite
def polled(draw):
    """A board that is polled, with what may come between its polls, and where it is cut."""
    horizon_s = draw(st.sampled_from([40.0, 120.0]))
    interval_s = draw(st.sampled_from([2.0, 10.0, 30.0]))
    changes = {
        "polling.interval_s": interval_s,
        "polling.jitter_frac": draw(st.sampled_from([0.0, 0.3])),
        "polling.etag": draw(st.sampled_from(["off", "content", "version"])),
        "network.rtt_s": draw(st.sampled_from([0.0, 0.01, 0.3, 1.5])),
        "network.tls": draw(st.booleans()),
        "server.poll_s": draw(st.sampled_from([0.0, 1e-4, 0.02, 0.2])),
        "server.accept_s": draw(st.sampled_from([0.0, 0.01])),
        "server.workers": draw(st.integers(1, 3)),
        "server.keep_alive_s": draw(st.sampled_from([1.0, 75.0])),
        "server.shed_wait_s": draw(st.sampled_from([None, 0.1])),
        "ramp_s": draw(st.sampled_from([0.0, 5.0, 30.0])),
    }
    if draw(st.booleans()):
        changes["sessions"] = {
            "arrivals_per_s": 0.5,
            "length_s": draw(st.sampled_from([3.0, 20.0])),
        }
    if draw(st.booleans()):
        changes["hidden"] = {"every_s": 15.0, "length_s": 4.0}
    if draw(st.booleans()):
        kind = draw(st.sampled_from(["restart", "path_loss", "reset"]))
        fault = {"kind": kind, "start_s": 0.4 * horizon_s}
        lasts = {} if kind == "reset" else {"length_s": 5.0}
        changes["faults"] = [{**fault, **lasts}]
    cuts = draw(st.lists(st.floats(0.0, horizon_s - 0.01), max_size=12))
    clients = draw(st.integers(3, 60))
    return BOARD.replace({"clients": clients, "horizon_s": horizon_s, **changes}), cuts


@settings(max_examples=60)
@given(case=polled(), seed=st.integers(0, 2**64 - 1))
def test_where_a_polled_run_is_cut_changes_nothing(case, seed):
    board, cuts = case
    whole, _ = run(board, seed)
    cut, _ = run(board, seed, cuts)
    assert differing(whole, cut) == []
    assert_is_the_reference_run(board, seed)


def assert_is_the_reference_run(board, seed):
    """A run in a program's main thread is cut, too: it is the other engine's."""
    ours, theirs = (simulate(board, seed=seed, engine=name) for name in ("compiled", "simpy"))
    assert_equal_tables(theirs, ours)
