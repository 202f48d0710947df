"""Rollout plans as Argo Rollouts' Rollout and AnalysisTemplates, in one file.

Each ``setWeight`` starts a stage, which lasts as long as the pauses or the analysis step after it.
``pause: {}`` waits for approval, which takes ``gate_s``, as the caller says. After a timed pause or
an analysis, or before the first weight, it is the gate of the next stage. If it is all that follows
a weight, the approval is the length of that stage, as an analysis in the background continues
during it. After the last step Argo gives the new version to all users and ends its analyses. If the
steps do not end with a weight of 100 and its length, this becomes a last stage here, of one check
(or ``last_s``), in which the guardrails are still checked.

Argo measures a metric when an analysis starts, and then at every interval. Here the first check is
one interval later, when there are data. So an analysis step of n measurements lasts n intervals
here, and n - 1 in Argo. A metric with data that meets no condition is inconclusive, and a metric
without data is an error, as in `rollout.tally`. Without a traffic router Argo's weights are
rounded to shares of pods; here they are exact, and each user has the cohort that the bucketing rule
gives.

Ignored: documents of other kinds in the file; ``metadata`` except for the name, ``status``; in the
Rollout's spec ``replicas``, ``selector``, ``template``, ``workloadRef``,
``minReadySeconds``, ``revisionHistoryLimit``, ``progressDeadlineSeconds``,
``progressDeadlineAbort``, ``restartAt``, ``rollbackWindow``, ``analysis``; in the canary strategy
``canaryService``, ``stableService``, ``canaryMetadata``, ``stableMetadata``, ``trafficRouting``
(but a ``maxTrafficWeight``), ``maxSurge``, ``maxUnavailable``, ``antiAffinity``,
``dynamicStableScale``, ``minPodsPerReplicaSet``, ``scaleDownDelaySeconds``,
``scaleDownDelayRevisionLimit``, ``abortScaleDownDelaySeconds``, ``replicaProgressThreshold``,
``pingPong``; steps of ``setCanaryScale``; of an analysis ``measurementRetention``,
``analysisRunMetadata``; of a metric ``provider``, with its query (its name identifies it).

Refused: ``blueGreen``, ``paused``; steps of ``experiment``, ``setHeaderRoute``, ``setMirrorRoute``,
``plugin``; analyses in steps *and* in the background, or different ones in different steps;
``startingStep``, ``dryRun``; a metric without an interval, with ``consecutiveSuccessLimit``, whose
``count`` ends it before its stage or the rollout, or whose interval and limits are not those of the
others; conditions that are not one threshold of ``result`` or ``result[0]``; a provider that does
not give a number (``job``, ``kayenta``).

References
----------
Argo Rollouts, docs/features/specification.md, docs/features/canary/index.md,
docs/features/analysis.md, pkg/apis/rollouts/v1alpha1/analysis_types.go and types.go.
"""

from __future__ import annotations

import math
import re
from typing import Any

from simlib.errors import ScenarioError
from simlib.rollout.exchange import ONE_CHECK_S, ImportOptions
from simlib.rollout.formats.writing import (
    duration,
    kubernetes_name,
    one_gate_s,
    require,
    require_end_at_100,
    require_guardrails,
    whole_percent,
)
from simlib.rollout.plan import Plan
from simlib.scenario.documents import ForeignMapping, of_kind, scaled, to_yaml
from simlib.scenario.formats import Format

_CONDITION = re.compile(
    r"\s*result(?:\s*\[\s*0\s*\])?\s*(<=|>=|<|>)\s*(-?\d{1,40}(?:\.\d{1,40})?(?:[eE][-+]?\d{1,3})?)\s*"
)
_LIMITS = {"failureLimit": "failures", "inconclusiveLimit": "inconclusive"}
_LIMITS["consecutiveErrorLimit"] = "errors"
_NO_STEPS = {
    "experiment": "must not be a step: a plan starts no replica sets of its own",
    "setHeaderRoute": "must not be a step: a plan chooses users by a hash, not by their requests",
    "setMirrorRoute": "must not be a step: a plan sends nobody's requests twice",
    "plugin": "must not be a step: what a plugin does is not known",
}
_ARG = re.compile(r"\{\{\s*args\.([-\w]+)\s*\}\}")


