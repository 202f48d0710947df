"""Rollout plans as the schedules of feature-flag services, in JSON or YAML.

**Unleash**: a release plan (or its template), as its server's API returns it. A milestone is a
stage: its one ``flexibleRollout`` strategy says the percentage and, with ``groupId`` (a flag's name
where it is absent), the bucketing rule. ``transitionCondition`` says how long it lasts; a milestone
without one waits for somebody, ``gate_s`` long, and the last lasts for ever: here ``last_s``, or
one check. A safeguard stops the plan where it is until somebody looks: a guardrail without a
verdict beyond its limit, which never fails. It looks at the last hour, day or week; a check here
sees what came since the one before, so checks are as far apart as that span is long. The file does
not say how often Unleash looks: where that matters, ``plan.replace(check_every_s=...)``. A series
without data trips nothing.

Ignored: ``id``, ``discriminator``, ``description``, ``environment``, ``createdByUserId``,
``createdAt``, ``archivedAt``, ``activeMilestoneId``, ``releasePlanTemplateId``; of milestones and
strategies their ids, names, titles, ``sortOrder`` of strategies, and what was done when
(``startedAt``, ``progressionExecutedAt``, ``pausedAt``). Refused: a strategy that is not
``flexibleRollout``, more than one, constraints, segments, variants, stickiness by session or at
random; a safeguard that does anything but pause, safeguards over different spans, or over a month.
A metric is known by its name and ``aggregationMode``: ours as p50, p95 or p99 if they are that,
else as avg, without labels; another as ``metrics={"<name> <mode>": ...}``.

**GrowthBook**: a ramp schedule, as its API takes and returns it. A step is a stage, ``coverage``
the percentage and its ``interval`` the length in seconds; null waits for somebody, and so does
``requiresApproval``, then as the next stage's gate. ``endActions`` are the last stage, unless they
leave the coverage as it is. The seed is ``featureId``, which the SDK takes where the feature's rule
names none; whether ``growthbook`` or ``growthbook_v1`` hashes it (the rule's ``hashVersion``) is
not said here, so that the caller has to.

Ignored: ``id``, ``name`` where it is no name, ``ruleId``, ``environment``, ``startDate``,
``approvalNotes``, targets' names, status and dates. Refused: steps that GrowthBook's statistics
watch (``monitored``, ``monitoringConfig``, ``minSampleSize``), as no threshold is written there, a
``cutoffDate``, patches of anything but coverage, a way back to a coverage other than 0.

Nearest to what these products exchange, not the same: their exports of whole projects are not read,
and a schedule of Unleash's enterprise edition may hold fields that its open schema does not name.

References
----------
Unleash, src/lib/openapi/spec/: release-plan-schema.ts, release-plan-milestone-schema.ts,
transition-condition-schema.ts, safeguard-schema.ts, metric-query-schema.ts; unleash-client,
flexible-rollout-strategy.js. GrowthBook, docs.growthbook.io, API: ramp-schedules; its SDK, core.ts.
"""

from __future__ import annotations

import json
import re
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from simlib.errors import ScenarioError
from simlib.rollout.formats import ImportOptions, one_gate_s, require, require_guardrails
from simlib.rollout.formats.documents import ForeignMapping, scaled

if TYPE_CHECKING:
    from simlib.rollout.plan import Plan

_SPANS_S = {"hour": 3600.0, "day": 86_400.0, "week": 604_800.0}
_NEVER = sys.float_info.max
_PAUSE = "pauseReleasePlanProgressions"
_UNWATCHED_S = 60.0


def _mode(metric: str) -> str:
    """How Unleash would aggregate one of our metrics."""
    match = re.search(r"_(p\d\d)_", metric)
    return match[1] if match else "avg"


