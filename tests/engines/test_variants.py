"""Which copy of the loop a run needs: a feature is never compiled out in silence."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import simlib as sl
from simlib.core.client_state import Rules
from simlib.core.server import ServerRules
from simlib.engines.compiled import variants
from simlib.engines.compiled.variants import Variant, needs_general_loop, variant_of
from simlib.scenario import Workload, compile_workload, enrolled

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


def test_cohorts_with_rules_of_their_own_go_to_a_copy_of_their_own():
    workload = compile_workload(BOARD, 1, 0)
    other = workload.rules._replace(interval_s=10.0)
    flag, buckets = sl.Plan(flag={"propagation": "session"}).flag_rules, np.zeros(3)
    one, two = (
        enrolled(workload, flag, buckets, (workload.rules, rules))
        for rules in (workload.rules, other)
    )
    assert variant_of(one) == Variant(polls=True, pushes=True)
    assert variant_of(two) == Variant(polls=True, pushes=True, varied=True)


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
    assert set(ServerRules._fields) == variants._HONOURED_SERVER


@pytest.mark.parametrize(
    "change",
    [
        {"server.nodes": 2},
        {"timer_throttling": True, "hidden": {"every_s": 60.0, "length_s": 9.0}},
        {"faults": [{"kind": "restart", "start_s": 10.0, "length_s": 5.0}]},
        {"faults": [{"kind": "latency", "start_s": 10.0, "length_s": 5.0, "added_s": 1.0}]},
        {"transport": "websocket", "websocket.safety_poll_s": 30.0},
        {"transport": "websocket", "network.idle_s": 60.0},
        {"transport": "websocket", "fallback": {"after_failures": 3}},
    ],
)
def test_what_the_narrow_copies_lack_goes_to_the_general_loop(change):
    assert variant_of(compile_workload(BOARD.replace(change), 1, 0)).is_general