def read(documents: list[ForeignMapping], given: ImportOptions) -> dict[str, Any]:
    """Return the values of a plan that a Rollout and its AnalysisTemplates contain.

    Parameters
    ----------
    documents : list of ForeignMapping
        Documents, one of which is a Rollout.
    given : ImportOptions

    Raises
    ------
    ScenarioError
        There are several Rollouts, or they contain something that a plan cannot express.

    Examples
    --------
    >>> steps = [{"setWeight": 50}, {"pause": {"duration": "10m"}}]
    >>> rollout = {"kind": "Rollout", "spec": {"strategy": {"canary": {"steps": steps}}}}
    >>> for stage in read([ForeignMapping(rollout, "rollout.yaml")], ImportOptions())["stages"]:
    ...     print(stage)
    {'percent': 50.0, 'bake_s': 600.0, 'gate_s': 0.0}
    {'percent': 100.0, 'bake_s': 60.0, 'gate_s': 0.0}
    """
    rollout = given.one_of(of_kind(documents, "Rollout"), "Rollout").renamed("Rollout")
    rollout.ignore("apiVersion", "kind", "status")
    metadata = rollout.section("metadata")
    spec = rollout.section("spec", needed=True)
    rollout.done()
    assert spec is not None
    spec.ignore("replicas", "selector", "template", "workloadRef", "minReadySeconds", "analysis")
    spec.ignore("revisionHistoryLimit", "progressDeadlineSeconds", "progressDeadlineAbort")
    spec.ignore("restartAt", "rollbackWindow")
    spec.refuse({"paused": "must be false: a Rollout that is paused does nothing"})
    strategy = spec.section("strategy", needed=True)
    spec.done()
    assert strategy is not None
    strategy.refuse({"blueGreen": "must be canary: blue/green has no percentages"})
    canary = strategy.section("canary", needed=True)
    strategy.done()
    assert canary is not None
    templates = _templates(documents)
    said = _read_canary(canary, templates, given)
    name = metadata.text("name") if metadata else None
    return said if name is None else {"name": name, **said}


def _templates(documents: list[ForeignMapping]) -> dict[tuple[str, str], ForeignMapping]:
    """Return the file's templates by kind and name."""
    found: dict[tuple[str, str], ForeignMapping] = {}
    for document in documents:
        kind = document.values.get("kind")
        if kind not in ("AnalysisTemplate", "ClusterAnalysisTemplate"):
            continue
        template = document.renamed(str(kind))
        metadata = template.section("metadata", needed=True)
        assert metadata is not None
        name = metadata.text("name", needed=True)
        assert name is not None
        if (kind, name) in found:
            raise metadata.wrong("name", "must be another's than the template's before")
        found[kind, name] = template
    return found


class _Stage:
    """A weight, and the steps that follow it."""

    def __init__(self, percent: int, path: str) -> None:
        self.percent, self.path = percent, path
        self.pause_s = self.gate_s = 0.0
        self.analysis: ForeignMapping | None = None
        self.gate: str | None = None


def _read_canary(
    canary: ForeignMapping, templates: dict[tuple[str, str], ForeignMapping], given: ImportOptions
) -> dict[str, Any]:
    canary.ignore("canaryService", "stableService", "canaryMetadata", "stableMetadata")
    canary.ignore("maxSurge", "maxUnavailable", "antiAffinity", "dynamicStableScale", "pingPong")
    canary.ignore("minPodsPerReplicaSet", "scaleDownDelaySeconds", "scaleDownDelayRevisionLimit")
    canary.ignore("abortScaleDownDelaySeconds", "replicaProgressThreshold")
    routing = canary.section("trafficRouting")
    if routing is not None and routing.whole("maxTrafficWeight", 1, 10**6) not in (None, 100):
        raise routing.wrong("maxTrafficWeight", "must be 100: a plan's weights are percentages")
    stages, first_gate = _read_steps(canary)
    background = canary.section("analysis")
    canary.done()
    in_steps = [stage.analysis for stage in stages if stage.analysis is not None]
    if background is not None and in_steps:
        raise ScenarioError(in_steps[0].path, in_steps[0].values, "must be all or in background")
    rails: list[dict[str, Any]] = []
    said: dict[str, Any] = {}
    ends_s: list[float] = []  # when the counts of an analysis in the background end
    interval_s = None
    if background is not None:
        metrics, interval_s, decision = _read_analysis(background, templates, given)
        rails = [metric.rail for metric in metrics]
        ends_s = [metric.end_s(interval_s) for metric in metrics]
        said["decision"] = {**decision, "analysis": "background"}
    elif in_steps:
        interval_s, said["decision"], rails = _read_inline(stages, templates, given)
    if interval_s is not None:
        said["check_every_s"] = interval_s
    said["stages"] = _lengths(stages, first_gate, given, interval_s)
    said["guardrails"] = rails
    length_s = sum(one["bake_s"] + one["gate_s"] for one in said["stages"])
    if any(end_s < length_s for end_s in ends_s):
        assert background is not None
        rule = f"must have no count, or one that lasts for the whole rollout ({length_s:g} s)"
        raise ScenarioError(background.path, min(ends_s), rule)
    return said


