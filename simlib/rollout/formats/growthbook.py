"""Rollout plans as GrowthBook's ramp schedules, in JSON or YAML.

A ramp schedule is what GrowthBook's API takes (``POST /ramp-schedules``) or answers: alone, as
``rampSchedule`` (``GET /ramp-schedules/{id}``), or among ``rampSchedules`` (``GET
/ramp-schedules``), of which ``Plan.load(..., name=...)`` says which. A step is a stage,
``coverage`` the percentage and its ``interval`` the length in seconds; null waits for somebody, and
so does ``requiresApproval``, then as the next stage's gate. ``endActions`` are the last stage,
unless they leave the coverage as it is. The seed is ``featureId``, in answers ``entityId``, which
the SDK takes where the feature's rule names none; whether ``growthbook`` or ``growthbook_v1``
hashes it (the rule's ``hashVersion``) is not said here, so that the caller has to.

Has no meaning here, and is ignored: ``id``, ``name`` where it is no name, ``ruleId``,
``environment``, ``startDate``, ``approvalNotes``, targets' names, status and dates; who may edit
the feature meanwhile (``lockdownConfig``), ``experimentHealthAction``, which acts on steps that are
watched; where the ramp is in an answer (``status``, ``currentStepIndex``, ``nextStepAt``, ...), and
an answer's pages.

Refused: steps that GrowthBook's statistics watch (``monitored``, ``monitoringConfig``,
``minSampleSize``), as no threshold is written there, a ``cutoffDate``, patches of anything but
coverage, a way back to a coverage other than 0; an ``entityType`` that is no feature.

References
----------
GrowthBook, docs.growthbook.io, API: ramp-schedules, RampSchedule model; its SDK, core.ts.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from simlib.errors import ScenarioError
from simlib.rollout.exchange import ONE_CHECK_S, ImportOptions
from simlib.rollout.formats.writing import one_gate_s, require
from simlib.rollout.plan import Plan
from simlib.scenario.documents import ForeignMapping, only, scaled
from simlib.scenario.formats import Format

# Where a ramp is at the moment, and what was done to it: a plan begins at its beginning.
_PROGRESS = (
    "currentStepIndex",
    "currentStepEnteredAt",
    "startedAt",
    "phaseStartedAt",
    "pausedAt",
    "nextStepAt",
    "nextProcessAt",
    "elapsedMs",
    "stepApproval",
    "monitoringStartDate",
    "monitoringStatus",
    "lastRollbackAt",
    "lastRollbackReason",
)
_PAGES = ("limit", "offset", "count", "total", "hasMore", "nextOffset")


def read(documents: list[ForeignMapping], given: ImportOptions) -> dict[str, Any]:
    """Return what a ramp schedule of GrowthBook's says, as values of a plan.

    Parameters
    ----------
    documents : list of ForeignMapping
        The ramp schedule alone.
    given : ImportOptions

    Raises
    ------
    ScenarioError
        There are more, or it says what a plan cannot.

    Examples
    --------
    >>> step = {"interval": 600, "actions": [{"patch": {"coverage": 0.5}}]}
    >>> ramp = ForeignMapping({"featureId": "push", "steps": [step]}, "ramp.json")
    >>> said = read([ramp], ImportOptions())
    >>> said["bucketing"], said["stages"]
    ({'flag': 'push'}, [{'percent': 50.0, 'gate_s': 0.0, 'bake_s': 600.0}])
    """
    document = _ramp(only(documents), given)
    document.ignore("id", "ruleId", "environment", "startDate", "status", "targets")
    document.ignore("dateCreated", "dateUpdated", "lockdownConfig", "experimentHealthAction")
    document.ignore(*_PROGRESS)
    name = document.text("name")
    feature = document.text("featureId" if "featureId" in document else "entityId", needed=True)
    if document.text("entityType") not in (None, "feature"):
        raise document.wrong("entityType", "must be feature")
    document.refuse(
        {
            "monitoringConfig": "must be absent: it names no threshold that a plan could check",
            "cutoffDate": "must be absent: a plan knows no dates",
        }
    )
    before = _coverage(document, "startActions")
    if before not in (None, 0.0):
        raise document.wrong("startActions", "must leave a coverage of 0: a way back ends there")
    stages: list[dict[str, float]] = []
    gate_s = 0.0
    for step in document.sections("steps", needed=True):
        percent = _coverage(step, "actions")
        if percent is None:
            raise step.wrong("actions", "must set a coverage")
        bake_s = step.number("interval", 0.0, 1e9)
        step.ignore("approvalNotes")
        step.refuse({"monitored": "must be false: no threshold is written that could be checked"})
        stage = {"percent": percent, "gate_s": gate_s}
        gate_s = 0.0
        holds = step.section("holdConditions")
        if holds is not None:
            holds.refuse({"minSampleSize": "must be absent: a stage counts no users"})
            if holds.flag("requiresApproval"):
                gate_s = given.gate_s(holds.path)
            holds.done()
        step.done()
        if bake_s is None:
            # To be approved is all that it waits for.
            bake_s, gate_s = given.gate_s(step.at("interval")), 0.0
        stages.append({**stage, "bake_s": bake_s})
    if not stages:
        raise document.wrong("steps", "must hold a step")
    end = _coverage(document, "endActions")
    document.done()
    if end is not None and (end != stages[-1]["percent"] or gate_s):
        last_s = ONE_CHECK_S if given.last_s is None else given.last_s
        stages.append({"percent": end, "bake_s": last_s, "gate_s": gate_s})
    said = {"bucketing": {"flag": feature}, "stages": stages, "guardrails": []}
    return said if name is None else {"name": name, **said}


def _is_a_ramp(documents: list[ForeignMapping]) -> bool:
    first = documents[0]
    if any(key in first for key in ("featureId", "rampSchedule", "rampSchedules")):
        return True
    return "entityId" in first and "steps" in first


def _ramp(document: ForeignMapping, given: ImportOptions) -> ForeignMapping:
    """The ramp schedule, out of what an answer wraps it in."""
    if "rampSchedules" in document:
        document.ignore(*_PAGES)
        found = document.sections("rampSchedules")
        document.done()
        if not found:
            raise document.wrong("rampSchedules", "must hold a ramp schedule")
        return given.one_of(found, "ramp schedule")
    wrapped = document.section("rampSchedule")
    if wrapped is None:
        return document
    document.done()
    return wrapped


def _coverage(section: ForeignMapping, name: str) -> float | None:
    """The percentage that a list of actions sets; None: they set none."""
    found = None
    for action in section.sections(name):
        action.ignore("targetType", "targetId")
        patch = action.section("patch")
        action.done()
        if patch is None:
            continue
        patch.ignore("ruleId", "allEnvironments", "environments")
        rule = "must be absent: a plan changes the percentage alone"
        patch.refuse({"condition": rule, "savedGroups": rule, "prerequisites": rule, "force": rule})
        if patch.values.get("enabled") not in (None, True):
            raise patch.wrong("enabled", "must be true: a plan changes the percentage alone")
        patch.ignore("enabled")
        coverage = patch.number("coverage", 0.0, 1.0)
        patch.done()
        if coverage is not None:
            if found is not None:
                raise patch.wrong("coverage", "must be set once: a plan has one percentage")
            found = scaled(coverage, 100.0)
    return found


def write(plan: Plan) -> str:
    """Return a plan as a ramp schedule of GrowthBook's, in JSON.

    Left out, and to be said again on reading: ``flag``, ``bucketing`` but its flag, which is
    ``featureId``, ``start_s``, ``check_every_s``, ``decision``, what becomes of sockets, how long a
    gate takes (``gate_s``). Guardrails cannot be said.

    Raises
    ------
    ScenarioError
        The plan says what a ramp schedule cannot.

    Examples
    --------
    >>> plan = Plan(flag={"reach": "pushed"}, bucketing={"rule": "growthbook", "flag": "push"})
    >>> [one["interval"] for one in json.loads(write(plan))["steps"]]
    [600.0, 600.0, 600.0, 600.0]
    """
    require(plan, "bucketing.rule", "growthbook", "growthbook_v1")
    if plan.guardrails:
        rule = "must be none: a ramp schedule names metrics, and no thresholds"
        raise ScenarioError("guardrails", len(plan.guardrails), rule)
    require(plan, "stages.0.gate_s", 0.0)
    one_gate_s(plan)
    steps = []
    for number, stage in enumerate(plan.stages):
        coverage = float(Decimal(repr(stage.percent)) / 100)
        if scaled(coverage, 100.0) != stage.percent:
            rule = "must have fewer digits: as a fraction of 1 it is another number"
            raise ScenarioError(f"stages.{number}.percent", stage.percent, rule)
        action = {"targetType": "feature-rule", "targetId": "t1", "patch": {"coverage": coverage}}
        is_gate = number + 1 < len(plan.stages) and plan.stages[number + 1].gate_s > 0
        holds = {"holdConditions": {"requiresApproval": True}} if is_gate else {}
        steps.append({"interval": stage.bake_s, "actions": [action], **holds})
    written = {"name": plan.name, "featureId": plan.bucketing.flag, "steps": steps}
    return json.dumps(written, indent=2, ensure_ascii=False) + "\n"


FORMAT = Format(
    name="growthbook",
    kind="plan",
    title="a GrowthBook ramp schedule",
    language="JSON",
    has="a featureId (GrowthBook)",
    detect=_is_a_ramp,
    read=read,
    write=write,
)
