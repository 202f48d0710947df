"""Which copy of the loop a run needs: a feature is never compiled out in silence."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import numba
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import settings as searching
from hypothesis import strategies as st
from numba._dispatcher import compute_fingerprint

import simlib as sl
from simlib.core.client_state import Rules
from simlib.core.server import ServerRules
from simlib.engines import enrolled
from simlib.engines.compiled import simulation as compiled
from simlib.engines.compiled import variants
from simlib.engines.compiled.variants import Variant, needs_general_loop, variant_of
from simlib.scenario import Workload, compile_workload, new_record
from tests.engines.test_compiled_engine import KEPT, assert_equal_tables
from tests.engines.test_rollouts import Script, flags
from tests.strategies import scenarios

BOARD = sl.Scenario(updates={"rate_per_s": 0.1}, clients=3)


def with_a_field(settings: Any) -> Any:
    """The same settings with one more, of a feature that no loop has heard of."""
    wider = NamedTuple("wider", [*((name, Any) for name in settings._fields), ("dummy", Any)])
    return wider(*settings, 1)


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_a_plain_run_goes_to_the_copy_of_its_transport(transport):
    polls = transport == "polling"
    workload = compile_workload(BOARD.replace(transport=transport), 1, 0)
    assert variant_of(workload) == Variant(polls=polls, pushes=not polls)


def test_a_rollout_goes_to_the_general_loop_whatever_rules_its_cohorts_have():
    workload = compile_workload(BOARD, 1, 0)
    other = workload.rules._replace(interval_s=10.0)
    flag, buckets = sl.Plan(flag={"propagation": "session"}).flag_rules, np.zeros(3)
    one, two = (
        enrolled(workload, flag, buckets, (workload.rules, rules))
        for rules in (workload.rules, other)
    )
    assert variant_of(one) == Variant(polls=True, pushes=True)
    assert variant_of(two) == Variant(polls=True, pushes=True)


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest.mark.parametrize("where", ["rules", "server", None])
def test_a_setting_that_is_listed_nowhere_goes_to_the_general_loop(transport, where):
    settings = compile_workload(BOARD.replace(transport=transport), 1, 0)._asdict()
    assert not needs_general_loop(settings)
    if where is None:
        settings["dummy"] = 1
    else:
        settings[where] = with_a_field(settings[where])
    assert needs_general_loop(settings)


def test_every_setting_that_is_listed_exists():
    listed = variants._HONOURED | variants._NEUTRAL.keys()
    assert listed == set(Workload._fields)
    rules = variants._HONOURED_RULES | variants._NEUTRAL_RULES.keys() | {"fallback"}
    assert rules == set(Rules._fields)
    server = variants._HONOURED_SERVER | variants._NEUTRAL_SERVER.keys()
    assert server == set(ServerRules._fields)


@pytest.mark.parametrize(
    "change",
    [
        {"server.nodes": 2},
        {"polling.timer": "fixed_rate"},
        {"polling.etag": "version"},
        {"polling.hidden_interval_s": 60.0, "polling.pause_while_hidden": False},
        {"polling.active_interval_s": 5.0, "polling.active_for_s": 60.0},
        {"server.cache_s": 1.0},
        {"transport": "websocket", "server.cache_s": 1.0},
        {"timer_throttling": True, "hidden": {"every_s": 60.0, "length_s": 9.0}},
        {"faults": [{"kind": "restart", "start_s": 10.0, "length_s": 5.0}]},
        {"faults": [{"kind": "latency", "start_s": 10.0, "length_s": 5.0, "added_s": 1.0}]},
        {"transport": "websocket", "websocket.safety_poll_s": 30.0},
        {
            "transport": "websocket",
            "websocket.safety_poll_s": 30.0,
            "websocket.safety_poll_restart": True,
        },
        {"transport": "websocket", "heartbeat.any_message": True},
        {"transport": "websocket", "reconnect": {"policy": "actioncable", "jitter_frac": 0.15}},
        {"transport": "websocket", "network.idle_s": 60.0},
        {"transport": "notify"},
        {"rate_limit": {"rate_per_s": 5.0}},
        {"network.shared_down_bytes_per_s": 1e6},
        {"transport": "websocket", "network.shared_down_bytes_per_s": 1e6},
        {"transport": "websocket", "rate_limit": {"rate_per_s": 5.0, "kind": "delay"}},
        {"transport": "websocket", "fallback": {"after_failures": 3}},
        {"transport": "websocket", "server.socket_set": "plain"},
        {"transport": "websocket", "server.meeting_fails_frac": 0.4},
    ],
)
def test_what_the_narrow_copies_lack_goes_to_the_general_loop(change):
    assert variant_of(compile_workload(BOARD.replace(change), 1, 0)).is_general


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_small_runs_go_to_the_general_loop_and_large_ones_to_their_own(monkeypatch, transport):
    workload = compile_workload(BOARD.replace(transport=transport), 1, 0)
    monkeypatch.setattr(variants, "FROM_CLIENTS", 4)
    assert variant_of(workload).is_general
    monkeypatch.setattr(variants, "FROM_CLIENTS", 3)
    assert not variant_of(workload).is_general


NARROW = {
    "faults": [],
    "fallback": None,
    "rate_limit": None,
    "polling.timer": "after_answer",
    "polling.hidden_interval_s": None,
    "polling.active_interval_s": None,
    "polling.active_for_s": None,
    "websocket.safety_poll_s": None,
    "websocket.safety_poll_restart": False,
    "timer_throttling": False,
    "heartbeat.any_message": False,
    "network.idle_s": None,
    "network.stream_buffer_bytes": None,
    "network.stream_delay_s": None,
    "network.stream_held_frac": 0.0,
    "network.connections_per_user": None,
    "sse.streams_per_tab": 1,
    "network.shared_down_bytes_per_s": None,
    "server.nodes": 1,
    "server.workers": 1,
    "server.cache_s": 0.0,
}


@searching(max_examples=25 if numba.config.DISABLE_JIT else 60)
@given(scenario=scenarios(), transport=st.sampled_from(["polling", "websocket"]))
def test_the_general_loop_gives_what_the_others_give(scenario, transport):
    scenario = scenario.replace({**NARROW, "transport": transport})
    assume(not needs_general_loop(compile_workload(scenario, 1, 0)._asdict()))
    own = sl.simulate(scenario, keep=KEPT, engine="compiled", progress=False)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(variants, "FROM_CLIENTS", 10**9)
        general = sl.simulate(scenario, keep=KEPT, engine="compiled", progress=False)
    assert_equal_tables(own, general, KEPT)


def test_no_copy_of_the_loop_is_compiled_twice(monkeypatch):
    # Numba compiles a function anew for each type of its arguments; nothing is compiled here.
    monkeypatch.setattr(compiled, "loops_of", lambda _variant: None)
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 0)
    types = defaultdict(set)

    @searching(max_examples=50)
    @given(scenario=scenarios(), flag=st.none() | flags(), keep=st.sampled_from([(), KEPT]))
    def run_any(scenario, flag, keep):
        add(scenario, flag, keep)

    def add(scenario, flag=None, keep=()):
        workload = compile_workload(scenario, 1, 0)
        if flag is not None:
            workload = enrolled(workload, flag, Script(flag, []).buckets(workload))
        record = new_record(scenario, workload, keep)
        world = compiled.Simulation(workload, record)._world
        assert len(record.clients) == len(record.traffic) == len(workload.start_s)
        types[variant_of(workload)].add(numba.typeof(world))
        # Raises an error if numba cannot tell the type without working it out, call for call.
        assert compute_fingerprint(world)

    for clients in (1, 2, 3):
        for change in ({}, {"transport": "websocket"}, {"server.nodes": 2}):
            add(BOARD.replace({"clients": clients, **change}))
    run_any()
    assert [len(kinds) for kinds in types.values()] == [1, 1, 1]
