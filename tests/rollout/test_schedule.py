"""Percentages that are known beforehand are those that a rollout sets."""

from __future__ import annotations

import pytest

import simlib as sl
from simlib.errors import ScenarioError
from simlib.rollout.schedule import percentages
from tests.quick import ENGINE

BOARD = sl.Scenario(updates={"rate_per_s": 0.1}, clients=20, horizon_s=300.0)
PLAN = sl.Plan(
    flag={"propagation": "polled", "every_s": 7.0},
    check_every_s=7.0,
    start_s=3.0,
    stages=[
        {"percent": 10, "bake_s": 20.0, "gate_s": 5.0},
        {"percent": 40, "bake_s": 30.0, "gate_s": 1.5},
        {"percent": 90, "bake_s": 21.0},
    ],
)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kill_s": 50.0},
        {"kill_s": 0.0},
        {"kill_s": 200.0, "decision": {"rule": "argo", "failures": 2}},
        {"start_s": 0.0, "check_every_s": 3.0},
    ],
)
def test_they_are_set_when_a_rollout_sets_them(changes):
    plan = PLAN.replace(changes)
    history = sl.roll_out(plan, BOARD, engine=ENGINE).history
    was_set = history[history["event"].isin(["started", "killed"])]
    expected = [(t, max(percent, 0.0)) for t, percent in percentages(plan, BOARD)]
    assert list(zip(was_set["t_s"], was_set["percent"], strict=True)) == expected


def test_after_the_horizon_nothing_is_set():
    assert len(percentages(PLAN, BOARD.replace(horizon_s=59.0))) == 2


def test_guardrails_are_refused_by_name():
    plan = PLAN.replace(guardrails=[{"metric": "error_rate_per_h", "below": 1.0}])
    with pytest.raises(ScenarioError, match=r"plan\.guardrails: must be none.*error_rate_per_h"):
        percentages(plan, BOARD)
