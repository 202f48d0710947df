"""What `replace` is given: copied, checked in one way for scenarios and plans."""

from __future__ import annotations

import sys
from collections import OrderedDict
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import simlib as sl
from simlib.errors import ScenarioError, shown
from simlib.scenario.model import _paths
from tests import mutations

SCENARIO = sl.Scenario(updates={"rate_per_s": 0.1})
PLAN = sl.Plan(flag={"propagation": "pushed"}, guardrails=[{"metric": "latency_p95_s", "below": 1}])
PATHS = {
    "scenario": (SCENARIO, list(_paths())),
    "plan": (PLAN, mutations.paths_of(PLAN)),
}


@pytest.mark.parametrize("name", mutations.ODD)
@pytest.mark.parametrize("whole", PATHS)
def test_a_value_that_nobody_would_pass_is_an_error_of_simlibs(whole, name):
    """A value may be right for a few fields, such as text; it never fails in another way."""
    base, paths = PATHS[whole]
    first = list(mutations.ODD).index(name) % 9  # the script tries them all
    for path in [*paths[first::9], "treatment.changes.clients", "stages.*", "", ".", "a" * 10_000]:
        outcome, detail, _, _ = mutations.attempt(
            lambda: base.replace({path: mutations.ODD[name]()})  # noqa: B023
        )
        assert outcome in ("valid", "ScenarioError"), (path, detail)


@pytest.mark.parametrize("base", [SCENARIO, PLAN], ids=["scenario", "plan"])
@pytest.mark.parametrize(
    "changes", [5, "clients", [("name", "x")], {5: 3}, {None: 3}, {("a", "b"): 1}, {b"name": "x"}]
)
def test_changes_that_are_no_mapping_of_texts_are_refused_alike(base, changes):
    with pytest.raises(ScenarioError, match=r"^changes: must (be a mapping|have paths)"):
        base.replace(changes)


@pytest.mark.parametrize("base", [SCENARIO, PLAN], ids=["scenario", "plan"])
def test_no_changes_give_an_equal_one(base):
    assert base.replace() == base.replace({}) == base.replace(None) == base
    assert base.replace(OrderedDict(name="x")).name == "x"


def test_what_is_given_is_left_alone():
    stages = [{"percent": 50.0, "bake_s": 60.0}, {"percent": 100.0, "bake_s": 60.0}]
    changes = {"polling": {"interval_s": 5.0}}
    plan = PLAN.replace(
        {
            "stages": stages,
            "stages.*.bake_s": 90.0,
            "treatment": {"transport": "polling", "changes": changes},
            "treatment.changes.clients": 5,
        }
    )
    assert [stage.bake_s for stage in plan.stages] == [90.0, 90.0]
    assert stages[0]["bake_s"] == 60.0
    assert changes == {"polling": {"interval_s": 5.0}}
    changes["polling"]["interval_s"] = 9.0
    assert plan.treatment.changes["polling"] == {"interval_s": 5.0}


def test_sections_may_be_given_where_tables_may():
    fast = sl.Scenario(updates={"rate_per_s": 1.0}, polling={"interval_s": 5.0})
    faults = [{"kind": "reset", "start_s": 5.0}]
    broken = SCENARIO.replace(faults=faults)
    assert SCENARIO.replace(polling=fast.polling).polling == fast.polling
    assert SCENARIO.replace(faults=list(broken.faults)) == broken
    assert PLAN.replace({"stages": list(PLAN.stages), "treatment": PLAN.treatment}) == PLAN


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (nested(9), "at most 8 levels deep"),
        (nested(50_000), "at most 8 levels deep"),
        ([1] * 10_000, "at most 10000 values"),
        (float("nan"), "must be finite"),
        (2**63, "must be at most"),
        (10**5000, "must be at most"),
        ("\ud800", "must be valid Unicode"),
        ({5: 1}, "must have text for keys"),
        (np.int64(5), "must be text, a number"),
        (Path("x"), "must be text, a number"),
        (sys, "must be text, a number"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_changes_of_a_variant_are_what_a_file_can_say(value, rule):
    for change in (
        lambda: PLAN.replace({"treatment.changes.clients": value}),
        lambda: sl.Plan(
            flag=PLAN.flag, treatment={"transport": "polling", "changes": {"clients": value}}
        ),
    ):
        with pytest.raises(ScenarioError, match=rule):
            change()


class Hostile:
    def __repr__(self):
        raise RuntimeError("no")


class Long:
    def __repr__(self):
        return "x" * 10**6


@pytest.mark.parametrize(
    "value",
    [
        *(Hostile(), Long(), [Hostile()], nested(50_000), 10**5000),
        *(pd.DataFrame({"a": range(1000)}), mutations.ODD["a list that explodes"]()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_shown_of_a_value_is_short_and_never_raises(value):
    assert 0 < len(shown(value)) <= 80 + len("a value of type ")
    error = ScenarioError("p" * 10**6, value, "r" * 10**6)
    assert len(str(error)) < 2500


@pytest.mark.parametrize(
    "value",
    [[], (), {}, (1,), (1, 2), [[1], (2,), {"a": [None]}], {"a": 1, 5: (2.5, "b")}, "x", b"x", {1}],
    ids=repr,
)
def test_what_is_short_is_shown_as_python_shows_it(value):
    assert shown(value) == repr(value)
    assert shown([value] * 50) == repr([value] * 50)[:77] + "..."


# Values of a wrong type for most fields, one of each kind that TOML, JSON or Python has.
WRONG = [5, -1, 2.5, True, "many", [], [1], ["a"], {}, {"a": 1}, {5: 1}, b"x", 1j, Decimal(1), ()]
MODEL_WORDS = ("must ", "has no meaning", "is not a known field", "cannot ")


@pytest.mark.filterwarnings("ignore:polling.etag = true:FutureWarning")
@pytest.mark.parametrize("whole", PATHS)
def test_every_wrong_value_is_refused_in_simlibs_own_words(whole):
    base, paths = PATHS[whole]
    rules = {}
    for path in paths:
        for number, value in enumerate(WRONG):
            try:
                base.replace({path: value})
            except ScenarioError as error:
                rules[path, number] = error.rule
    assert [at for at, rule in rules.items() if not rule.startswith(MODEL_WORDS)] == []
    assert len(set(rules.values())) > 20


def test_a_table_where_a_list_is_meant_says_so():
    with pytest.raises(ScenarioError, match=r"^faults: must be a list, got \{"):
        sl.Scenario(updates={"rate_per_s": 1.0}, faults={"kind": "reset", "start_s": 5})
    with pytest.raises(ScenarioError, match=r"^stages: must be a list, got \{"):
        PLAN.replace(stages={"percent": 5, "bake_s": 60})


def test_whole_numbers_and_booleans_of_numpy_are_taken_as_pythons():
    given = {"clients": np.int64(3), "server.nodes": np.int8(2), "network.tls": np.bool_(False)}
    changed = SCENARIO.replace(given)
    assert changed == SCENARIO.replace({"clients": 3, "server.nodes": 2, "network.tls": False})
    assert type(changed.clients) is int
    with pytest.raises(sl.ScenarioError, match="clients: must be a whole number"):
        SCENARIO.replace(clients=np.True_)


def test_a_change_of_transport_keeps_when_clients_come_back():
    board = sl.Scenario(transport="websocket", updates={"rate_per_s": 0.1})
    assert board.replace(transport="sse").reconnect == board.reconnect
    source = board.replace({"transport": "sse", **sl.library("eventsource")})
    assert (source.reconnect.policy, source.reconnect.base_s) == ("fixed", 3.0)
