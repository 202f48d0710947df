"""GrowthBook's ramp schedules: what is read of them, and what is refused."""

from __future__ import annotations

import pytest

from simlib.errors import ScenarioError
from tests.rollout.formats.examples import GROWTHBOOK, SAID, changed, load


def action(coverage):
    patch = {"ruleId": "fr_1", "coverage": coverage}
    return {"targetType": "feature-rule", "targetId": "t-1", "patch": patch}


# A ramp schedule as the API answers it.
ANSWERED = {
    "id": "rs_1",
    "dateCreated": "2026-05-01T10:00:00Z",
    "dateUpdated": "2026-05-01T10:00:00Z",
    "name": "push ramp",
    "entityType": "feature",
    "entityId": "realtime",
    "targets": [
        {"id": "t-1", "entityType": "feature", "entityId": "realtime", "ruleId": "fr_1"},
    ],
    "startActions": [action(0)],
    "steps": [
        {"interval": 3600, "actions": [action(0.05)], "approvalNotes": None, "monitored": False},
        {"interval": 7200, "actions": [action(0.25)], "monitored": False},
        {
            "interval": None,
            "actions": [action(0.5)],
            "monitored": False,
            "holdConditions": {"requiresApproval": True},
        },
    ],
    "endActions": [action(1)],
    "startDate": None,
    "cutoffDate": None,
    "status": "pending",
    "currentStepIndex": -1,
    "startedAt": None,
    "phaseStartedAt": None,
    "pausedAt": None,
    "nextStepAt": None,
    "nextProcessAt": None,
    "elapsedMs": None,
}
PAGE = {"limit": 10, "offset": 0, "count": 1, "total": 1, "hasMore": False, "nextOffset": None}
# The same as the API takes it.
POSTED = {
    "name": "push ramp",
    "featureId": "realtime",
    "ruleId": "fr_1",
    "steps": [
        {"interval": 3600, "actions": [{"patch": {"coverage": 0.05}}]},
        {"interval": 7200, "actions": [{"patch": {"coverage": 0.25}}]},
        {
            "interval": None,
            "actions": [{"patch": {"coverage": 0.5}}],
            "holdConditions": {"requiresApproval": True},
        },
    ],
    "endActions": [{"patch": {"coverage": 1}}],
    "lockdownConfig": {"mode": "locked"},
    "experimentHealthAction": "hold",
}


@pytest.mark.parametrize(
    "value",
    [
        ANSWERED,
        POSTED,
        {"rampSchedule": ANSWERED},
        {"rampSchedules": [ANSWERED], **PAGE},
    ],
    ids=["answered", "posted", "one", "page"],
)
def test_a_ramp_is_read_as_the_api_answers_and_takes_it(tmp_path, value):
    plan = load(tmp_path, value, "ramp.json", **{**SAID["growthbook_ramp.json"], "gate_s": 900})
    assert (plan.name, plan.bucketing.flag) == ("push ramp", "realtime")
    assert [(s.percent, s.bake_s, s.gate_s) for s in plan.stages] == [
        (5, 3600, 0),
        (25, 7200, 0),
        (50, 900, 0),  # until it is approved
        (100, 60, 0),
    ]


def test_of_several_ramps_the_caller_chooses_one_by_name(tmp_path):
    other = {**ANSWERED, "name": "other", "entityId": "other"}
    answer = {"rampSchedules": [ANSWERED, other], **PAGE}
    said = SAID["growthbook_ramp.json"]
    plan = load(tmp_path, answer, "ramp.json", name="other", **said)
    assert (plan.name, plan.bucketing.flag) == ("other", "other")
    with pytest.raises(ScenarioError, match=r"name= must say which: push ramp, other, got"):
        load(tmp_path, answer, "ramp.json", **said)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"rampSchedules": []}, "rampSchedules: must hold a ramp schedule"),
        ({"rampSchedule": ANSWERED, "more": 1}, "more: is not a known field"),
        ({"rampSchedule": changed(ANSWERED, "entityId", ...)}, "Schedule.entityId: must be given"),
        (changed(ANSWERED, "entityType", "experiment"), "entityType: must be feature"),
        (changed(ANSWERED, "speed", 1), "speed: is not a known field"),
        (changed(POSTED, "steps.0.monitored", True), "steps.0.monitored: must be false"),
        ({"status": 200, "features": {"realtime": {}}}, "ramp.json: must be a ramp schedule"),
        ({"status": 200}, "ramp.json: must be a Canary"),
    ],
)
def test_what_is_no_ramp_among_answers_is_refused_by_name(tmp_path, value, words):
    with pytest.raises(ScenarioError) as error:
        load(tmp_path, value, "ramp.json", **SAID["growthbook_ramp.json"])
    assert words in str(error.value)


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