def read_unleash(document: ForeignMapping, given: ImportOptions) -> dict[str, Any]:
    """Return what a release plan of Unleash's says, as values of a plan.

    Parameters
    ----------
    document : Section
    given : Given

    Raises
    ------
    ScenarioError
        It says what a plan cannot.

    Examples
    --------
    >>> strategy = {"name": "flexibleRollout", "parameters": {"rollout": "50", "groupId": "push"}}
    >>> milestone = {"sortOrder": 0, "strategies": [strategy]}
    >>> said = read_unleash(
    ...     ForeignMapping({"milestones": [milestone]}, ""), ImportOptions(last_s="1 h")
    ... )
    >>> said["bucketing"], said["stages"]
    ({'rule': 'unleash', 'flag': 'push'}, [{'percent': 50.0, 'bake_s': 3600.0}])
    """
    document.ignore("id", "discriminator", "description", "environment", "createdByUserId")
    document.ignore("createdAt", "archivedAt", "activeMilestoneId", "releasePlanTemplateId")
    name, feature = document.text("name"), document.text("featureName")
    rails, span_s = _safeguards(document, given)
    milestones = document.sections("milestones", needed=True)
    document.done()
    order = [one.number("sortOrder", needed=True) for one in milestones]
    if len(set(order)) < len(order):
        raise document.wrong("milestones", "must have a sortOrder each, no two the same")
    milestones = [milestones[i] for i in sorted(range(len(order)), key=lambda i: order[i] or 0.0)]
    if not milestones:
        raise document.wrong("milestones", "must hold a milestone")
    groups, stages = set(), []
    check_s = span_s or _UNWATCHED_S
    for milestone in milestones:
        percent, group = _strategy(milestone, feature)
        groups.add(group)
        transition = milestone.section("transitionCondition")
        milestone.ignore("id", "name", "releasePlanDefinitionId", "startedAt", "pausedAt")
        milestone.ignore("progressionExecutedAt")
        milestone.done()
        if transition is not None:
            minutes = transition.whole("intervalMinutes", 1, 5_256_000, needed=True)
            transition.done()
            assert minutes is not None
            bake_s = 60.0 * minutes
        elif milestone is milestones[-1]:
            bake_s = check_s if given.last_s is None else given.last_s
        else:
            bake_s = given.gate_s(milestone.at("transitionCondition"))
        stages.append({"percent": percent, "bake_s": bake_s})
    if len(groups) > 1:
        raise document.wrong("milestones", "must have one groupId: users would be dealt out anew")
    said: dict[str, Any] = {
        "bucketing": {"rule": "unleash", "flag": groups.pop()},
        "stages": stages,
        "guardrails": rails,
    }
    if span_s is not None:
        said["check_every_s"] = span_s
        said["decision"] = {"rule": "argo", "failures": 0, "analysis": "background"}
    return said if name is None else {"name": name, **said}


def _strategy(milestone: ForeignMapping, feature: str | None) -> tuple[float, str]:
    """A milestone's percentage and group."""
    strategies = milestone.sections("strategies", needed=True)
    if len(strategies) != 1:
        raise milestone.wrong("strategies", "must be one: a plan has one percentage at a time")
    [strategy] = strategies
    strategy.ignore("id", "milestoneId", "sortOrder", "title")
    if strategy.text("strategyName" if "strategyName" in strategy else "name") != "flexibleRollout":
        key = "strategyName" if "strategyName" in strategy else "name"
        raise strategy.wrong(key, "must be flexibleRollout, which has a percentage")
    rule = "must be empty: a plan enrols everybody alike"
    strategy.refuse({"constraints": rule, "segments": rule, "variants": rule})
    strategy.refuse({"disabled": "must be false: it would enrol nobody"})
    parameters = strategy.section("parameters", needed=True)
    strategy.done()
    assert parameters is not None
    rollout = parameters.take("rollout", needed=True)
    if isinstance(rollout, str) and re.fullmatch(r"\d{1,3}(?:\.\d{1,20})?", rollout):
        parameters = ForeignMapping(
            {**parameters.values, "rollout": float(rollout)}, parameters.path
        )
    percent = parameters.number("rollout", 0.0, 100.0)
    if parameters.text("stickiness") not in (None, "default", "userId"):
        raise parameters.wrong("stickiness", "must be userId or default: a plan goes by users")
    group = (parameters.text("groupId") or "{{featureName}}").strip()
    if group in ("{{featureName}}", "{{ featureName }}"):
        if feature is None:
            raise parameters.wrong("groupId", "must be given where there is no featureName")
        group = feature
    parameters.done()
    assert percent is not None
    return percent, group