def _read_steps(canary: ForeignMapping) -> tuple[list[_Stage], str | None]:
    """Return the stages, and the path of a gate before the first of them, if there is one."""
    stages: list[_Stage] = []
    first_gate = None
    for step in canary.sections("steps", needed=True):
        step.refuse(_NO_STEPS)
        weight = step.whole("setWeight", 0, 100)
        pause, analysis = step.values.get("pause"), step.section("analysis")
        step.ignore("pause", "setCanaryScale")
        step.done()
        says = [name for name in ("setWeight", "pause", "analysis") if name in step.values]
        if len(says) > 1:
            raise ScenarioError(step.path, dict(step.values), "must be one thing")
        if weight is not None:
            if stages and weight < stages[-1].percent:
                rule = f"must be >= the weight before ({stages[-1].percent})"
                raise step.wrong("setWeight", rule)
            stages.append(_Stage(weight, step.path))
            continue
        if not says:
            continue
        if stages and stages[-1].gate is not None:
            rule = "must come before pause: {}, which has to be the last of its weight"
            raise ScenarioError(step.path, dict(step.values), rule)
        if analysis is not None:
            if not stages or stages[-1].analysis is not None:
                raise step.wrong("analysis", "must follow a weight, once")
            stages[-1].analysis = analysis
            continue
        pause_s = _pause_s(ForeignMapping(pause or {}, step.at("pause")))
        if pause_s is None and not stages and first_gate is None:
            first_gate = step.path
        elif not stages:
            raise step.wrong("pause", "must follow a weight: before the first, once and {}")
        elif pause_s is None:
            stages[-1].gate = step.path
        else:
            stages[-1].pause_s += pause_s
    if not stages:
        raise canary.wrong("steps", "must set a weight")
    return stages, first_gate


def _pause_s(pause: ForeignMapping) -> float | None:
    """Return the length of a pause, seconds; None if it waits for approval."""
    given = pause.take("duration")
    pause.done()
    if given is None:
        return None
    if isinstance(given, str) and not re.fullmatch(r"[0-9]{1,9}", given):
        seconds = pause.duration_s("duration")
    else:
        seconds = pause.whole("duration", 0, 10**9, digits=True)
    assert seconds is not None
    if seconds != int(seconds):
        raise pause.wrong("duration", "must be whole seconds: Argo cuts off the rest")
    return float(seconds)


def _lengths(
    stages: list[_Stage], first_gate: str | None, given: ImportOptions, interval_s: float | None
) -> list[dict[str, float]]:
    """Return the stages as values of a plan."""
    found: list[dict[str, float]] = []
    gate = first_gate
    last = len(stages) - 1
    shortest_s = interval_s
    if shortest_s is None:
        shortest_s = min([ONE_CHECK_S, *(stage.pause_s for stage in stages if stage.pause_s)])
    last_s = shortest_s if given.last_s is None else given.last_s
    for number, stage in enumerate(stages):
        gate_s = 0.0 if gate is None else given.gate_s(gate)
        gate, bake_s = stage.gate, stage.pause_s
        if not bake_s and gate is not None:
            bake_s, gate = given.gate_s(gate), None
        if not bake_s and number == last and stage.percent == 100:
            bake_s = last_s
        if not bake_s:
            rule = "must be followed by a pause or an analysis: nobody looks at this weight"
            raise ScenarioError(f"{stage.path}.setWeight", stage.percent, rule)
        found.append({"percent": float(stage.percent), "bake_s": bake_s, "gate_s": gate_s})
    if stages[-1].percent < 100:
        gate_s = 0.0 if gate is None else given.gate_s(gate)
        found.append({"percent": 100.0, "bake_s": last_s, "gate_s": gate_s})
    return found


