"""A prediction beside its measurement."""

from __future__ import annotations

import pytest

import simlib as sl
from simlib.analysis.agreement import compare

BOARD = sl.Scenario(
    updates={"rate_per_s": 0.5}, clients=30, horizon_s=200.0, warm_up_s=40.0, cool_down_s=40.0
)


@pytest.fixture(scope="module")
def runs():
    push = BOARD.replace(transport="websocket")
    return [*sl.replicate(BOARD, 2, progress=False), sl.simulate(push, progress=False)]


def standing_in(measured, predicted):
    """A run that passes for a measurement of what `predicted` simulated."""
    keys = ("scenario_hash", "seed", "replication")
    same = {key: predicted.provenance[key] for key in keys}
    about = {**measured.provenance, **same, "engine": "live"}
    return sl.Run(measured.scenario, about, measured._tables)


def test_compare_marks_what_is_outside_its_bar(runs):
    same = compare(runs[0], standing_in(runs[0], runs[0]))
    assert (same["error"] == 0).all()
    assert same["verdict"].tolist()[:3] == ["within"] * 3
    slower = sl.simulate(BOARD.replace({"polling.interval_s": 45.0}), progress=False)
    slower = standing_in(slower, runs[0])
    assert compare(runs[0], slower)["verdict"].iloc[0] == "outside"
    slower.provenance["quiet"] = False
    assert compare(runs[0], slower)["verdict"].iloc[0] == "inconclusive"


@pytest.mark.parametrize(("other", "what"), [(1, "replication"), (2, "scenario_hash")])
def test_only_runs_of_one_scenario_and_seed_are_compared(runs, other, what):
    with pytest.raises(sl.ScenarioError, match=f"must have the same {what}"):
        compare(runs[0], standing_in(runs[other], runs[other]))


def test_a_prediction_and_a_measurement_are_not_taken_for_each_other(runs):
    measured = standing_in(runs[0], runs[0])
    with pytest.raises(sl.ScenarioError, match=r"measured: must be what measure\(...\) returns"):
        compare(runs[0], runs[0])
    with pytest.raises(sl.ScenarioError, match=r"predicted: must be what simulate\(...\) returns"):
        compare(measured, measured)
