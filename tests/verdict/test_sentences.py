"""What break-evens say, in sentences: the numbers are the tables', and so are the candidates."""

from __future__ import annotations

import pytest

import simlib as sl
from simlib.verdict import break_even, sentence_of, turning_points
from tests.quick import QUICK

BOARD = sl.Scenario(
    name="small",
    updates={"rate_per_s": 0.1},
    clients=8,
    ramp_s=20.0,
    warm_up_s=30.0,
    horizon_s=240.0,
    cool_down_s=30.0,
)
RATE, STALENESS = "updates.rate_per_s", "needs.latency_p95_s"


@pytest.fixture(scope="module")
def decision():
    names = ["poll_etag", "push", "push_snapshots"]
    return sl.decide(BOARD, {"latency_p95_s": 5.0}, candidates=names, **QUICK)


def test_of_a_setting_it_says_how_far_that_is_from_the_crossing_and_what_needs_say(decision):
    table = break_even(decision, RATE, one="push", other="today")
    value = table["value"].iloc[0]
    said = sentence_of(table)
    assert said.startswith(f"For {RATE} up to {value:.3g}, {value / 0.1:.3g} times the 0.100 here")
    assert "push of deltas takes less than as it is today (bytes a client and hour)" in said
    assert said.endswith("But as it is today misses a need as it is (95 % staleness).")


def test_of_a_setting_without_a_crossing_it_says_from_where_to_where(decision):
    table = break_even(decision, "network.rtt_s", one="push", other="today")
    assert len(table) == 0
    said = sentence_of(table)
    assert said.startswith("For network.rtt_s from ")
    assert "push of deltas takes less than as it is today all along" in said


def test_of_a_need_it_says_between_which_limits_the_verdict_stays(decision):
    assert decision.best == "push"
    tight = sentence_of(break_even(decision, STALENESS))
    assert tight.startswith(f"With {STALENESS} at 5 s the verdict is push of deltas: it stays that")
    assert "below which it is none, for none meets every need, and however loose it is." in tight
    impossible = decision.with_needs({"latency_p95_s": 1e-4})
    none = sentence_of(break_even(impossible, STALENESS))
    assert "the verdict is none, for none meets every need: it stays that however tight it" in none
    assert "from which on it is push of deltas." in none


def test_turning_points_are_of_every_limit_and_of_the_settings_that_are_named(decision):
    said = turning_points(decision, RATE)
    assert said == [sentence_of(break_even(decision, over)) for over in (STALENESS, RATE)]
    needs = {"latency_p95_s": 5.0, "utilisation": 0.5, "nodes": 2}
    by_nodes = sl.decide(BOARD, needs, candidates=["push"], **QUICK)
    assert len(turning_points(by_nodes)) == 1


def test_what_is_no_such_table_is_refused(decision):
    with pytest.raises(sl.ScenarioError, match=r"table: must be a table from verdict\.tornado or"):
        sentence_of(decision.table)