def _read_inline(
    stages: list[_Stage], templates: dict[tuple[str, str], ForeignMapping], given: ImportOptions
) -> tuple[float, dict[str, Any], list[dict[str, Any]]]:
    """Read analyses in steps, each of which determines the length of its stage."""
    interval_s, decision, rails = 0.0, None, []
    for number, stage in enumerate(stages):
        if stage.analysis is None:
            if number == len(stages) - 1 and stage.percent == 100 and not stage.pause_s:
                continue
            rule = "must have an analysis as the other weights have: a plan has one for all"
            raise ScenarioError(f"{stage.path}.setWeight", stage.percent, rule)
        if stage.pause_s:
            rule = "must be the only one at its weight, with a count for as long as that lasts"
            raise ScenarioError(stage.analysis.path, stage.analysis.values, rule)
        metrics, its_interval_s, its_decision = _read_analysis(stage.analysis, templates, given)
        its_rails = [metric.rail for metric in metrics]
        if decision is None:
            interval_s, decision, rails = its_interval_s, its_decision, its_rails
        elif (interval_s, decision, rails) != (its_interval_s, its_decision, its_rails):
            rule = "must be the same as at the weight before, but for its counts"
            raise ScenarioError(stage.analysis.path, stage.analysis.values, rule)
        ends_s = {metric.end_s(interval_s) for metric in metrics}
        if len(ends_s) > 1 or math.inf in ends_s:
            rule = "must have counts with which all its metrics end together"
            raise ScenarioError(stage.analysis.path, sorted(ends_s), rule)
        [stage.pause_s] = ends_s
    assert decision is not None
    return interval_s, {**decision, "analysis": "step"}, rails


class _Metric:
    """A metric of an analysis."""

    def __init__(self, rail: dict[str, Any], count: int | None) -> None:
        self.rail, self.count = rail, count

    def end_s(self, interval_s: float) -> float:
        """Time of its last check, seconds from the start of its analysis."""
        if self.count is None:
            return math.inf
        return float(self.rail["delay_s"]) + self.count * interval_s


def _read_analysis(
    analysis: ForeignMapping, templates: dict[tuple[str, str], ForeignMapping], given: ImportOptions
) -> tuple[list[_Metric], float, dict[str, Any]]:
    """Return the metrics of an analysis, their interval and their limits."""
    analysis.ignore("measurementRetention", "analysisRunMetadata")
    analysis.refuse(
        {
            "startingStep": "must be absent: a plan's guardrails are there from the first stage on",
            "dryRun": "must be absent: a guardrail that decides nothing is none",
        }
    )
    args = {str(one.take("name", needed=True)): one for one in analysis.sections("args")}
    metrics: list[_Metric] = []
    common: list[tuple[float, dict[str, Any]]] = []
    names: set[str | None] = set()
    for reference in analysis.sections("templates", needed=True):
        kind = "ClusterAnalysisTemplate" if reference.flag("clusterScope") else "AnalysisTemplate"
        name = reference.text("templateName", needed=True)
        assert name is not None
        reference.done()
        if (kind, name) not in templates:
            raise reference.wrong("templateName", f"must be the name of a {kind} in the same file")
        spec = _filled(templates[kind, name], args)
        for metric in spec.sections("metrics", needed=True):
            foreign = metric.text("name", needed=True)
            if foreign in names:
                raise metric.wrong("name", "must be there once in an analysis")
            names.add(foreign)
            interval_s, decision, read_metric = _read_metric(metric, given)
            if common and common[0] != (interval_s, decision):
                rule = "must have the interval and the limits of the metrics before"
                raise ScenarioError(metric.path, metric.values.get("name"), rule)
            common.append((interval_s, decision))
            metrics.append(read_metric)
        spec.done()
    analysis.done()
    if not metrics:
        raise ScenarioError(analysis.path, dict(analysis.values), "must have a metric")
    return metrics, common[0][0], common[0][1]


def _filled(template: ForeignMapping, given: dict[str, ForeignMapping]) -> ForeignMapping:
    """Return the spec of a template with its arguments filled in."""
    template.ignore("apiVersion", "kind", "metadata", "status")
    spec = template.section("spec", needed=True)
    template.done()
    assert spec is not None
    spec.ignore("measurementRetention")
    spec.refuse(
        {
            "dryRun": "must be absent: a guardrail that decides nothing is none",
            "templates": "must be absent: name all templates where the analysis is",
        }
    )
    values = {str(one.take("name")): one.values.get("value") for one in spec.sections("args")}
    values |= {name: one.values.get("value") for name, one in given.items() if "value" in one}

    def fill(value: Any, path: str) -> Any:
        if not isinstance(value, str):
            return value
        for name in _ARG.findall(value):
            if not isinstance(values.get(name), str):
                raise ScenarioError(path, value, f"must be filled: args.{name} has no value")
            value = _ARG.sub(lambda found: str(values.get(found[1])), value, count=1)
        return value

    metrics = [
        {name: fill(value, f"{one.path}.{name}") for name, value in one.values.items()}
        for one in spec.sections("metrics")
    ]
    return _with(spec, {**spec.values, "metrics": metrics})