def _safeguards(
    document: ForeignMapping, given: ImportOptions
) -> tuple[list[dict[str, Any]], float | None]:
    """The guardrails, and the span that they look at."""
    rails: list[dict[str, Any]] = []
    spans_s: set[float] = set()
    for safeguard in document.sections("safeguards"):
        safeguard.ignore("id")
        action = safeguard.section("action")
        condition = safeguard.section("triggerCondition", needed=True)
        query = safeguard.section("impactMetric", needed=True)
        safeguard.done()
        assert condition is not None
        assert query is not None
        if action is not None and action.values.get("type") != _PAUSE:
            raise action.wrong("type", f"must be {_PAUSE}: a plan does nothing else here")
        ours, factor = _series(query, given)
        span = query.text("timeRange", needed=True)
        if span not in _SPANS_S:
            rule = f"must be {', '.join(_SPANS_S)}: months are not of one length"
            raise query.wrong("timeRange", rule)
        spans_s.add(_SPANS_S[span])
        if len(spans_s) > 1:
            raise query.wrong("timeRange", "must be that of the other safeguards")
        query.ignore("id")
        query.done()
        operator = condition.text("operator", needed=True)
        if operator not in (">", "<"):
            raise condition.wrong("operator", "must be > or <")
        threshold = condition.number("threshold", needed=True)
        condition.done()
        assert threshold is not None
        bound, never = ("below", _NEVER) if operator == ">" else ("above", -_NEVER)
        limit = {bound: scaled(threshold, factor), "fails_beyond": never}
        rails.append({"metric": ours, "no_data": "pass", **limit})
    return rails, spans_s.pop() if spans_s else None


def _series(query: ForeignMapping, given: ImportOptions) -> tuple[str, float]:
    """Our name for a series, and the factor to our unit."""
    name, mode = query.text("metricName", needed=True), query.text("aggregationMode", needed=True)
    labels = query.section("labelSelectors")
    key = f"{name} {mode}"
    if key in given.metrics:
        return given.metrics[key]
    ours, factor = given.metric(query, "metricName")
    if mode != _mode(ours):
        rule = f'must be {_mode(ours)}, or metrics={{"{key}": ...}} must say which it is'
        raise query.wrong("aggregationMode", rule)
    if labels is not None and labels.values:
        rule = f'must be empty, or metrics={{"{key}": ...}} must say which it is'
        raise query.wrong("labelSelectors", rule)
    return ours, factor


