"""Rollout plans as Unleash's release plans, in JSON or YAML.

A release plan (or its template) has the form in which Unleash's API returns it. A milestone is a
stage. Its only strategy, ``flexibleRollout``, gives the percentage and, with ``groupId`` (or else
the flag's name), the bucketing. ``transitionCondition`` gives the length of the stage. A milestone
without it waits for approval, which takes ``gate_s``; the last milestone has no end in Unleash, and
lasts ``last_s`` here, or one interval between checks. A safeguard pauses the plan until a person
decides: it becomes a guardrail that is inconclusive beyond its limit and never fails. Unleash
evaluates it over the last hour, day or week, whereas a check here covers the time since the
previous one; so the interval between checks is that span. The file does not say how often Unleash
evaluates it: if that matters, use ``plan.replace(check_every_s=...)``. A safeguard without data
passes.

Ignored: ``id``, ``discriminator``, ``description``, ``environment``,
``createdByUserId``, ``createdAt``, ``archivedAt``, ``activeMilestoneId``,
``releasePlanTemplateId``; the ids, names and titles of milestones and strategies, ``sortOrder`` of
strategies, and the progress of the plan (``startedAt``, ``progressionExecutedAt``, ``pausedAt``).

Refused: a strategy other than ``flexibleRollout``, several strategies, constraints, segments,
variants, stickiness by session or at random; a safeguard that does anything but pause, safeguards
over different spans, or over a month. A metric is identified by its name and ``aggregationMode``.
For the names in `METRICS` the mode must be p50, p95 or p99 if the metric is such a percentile, or
else avg, without labels; for other metrics the caller gives ``metrics={"<name> <mode>": ...}``.

Exports of whole projects are not read. A release plan of the enterprise edition may contain fields
that the open schema does not have; these are refused.

References
----------
Unleash, src/lib/openapi/spec/: release-plan-schema.ts, release-plan-milestone-schema.ts,
transition-condition-schema.ts, safeguard-schema.ts, metric-query-schema.ts; unleash-client,
flexible-rollout-strategy.js.
"""

from __future__ import annotations

import json
import re
import sys
from decimal import Decimal
from typing import Any

from simlib.errors import ScenarioError
from simlib.rollout.exchange import ONE_CHECK_S, ImportOptions, Meaning, check_direction
from simlib.rollout.formats.writing import require, require_guardrails
from simlib.rollout.plan import Plan
from simlib.scenario.documents import ForeignMapping, only
from simlib.scenario.formats import Format

_SPANS_S = {"hour": 3600.0, "day": 86_400.0, "week": 604_800.0}
_NEVER = sys.float_info.max
_PAUSE = "pauseReleasePlanProgressions"


def _mode(metric: str) -> str:
    """Return the mode in which Unleash aggregates one of our metrics."""
    match = re.search(r"_(p\d\d)_", metric)
    return match[1] if match else "avg"


def read(documents: list[ForeignMapping], given: ImportOptions) -> dict[str, Any]:
    """Return the values of a plan that an Unleash release plan contains.

    Parameters
    ----------
    documents : list of ForeignMapping
        One document, which holds the release plan.
    given : ImportOptions

    Raises
    ------
    ScenarioError
        There are more documents, or the plan contains something that ours cannot express.

    Examples
    --------
    >>> strategy = {"name": "flexibleRollout", "parameters": {"rollout": "50", "groupId": "push"}}
    >>> milestone = {"sortOrder": 0, "strategies": [strategy]}
    >>> plan = ForeignMapping({"milestones": [milestone]}, "plan.json")
    >>> said = read([plan], ImportOptions(last_s="1 h"))
    >>> said["bucketing"], said["stages"]
    ({'rule': 'unleash', 'flag': 'push'}, [{'percent': 50.0, 'bake_s': 3600.0}])
    """
    document = only(documents)
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
    check_s = span_s or ONE_CHECK_S
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
    """Return a milestone's percentage and group."""
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
            {**parameters.values, "rollout": float(rollout)}, parameters.path, parameters.reading
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
    """Return the guardrails, and the span over which they are evaluated."""
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
        ours = _series(query, given)
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
        if ours is None:
            continue
        is_most = operator == ">"
        limit = ours.limits(None if is_most else threshold, threshold if is_most else None)
        check_direction(query, "metricName", ours, limit)
        never = _NEVER if "below" in limit else -_NEVER
        rails.append({"metric": ours.metric, "no_data": "pass", **limit, "fails_beyond": never})
    return rails, spans_s.pop() if spans_s else None


def _series(query: ForeignMapping, given: ImportOptions) -> Meaning | None:
    """Return what a series is here; None if it is to be left out."""
    name, mode = query.text("metricName", needed=True), query.text("aggregationMode", needed=True)
    labels = query.section("labelSelectors")
    key = f"{name} {mode}"
    if key in given.metrics:
        return given.metrics[key]
    ours = given.metric(query, "metricName")
    if ours is not None and mode != _mode(ours.metric):
        rule = f'must be {_mode(ours.metric)}, or metrics={{"{key}": ...}} must say which it is'
        raise query.wrong("aggregationMode", rule)
    if labels is not None and labels.values:
        rule = f'must be empty, or metrics={{"{key}": ...}} must say which it is'
        raise query.wrong("labelSelectors", rule)
    return ours


def _near(documents: list[ForeignMapping]) -> str:
    first = documents[0].values
    if not isinstance(first.get("features"), list) and not isinstance(first.get("toggles"), list):
        return ""
    return (
        "must be a release plan, as the API returns it under a feature's environment: this has "
        "features as they are at the moment, and no milestones"
    )


def write(plan: Plan) -> str:
    """Return a plan as an Unleash release plan, in JSON.

    These fields are left out, and the caller of `Plan.load` gives them: ``flag``, the users' ids
    (``bucketing.ids``, ``ids_file``), ``start_s``, ``rollback.sockets`` and ``window_s``, the
    length of the last stage (``last_s``), and without guardrails ``check_every_s`` and
    ``decision``. The server adds ids and dates.

    Raises
    ------
    ScenarioError
        The plan contains something that a release plan cannot express.

    Examples
    --------
    >>> plan = Plan(flag={"propagation": "pushed"}, bucketing={"rule": "unleash", "flag": "push"})
    >>> [one["name"] for one in json.loads(write(plan))["milestones"]]
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


FORMAT = Format(
    name="unleash",
    kind="plan",
    title="an Unleash release plan",
    language="JSON",
    has="milestones (Unleash)",
    detect=lambda documents: "milestones" in documents[0],
    near=_near,
    read=read,
    write=write,
)