def _with(section: ForeignMapping, values: dict[str, Any]) -> ForeignMapping:
    filled = ForeignMapping(values, section.path)
    filled.ignore("args", *section.known)
    return filled


def _read_metric(
    metric: ForeignMapping, given: ImportOptions
) -> tuple[float, dict[str, Any], _Metric]:
    """Return a metric's interval, its limits, and the guardrail that it becomes."""
    ours, factor = given.metric(metric, "name")
    provider = metric.section("provider")
    if provider is not None:
        rule = "must be a provider that gives a number"
        provider.refuse({"job": rule, "kayenta": rule})
    metric.refuse({"consecutiveSuccessLimit": "must be 0: a plan's stage lasts as long as it says"})
    interval_s = metric.duration_s("interval", needed=True)
    assert interval_s is not None
    if interval_s == 0.0:
        raise metric.wrong("interval", "must be > 0s")
    count = metric.whole("count", 0, 10**6, digits=True) or None
    delay_s = metric.duration_s("initialDelay") or 0.0
    decision: dict[str, Any] = {"rule": "argo", "failures": 0}
    for name, field in _LIMITS.items():
        low = -1 if name == "failureLimit" else 0
        limit = metric.whole(name, low, 100_000, digits=True)
        if limit is not None:
            decision[field] = limit
    rail = {"metric": ours, "no_data": "hold", "delay_s": delay_s, **_read_limits(metric, factor)}
    metric.done()
    return interval_s, decision, _Metric(rail, count)


def _read_limits(metric: ForeignMapping, factor: float) -> dict[str, float]:
    """Return the limit up to which a check passes, and the limit beyond which it fails."""
    passes, fails = (_condition(metric, f"{name}Condition") for name in ("success", "failure"))
    if passes is None and fails is None:
        raise metric.wrong("successCondition", "must be given, or failureCondition")
    found: dict[str, float] = {}
    if passes is not None:
        is_upper = passes[0] in ("<", "<=")
        # At the limit a strict condition is false but a guardrail passes, so take the next float.
        limit = scaled(passes[1], factor)
        if passes[0] in ("<", ">"):
            limit = math.nextafter(limit, -math.inf if is_upper else math.inf)
        found["below" if is_upper else "above"] = limit
    if fails is not None:
        fails_above = fails[0] in (">", ">=")
        beyond = scaled(fails[1], factor)
        if fails[0] in (">=", "<="):
            beyond = math.nextafter(beyond, -math.inf if fails_above else math.inf)
        if passes is None:
            return {"below" if fails_above else "above": beyond}
        limit = found.get("below", found.get("above", math.nan))
        if fails_above != is_upper or (beyond < limit if is_upper else beyond > limit):
            rule = "must begin where successCondition ends, or after it"
            raise metric.wrong("failureCondition", rule)
        if beyond != limit:
            found["fails_beyond"] = beyond
    return found


def _condition(metric: ForeignMapping, name: str) -> tuple[str, float] | None:
    """Return a condition's operator and number."""
    text = metric.text(name)
    if text is None or not text.strip():
        return None
    match = _CONDITION.fullmatch(text)
    if match is None or not math.isfinite(float(match[2])):
        raise metric.wrong(name, 'must be one threshold, such as "result[0] <= 0.95"')
    return match[1], float(match[2])