def write_unleash(plan: Plan) -> str:
    """Return a plan as a release plan of Unleash's, in JSON.

    Left out, and to be said again on reading: ``flag``, the users' ids (``bucketing.ids``,
    ``ids_file``), ``start_s``, what becomes of sockets, the length of the last stage (``last_s``);
    without guardrails also ``check_every_s`` and ``decision``. Ids and dates are the server's.

    Raises
    ------
    ScenarioError
        The plan says what a release plan cannot.

    Examples
    --------
    >>> from simlib.rollout.plan import Plan
    >>> plan = Plan(flag={"reach": "pushed"}, bucketing={"rule": "unleash", "flag": "push"})
    >>> [one["name"] for one in json.loads(write_unleash(plan))["milestones"]]
    ['10 %', '25 %', '50 %', '100 %']
    """
    require(plan, "bucketing.rule", "unleash")
    if plan.bucketing.flag.strip() != plan.bucketing.flag or "{{" in plan.bucketing.flag:
        rule = "must have no spaces around it and no braces, to be a groupId"
        raise ScenarioError("bucketing.flag", plan.bucketing.flag, rule)
    spans = {seconds: name for name, seconds in _SPANS_S.items()}
    if plan.guardrails:
        require(plan, "check_every_s", *spans)
        require(plan, "decision.rule", "argo")
        require(plan, "decision.failures", 0)
        require(plan, "decision.inconclusive", None)
        require(plan, "decision.errors", None)
        require(plan, "decision.analysis", "background")
        require_guardrails(plan, no_data="pass", delay_s=0.0)
    milestones = []
    last = len(plan.stages) - 1
    for number, stage in enumerate(plan.stages):
        require(plan, f"stages.{number}.gate_s", 0.0)
        minutes = stage.bake_s / 60.0
        if number < last and (minutes != int(minutes) or minutes < 1):
            rule = "must be whole minutes: a transition condition knows nothing finer"
            raise ScenarioError(f"stages.{number}.bake_s", stage.bake_s, rule)
        percent = f"{Decimal(repr(stage.percent)).normalize():f}"
        parameters = {"rollout": percent, "stickiness": "userId", "groupId": plan.bucketing.flag}
        strategy = {"strategyName": "flexibleRollout", "sortOrder": 0, "parameters": parameters}
        transition = {"transitionCondition": {"intervalMinutes": int(minutes)}}
        milestones.append(
            {
                "name": f"{percent} %",
                "sortOrder": number,
                **(transition if number < last else {}),
                "strategies": [strategy],
            }
        )
    safeguards = []
    for number, rail in enumerate(plan.guardrails):
        limit, is_upper = rail.limit
        require(plan, f"guardrails.{number}.fails_beyond", _NEVER if is_upper else -_NEVER)
        query = {
            "metricName": rail.metric,
            "timeRange": spans[plan.check_every_s],
            "aggregationMode": _mode(rail.metric),
            "labelSelectors": {},
        }
        condition = {"operator": ">" if is_upper else "<", "threshold": limit}
        safeguards.append(
            {"action": {"type": _PAUSE}, "triggerCondition": condition, "impactMetric": query}
        )
    written = {
        "discriminator": "plan",
        "name": plan.name,
        "featureName": plan.bucketing.flag,
        "milestones": milestones,
        "safeguards": safeguards,
    }
    return json.dumps(written, indent=2, ensure_ascii=False) + "\n"


def read_growthbook(document: ForeignMapping, given: ImportOptions) -> dict[str, Any]:
    """Return what a ramp schedule of GrowthBook's says, as values of a plan.

    Parameters
    ----------
    document : Section
    given : Given

    Raises
    ------
    ScenarioError
        It says what a plan cannot.

    Examples
    --------
    >>> step = {"interval": 600, "actions": [{"patch": {"coverage": 0.5}}]}
    >>> said = read_growthbook(
    ...     ForeignMapping({"featureId": "push", "steps": [step]}, ""), ImportOptions()
    ... )
    >>> said["bucketing"], said["stages"]
    ({'flag': 'push'}, [{'percent': 50.0, 'gate_s': 0.0, 'bake_s': 600.0}])
    """
    document.ignore("id", "ruleId", "environment", "startDate", "status", "targets")
    document.ignore("dateCreated", "dateUpdated")
    name, feature = document.text("name"), document.text("featureId", needed=True)
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
        last_s = _UNWATCHED_S if given.last_s is None else given.last_s
        stages.append({"percent": end, "bake_s": last_s, "gate_s": gate_s})
    said = {"bucketing": {"flag": feature}, "stages": stages, "guardrails": []}
    return said if name is None else {"name": name, **said}


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


def write_growthbook(plan: Plan) -> str:
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
    >>> from simlib.rollout.plan import Plan
    >>> plan = Plan(flag={"reach": "pushed"}, bucketing={"rule": "growthbook", "flag": "push"})
    >>> [one["interval"] for one in json.loads(write_growthbook(plan))["steps"]]
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
