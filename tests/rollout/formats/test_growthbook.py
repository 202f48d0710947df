"""GrowthBook's ramp schedules: what is read of them, and what is refused."""

from __future__ import annotations

import pytest

from simlib.errors import ScenarioError
from tests.rollout.formats.examples import GROWTHBOOK, SAID, changed, load


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("steps", [], "steps: must hold a step"),
        ("steps.0.monitored", True, "steps.0.monitored: must be false"),
        ("steps.0.actions", [], "steps.0.actions: must set a coverage"),
        ("steps.0.actions.0.patch.coverage", 10, "coverage: must be in [0, 1]"),
        ("steps.0.actions.0.patch.condition", "{a}", "patch.condition: must be absent"),
        ("steps.0.holdConditions", {"minSampleSize": 5}, "minSampleSize: must be absent"),
        ("monitoringConfig", {"autoRollback": True}, "monitoringConfig: must be absent"),
        ("cutoffDate", "2026-01-01", "cutoffDate: must be absent"),
        ("startActions", [{"patch": {"coverage": 0.5}}], "startActions: must leave a coverage"),
    ],
)
def test_what_a_plan_cannot_say_of_a_ramp_is_refused_by_name(tmp_path, path, value, words):
    with pytest.raises(ScenarioError) as error:
        load(tmp_path, changed(GROWTHBOOK, path, value), **SAID["growthbook_ramp.json"])
    assert words in str(error.value)


def test_a_ramp_of_growthbook_leaves_its_hash_to_the_caller(tmp_path):
    plan = load(tmp_path, GROWTHBOOK, "ramp.json", **SAID["growthbook_ramp.json"], last_s=300)
    assert [(s.percent, s.bake_s, s.gate_s) for s in plan.stages] == [
        (10, 600, 0),
        (50, 600, 0),
        (100, 300, 60),
    ]
    with pytest.raises(ScenarioError, match=r"bucketing\.rule: must be given, growthbook or"):
        load(tmp_path, GROWTHBOOK, "ramp.json", gate_s=60)
    with pytest.raises(ScenarioError, match=r"bucketing\.flag: must be left to the file"):
        load(tmp_path, GROWTHBOOK, "ramp.json", gate_s=60, bucketing={"flag": "other"})