def write(plan: Plan) -> str:
    """Return a plan as a Rollout and its AnalysisTemplate.

    These fields are left out, and the caller of `Plan.load` gives them: ``flag``, ``bucketing``,
    ``start_s``, ``rollback.sockets`` and ``window_s``, the length of gates (``gate_s``), and
    without guardrails ``check_every_s`` and ``decision``. An absent ``decision.analysis`` is read
    back as ``step``. The ``workloadRef`` and the providers are placeholders that have to be edited.

    Raises
    ------
    ScenarioError
        The plan contains something that they cannot express.

    Examples
    --------
    >>> plan = Plan(flag={"propagation": "pushed"}, stages=[{"percent": 100, "bake_s": 60}])
    >>> print(write(plan).partition("steps:")[2].strip())
    - setWeight: 100
          - pause:
              duration: 1m
    """
    name = kubernetes_name(plan)
    require_end_at_100(plan)
    require_guardrails(plan, no_data="hold")
    one_gate_s(plan)
    for number in range(1, len(plan.guardrails)):
        before = [rail.metric for rail in plan.guardrails[:number]]
        if plan.guardrails[number].metric in before:
            rule = "must be another's than a guardrail's before: an analysis names a metric once"
            metric = plan.guardrails[number].metric
            raise ScenarioError(f"guardrails.{number}.metric", metric, rule)
    if not plan.guardrails:
        return to_yaml(_rollout(name, {"steps": _steps(plan, None)}))
    require(plan, "decision.rule", "argo")
    reference: dict[str, Any] = {"templates": [{"templateName": name}]}
    counts = None
    canary: dict[str, Any]
    if plan.decision.analysis == "background":
        canary = {"analysis": reference, "steps": _steps(plan, None)}
    else:
        counts = [_counts(plan, number) for number in range(len(plan.stages))]
        canary = {"steps": _steps(plan, (reference, counts))}
    spec: dict[str, Any] = {
        "metrics": [_metric(plan, i, counts) for i in range(len(plan.guardrails))]
    }
    if counts is not None:
        spec = {"args": [{"name": f"checks-{i}"} for i in range(len(plan.guardrails))], **spec}
    template = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AnalysisTemplate",
        "metadata": {"name": name},
        "spec": spec,
    }
    return to_yaml(_rollout(name, canary), template)


def _rollout(name: str, canary: dict[str, Any]) -> dict[str, Any]:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": name},
        "spec": {"workloadRef": target, "strategy": {"canary": canary}},
    }


def _steps(plan: Plan, inline: tuple[dict[str, Any], list[list[int]]] | None) -> list[Any]:
    steps: list[Any] = []
    for number, stage in enumerate(plan.stages):
        if stage.gate_s:
            duration(stage.gate_s, f"stages.{number}.gate_s", 1.0)
            steps.append({"pause": {}})
        steps.append({"setWeight": whole_percent(plan, number)})
        if inline is None:
            path = f"stages.{number}.bake_s"
            steps.append({"pause": {"duration": duration(stage.bake_s, path, 1.0)}})
        else:
            reference, counts = inline
            args = [
                {"name": f"checks-{i}", "value": str(count)}
                for i, count in enumerate(counts[number])
            ]
            steps.append({"analysis": {**reference, "args": args}})
    return steps


def _counts(plan: Plan, number: int) -> list[int]:
    """Return how often each guardrail is checked in a stage."""
    bake_s, found = plan.stages[number].bake_s, []
    for i, rail in enumerate(plan.guardrails):
        count = round((bake_s - rail.delay_s) / plan.check_every_s)
        if not 1 <= count <= 10**6 or rail.delay_s + count * plan.check_every_s != bake_s:
            rule = (
                f"must be guardrails.{i}.delay_s ({rail.delay_s:g}) and a multiple of "
                f"check_every_s ({plan.check_every_s:g}): an analysis step counts its checks"
            )
            raise ScenarioError(f"stages.{number}.bake_s", bake_s, rule)
        found.append(count)
    return found


def _metric(plan: Plan, number: int, counts: list[list[int]] | None) -> dict[str, Any]:
    rail, decision = plan.guardrails[number], plan.decision
    limit, is_upper = rail.limit
    found: dict[str, Any] = {"name": rail.metric}
    found["interval"] = duration(plan.check_every_s, "check_every_s")
    if rail.delay_s:
        found["initialDelay"] = duration(rail.delay_s, f"guardrails.{number}.delay_s")
    if counts is not None:
        found["count"] = f"{{{{args.checks-{number}}}}}"
    found["successCondition"] = f"result[0] {'<=' if is_upper else '>='} {limit!r}"
    if rail.fails_beyond is not None:
        found["failureCondition"] = f"result[0] {'>' if is_upper else '<'} {rail.fails_beyond!r}"
    for name, field in _LIMITS.items():
        tolerated = getattr(decision, field)
        if tolerated is not None:
            found[name] = tolerated
    query = {"address": "http://prometheus:9090", "query": rail.metric}
    return {**found, "provider": {"prometheus": query}}


FORMAT = Format(
    name="argo",
    kind="plan",
    title="an Argo `Rollout` with its `AnalysisTemplate`",
    language="YAML",
    is_a="a Rollout",
    detect=lambda documents: bool(of_kind(documents, "Rollout")),
    read=read,
    write=write,
    implied={"decision": {"analysis": "step"}},
)
