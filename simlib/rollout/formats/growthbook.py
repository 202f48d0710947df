"""Rollout plans as GrowthBook's ramp schedules, in JSON or YAML.

A ramp schedule is the body of a request to GrowthBook's API (``POST /ramp-schedules``) or of an
answer: alone, as ``rampSchedule`` (``GET /ramp-schedules/{id}``), or in a list ``rampSchedules``
(``GET /ramp-schedules``), from which ``Plan.load(..., name=...)`` chooses one. Each step is a
stage: ``coverage`` gives the percentage, ``interval`` the length in seconds. A step whose interval
is null waits for approval; ``requiresApproval`` becomes the gate of the next stage. ``endActions``
are the last stage, unless they leave the coverage unchanged. The bucketing rule's seed is
``featureId`` (in answers ``entityId``), which the SDK uses if the feature's rule has no seed. The
file does not contain the rule's ``hashVersion``, so the caller has to choose between the bucketing
rules ``growthbook`` and ``growthbook_v1``.

Ignored: ``id``, ``ruleId``, ``environment``, ``startDate``, ``approvalNotes``,
targets' names, status and dates; ``lockdownConfig`` (who may edit the feature meanwhile);
``experimentHealthAction`` (it acts on monitored steps); the progress of the ramp in an answer
(``status``, ``currentStepIndex``, ``nextStepAt``, ...), and an answer's pages.

Refused: steps that GrowthBook's statistics monitor (``monitored``, ``monitoringConfig``,
``minSampleSize``), as they have no threshold; a ``cutoffDate``; patches of anything but coverage; a
rollback to a coverage other than 0; an ``entityType`` that is not a feature.

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

# The progress of a ramp is ignored: a plan starts at its first stage.
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
_MONITORED = (
    "must be false: the coverage of a monitored step is enrolment in an experiment, half of which "
    "sees the change (of 5 % half, 2.5 %, are pushed to), and no threshold is written"
)
_PAGES = ("limit", "offset", "count", "total", "hasMore", "nextOffset")


def read(documents: list[ForeignMapping], given: ImportOptions) -> dict[str, Any]:
    """Return the values of a plan that a GrowthBook ramp schedule contains.

    Parameters
    ----------
    documents : list of ForeignMapping
        One document, which holds the ramp schedule.
    given : ImportOptions

    Raises
    ------
    ScenarioError
        There are more documents, or the schedule contains something that a plan cannot express.

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
        raise document.wrong("startActions", "must leave a coverage of 0: a rollback ends there")
    stages: list[dict[str, float]] = []
    gate_s = 0.0
    for step in document.sections("steps", needed=True):
        with document.reading.going_on():
            gate_s = _read_step(step, stages, gate_s, given)
    if not stages:
        raise document.wrong("steps", "must hold a step")
    end = _coverage(document, "endActions")
    document.done()
    if end is not None and (end != stages[-1]["percent"] or gate_s):
        last_s = ONE_CHECK_S if given.last_s is None else given.last_s
        stages.append({"percent": end, "bake_s": last_s, "gate_s": gate_s})
    said = {"bucketing": {"flag": feature}, "stages": stages, "guardrails": []}
    return said if name is None else {"name": name, **said}


def _read_step(
    step: ForeignMapping, stages: list[dict[str, float]], gate_s: float, given: ImportOptions
) -> float:
    """Add a step's stage, which begins with a gate, and return the gate of the next."""
    percent = _coverage(step, "actions")
    if percent is None:
        raise step.wrong("actions", "must set a coverage")
    bake_s = step.number("interval", 0.0, 1e9)
    step.ignore("approvalNotes")
    step.refuse({"monitored": _MONITORED})
    stage = {"percent": percent, "gate_s": gate_s}
    gate_s = 0.0
    holds = step.section("holdConditions")
    if holds is not None:
        holds.refuse({"minSampleSize": "must be absent: a stage counts no users"})
        if holds.flag("requiresApproval") and bake_s is not None:
            gate_s = given.gate_s(holds.path)
        holds.became("requiresApproval", "a gate", "somebody has to approve")
        holds.done()
    step.done()
    place = f"stages.{len(stages)}"
    if bake_s is None:  # it lasts until it is approved
        bake_s = given.gate_s(step.at("interval"))
        step.became("interval", f"{place}.bake_s = {bake_s:g}", "it waits for approval")
    step.became("interval", f"{place}.bake_s = {bake_s:g}")
    stages.append({**stage, "bake_s": bake_s})
    return gate_s


def _is_a_ramp(documents: list[ForeignMapping]) -> bool:
    first = documents[0]
    if any(key in first for key in ("featureId", "rampSchedule", "rampSchedules")):
        return True
    return "entityId" in first and "steps" in first


def _near(documents: list[ForeignMapping]) -> str:
    features = documents[0].values.get("features")
    if not isinstance(features, dict) or not features:
        return ""
    return (
        "must be a ramp schedule, as GET /ramp-schedules/{id} returns it: this is what the SDK is "
        "sent, which has the coverage of the moment and no schedule. For one stage at it, make a "
        'Plan with bucketing={"rule": "growthbook", "flag": ...}'
    )


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
    """Return a plan as a GrowthBook ramp schedule, in JSON.

    These fields are left out, and the caller of `Plan.load` gives them: ``flag``, ``bucketing``
    except for its flag (the ``featureId``), ``start_s``, ``check_every_s``, ``decision``,
    ``rollback.sockets`` and ``window_s``, and the length of gates (``gate_s``). Guardrails are
    refused.

    Raises
    ------
    ScenarioError
        The plan contains something that a ramp schedule cannot express.

    Examples
    --------
    >>> plan = Plan(
    ...     flag={"propagation": "pushed"}, bucketing={"rule": "growthbook", "flag": "push"}
    ... )
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
    near=_near,
    read=read,
    write=write,
)
