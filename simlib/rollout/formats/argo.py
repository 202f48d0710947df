"""Rollout plans as Argo Rollouts' Rollout and AnalysisTemplates, in one file.

Each ``setWeight`` starts a stage, which lasts as long as the pauses and the analysis after it.
``pause: {}`` waits for approval, which takes ``gate_s``, as the caller says. After a timed pause or
an analysis, or before the first weight, it is the gate of the next stage. If it is all that follows
a weight, the approval is the length of that stage, as an analysis in the background continues
during it. After the last step Argo gives the new version to all users and ends its analyses. If the
steps do not end with a weight of 100 and its length, this becomes a last stage here, of one check
(or ``last_s``), in which the guardrails are still checked if an analysis in the background does so.

A stage is watched during its analysis alone: `Stage.watched_from_s` is the pause before it, what is
left of the stage the pause after it. A weight without an analysis is not watched where others have
one; nor are the weights before ``startingStep`` of an analysis in the background.

Argo measures a metric when an analysis starts, and then at every interval. Here the first check is
one interval later, when there are data. So an analysis step of n measurements lasts n intervals
here, and n - 1 in Argo. Measurements that err do not count: the step lasts until there are n
others, or too many errors in a row. Without a traffic router Argo's weights are
rounded to shares of pods; here they are exact, and each user has the cohort that the bucketing rule
gives.

A condition is evaluated (`formats.conditions`) on what its provider returns: with a value, where
its turn is the guardrail's limit; without a number (NaN), which is `Guardrail.no_number`; and on an
empty result, which is `Guardrail.no_data`. One that does not fit what the provider returns errs at
each measurement (`Guardrail.is_evaluated`).

Ignored: documents of other kinds in the file, and templates that no analysis names; ``metadata``
except for the name, ``status``; in the Rollout's spec ``replicas``, ``selector``, ``template``,
``workloadRef``, ``minReadySeconds``, ``revisionHistoryLimit``, ``progressDeadlineSeconds``,
``progressDeadlineAbort``, ``restartAt``, ``rollbackWindow``, ``analysis``; in the canary strategy
``canaryService``, ``stableService``, ``canaryMetadata``, ``stableMetadata``, ``trafficRouting``
(but a ``maxTrafficWeight``), ``maxSurge``, ``maxUnavailable``, ``antiAffinity``,
``dynamicStableScale``, ``minPodsPerReplicaSet``, ``scaleDownDelaySeconds``,
``scaleDownDelayRevisionLimit``, ``abortScaleDownDelaySeconds``, ``replicaProgressThreshold``,
``pingPong``; steps of ``setCanaryScale``; of an analysis ``measurementRetention``,
``analysisRunMetadata``; of a metric ``provider``, with its query (its name identifies it); metrics
of a ``dryRun``, which decide nothing.

Refused: ``blueGreen``, ``paused``; steps of ``experiment``, ``setHeaderRoute``, ``setMirrorRoute``,
``plugin``; analyses in steps *and* in the background, or different ones in different steps;
a metric without an interval, with ``consecutiveSuccessLimit``, whose
``count`` ends it before its stage or the rollout, or whose interval is no multiple of the shortest;
conditions that do not turn at one number; a provider that does
not give a number (``job``, ``kayenta``).

References
----------
Argo Rollouts, docs/features/specification.md, docs/features/canary/index.md,
docs/features/analysis.md, pkg/apis/rollouts/v1alpha1/analysis_types.go and types.go,
analysis/analysis.go (errors do not raise the count), metricproviders.
"""

from __future__ import annotations

import math
import re
from typing import Any

from simlib.errors import ScenarioError
from simlib.rollout.exchange import ONE_CHECK_S, ImportOptions
from simlib.rollout.formats.argo_analysis import LIMITS, Analysis, read_analysis
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
from simlib.scenario.documents import IGNORED, ForeignMapping, of_kind, to_yaml
from simlib.scenario.formats import Format

_OF_PODS = "it is about pods, which a rehearsal has none of"
_ROUTED = "a rehearsal sends no requests through it"
_NO_STEPS = {
    "experiment": "must not be a step: a plan starts no replica sets of its own",
    "setHeaderRoute": "must not be a step: a plan chooses users by a hash, not by their requests",
    "setMirrorRoute": "must not be a step: a plan sends nobody's requests twice",
    "plugin": "must not be a step: what a plugin does is not known",
}


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
    spec.ignore("replicas", "selector", "template", "workloadRef", "minReadySeconds", why=_OF_PODS)
    spec.ignore("revisionHistoryLimit", "progressDeadlineSeconds", "progressDeadlineAbort")
    spec.ignore("restartAt", "rollbackWindow", "analysis")
    spec.refuse({"paused": "must be false: a Rollout that is paused does nothing"})
    strategy = spec.section("strategy", needed=True)
    spec.done()
    assert strategy is not None
    strategy.refuse({"blueGreen": "must be canary: blue/green has no percentages"})
    said: dict[str, Any] = {}
    if "canary" in strategy or "blueGreen" not in strategy:
        canary = strategy.section("canary", needed=True)
        assert canary is not None
        templates = _templates(documents)
        said = _read_canary(canary, templates, given)
        for template in templates.values():
            if not template.known:
                why = "no analysis names it, so that Argo does not run it: it guards nothing"
                template.reading.note(template.path, IGNORED, why)
    strategy.done()
    name = None
    if metadata is not None:
        name = metadata.text("name")
        metadata.became("name", f"name = {name}")
        metadata.ignore(*(each for each in metadata.values if each != "name"))
    return said if name is None else {"name": name, **said}


def _templates(documents: list[ForeignMapping]) -> dict[tuple[str, str], ForeignMapping]:
    """Return the file's templates by kind and name."""
    found: dict[tuple[str, str], ForeignMapping] = {}
    kinds = [document.values.get("kind") for document in documents]
    for number, document in enumerate(documents):
        kind = kinds[number]
        if kind not in ("AnalysisTemplate", "ClusterAnalysisTemplate"):
            continue
        before = kinds[:number].count(kind)
        template = document.renamed(f"{kind} {before + 1}" if before else str(kind))
        metadata = ForeignMapping(
            template.values.get("metadata"), template.at("metadata"), template.reading
        )
        name = metadata.text("name", needed=True)
        assert name is not None
        metadata.ignore(*metadata.values)
        if (kind, name) in found:
            raise metadata.wrong("name", "must be another's than the template's before")
        found[kind, name] = template
    return found


class _Stage:
    """A weight, and the steps that follow it."""

    def __init__(self, percent: int, path: str, step: int) -> None:
        self.percent, self.path, self.step = percent, path, step
        self.pause_s = self.before_s = self.gate_s = 0.0
        self.pauses: list[tuple[int, float]] = []
        self.watch_s: float | None = None
        self.analysis: ForeignMapping | None = None
        self.gate: str | None = None

    @property
    def bake_s(self) -> float:
        return self.pause_s + (self.watch_s or 0.0)

    def watched(self) -> dict[str, float]:
        """Return from when it is watched, and for how long, where that is not the whole stage."""
        said = {"watched_from_s": self.before_s} if self.before_s else {}
        if self.watch_s is not None and self.before_s + self.watch_s != self.bake_s:
            said["watched_s"] = self.watch_s
        return said


def _read_canary(
    canary: ForeignMapping, templates: dict[tuple[str, str], ForeignMapping], given: ImportOptions
) -> dict[str, Any]:
    canary.ignore("canaryService", "stableService", "canaryMetadata", "stableMetadata", why=_ROUTED)
    canary.ignore("maxSurge", "maxUnavailable", "antiAffinity", "dynamicStableScale", why=_OF_PODS)
    canary.ignore("minPodsPerReplicaSet", "scaleDownDelaySeconds", "scaleDownDelayRevisionLimit")
    canary.ignore(
        "abortScaleDownDelaySeconds", "replicaProgressThreshold", "pingPong", why=_OF_PODS
    )
    routing = canary.section("trafficRouting")
    if routing is not None:
        with canary.reading.going_on():
            if routing.whole("maxTrafficWeight", 1, 10**6) not in (None, 100):
                rule = "must be 100: a plan's weights are percentages"
                raise routing.wrong("maxTrafficWeight", rule)
        routing.ignore(*routing.values, why=_ROUTED)
    stages, first_gate = _read_steps(canary)
    background = canary.section("analysis")
    canary.done()
    in_steps = [stage.analysis for stage in stages if stage.analysis is not None]
    if background is not None and in_steps:
        raise ScenarioError(in_steps[0].path, in_steps[0].values, "must be all or in background")
    said: dict[str, Any] = {"guardrails": []}
    ends_s: list[float] = []  # when the counts of an analysis in the background end
    interval_s = None
    from_stage = 0
    if background is not None:
        from_stage = _starting_stage(background, stages)
        analysis = read_analysis(background, templates, given)
        interval_s, ends_s = analysis.interval_s, analysis.ends_s
        said |= {"decision": {**analysis.decision, "analysis": "background"}}
        said |= {"guardrails": analysis.rails}
    elif in_steps:
        analysis = _read_inline(stages, templates, given)
        interval_s = analysis.interval_s
        said |= {"decision": {**analysis.decision, "analysis": "step"}}
        said |= {"guardrails": analysis.rails}
    said["stages"] = _lengths(stages, first_gate, given, interval_s, is_inline=bool(in_steps))
    for stage in said["stages"][:from_stage]:
        stage["watched_s"] = 0.0
    if interval_s is not None:
        said["check_every_s"] = interval_s
    length_s = sum(one["bake_s"] + one["gate_s"] for one in said["stages"][from_stage:])
    if any(end_s < length_s for end_s in ends_s):
        assert background is not None
        rule = f"must have no count, or one that lasts for the whole rollout ({length_s:g} s)"
        raise ScenarioError(background.path, min(ends_s), rule)
    return said


def _starting_stage(background: ForeignMapping, stages: list[_Stage]) -> int:
    """Return the first stage that an analysis in the background watches."""
    step = background.whole("startingStep", 0, 10**6)
    if not step:
        return 0
    number = max((n for n, stage in enumerate(stages) if stage.step <= step), default=0)
    stage = stages[number]
    stage.before_s = sum(pause_s for at, pause_s in stage.pauses if at < step)
    why = f"the stages before are not watched, this one from {stage.before_s:g} s on"
    background.became("startingStep", f"stages.{number}", why)
    if stage.before_s and stage.before_s == stage.pause_s:
        return number + 1  # it starts when this stage is over
    return number


def _read_steps(canary: ForeignMapping) -> tuple[list[_Stage], str | None]:
    """Return the stages, and the path of a gate before the first of them, if there is one."""
    stages: list[_Stage] = []
    first_gate = None
    for number, step in enumerate(canary.sections("steps", needed=True)):
        step.refuse(_NO_STEPS)
        weight = step.whole("setWeight", 0, 100)
        pause, analysis = step.values.get("pause"), step.section("analysis")
        step.ignore("setCanaryScale", why=_OF_PODS)
        step.known.add("pause")
        step.done()
        says = [name for name in ("setWeight", "pause", "analysis") if name in step.values]
        if len(says) > 1:
            raise ScenarioError(step.path, dict(step.values), "must be one thing")
        if weight is not None:
            if stages and weight < stages[-1].percent:
                rule = f"must be >= the weight before ({stages[-1].percent})"
                raise step.wrong("setWeight", rule)
            step.became("setWeight", f"stages.{len(stages)}.percent = {weight}")
            stages.append(_Stage(weight, step.path, number))
            continue
        if not says:
            continue
        if stages and stages[-1].gate is not None:
            rule = "must come before pause: {}, which has to be the last of its weight"
            raise ScenarioError(step.path, dict(step.values), rule)
        if analysis is not None:
            if not stages or stages[-1].analysis is not None:
                raise step.wrong("analysis", "must follow a weight, once")
            stages[-1].analysis, stages[-1].before_s = analysis, stages[-1].pause_s
            continue
        pause_s = _pause_s(ForeignMapping(pause or {}, step.at("pause"), step.reading))
        place = f"stages.{len(stages) - 1}"
        if pause_s is None and not stages and first_gate is None:
            first_gate = step.path
            step.became("pause", "stages.0.gate_s")
        elif not stages:
            raise step.wrong("pause", "must follow a weight: before the first, once and {}")
        elif pause_s is None:
            stages[-1].gate = step.path
            step.became("pause", f"a gate after {place}", "somebody has to approve")
        else:
            stages[-1].pause_s += pause_s
            stages[-1].pauses.append((number, pause_s))
            step.became("pause", f"{place}.bake_s: {pause_s:g} s of it")
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
    stages: list[_Stage],
    first_gate: str | None,
    given: ImportOptions,
    interval_s: float | None,
    *,
    is_inline: bool,
) -> list[dict[str, float]]:
    """Return the stages as values of a plan."""
    found: list[dict[str, float]] = []
    gate = first_gate
    last = len(stages) - 1
    shortest_s = interval_s
    if shortest_s is None:
        shortest_s = min([ONE_CHECK_S, *(stage.pause_s for stage in stages if stage.pause_s)])
    last_s = shortest_s if given.last_s is None else given.last_s
    unwatched = {"watched_s": 0.0} if is_inline else {}
    for number, stage in enumerate(stages):
        gate_s = 0.0 if gate is None else given.gate_s(gate)
        gate, bake_s = stage.gate, stage.bake_s
        if not bake_s and gate is not None:
            bake_s, gate = given.gate_s(gate), None
        if not bake_s and number == last and stage.percent == 100:
            bake_s = last_s
        if not bake_s:
            rule = "must be followed by a pause or an analysis: nobody looks at this weight"
            raise ScenarioError(f"{stage.path}.setWeight", stage.percent, rule)
        watched = unwatched if stage.analysis is None and is_inline else stage.watched()
        length = {"bake_s": bake_s, "gate_s": gate_s, **watched}
        found.append({"percent": float(stage.percent), **length})
    if stages[-1].percent < 100:
        gate_s = 0.0 if gate is None else given.gate_s(gate)
        found.append({"percent": 100.0, "bake_s": last_s, "gate_s": gate_s, **unwatched})
    return found


def _read_inline(
    stages: list[_Stage], templates: dict[tuple[str, str], ForeignMapping], given: ImportOptions
) -> Analysis:
    """Read analyses in steps, each of which determines how long its stage is watched."""
    first: Analysis | None = None
    for stage in stages:
        if stage.analysis is None:
            continue
        stage.analysis.ignore("startingStep", why="it is of an analysis in the background")
        analysis = read_analysis(stage.analysis, templates, given)
        if first is None:
            first = analysis
        elif analysis[:3] != first[:3]:
            rule = "must be the same as at the weight before, but for its counts"
            raise ScenarioError(stage.analysis.path, stage.analysis.values, rule)
        ends_s = set(analysis.ends_s)
        if len(ends_s) > 1 or math.inf in ends_s:
            rule = "must have counts with which all its metrics end together"
            raise ScenarioError(stage.analysis.path, sorted(ends_s), rule)
        [stage.watch_s] = ends_s
    assert first is not None
    return first


def write(plan: Plan) -> str:
    """Return a plan as a Rollout and its AnalysisTemplate.

    These fields are left out, and the caller of `Plan.load` gives them: ``flag``, ``bucketing``,
    ``start_s``, ``rollback.sockets`` and ``window_s``, the length of gates (``gate_s``), and
    without guardrails ``check_every_s`` and ``decision``. An absent ``decision.analysis`` is read
    back as ``step``, an absent ``no_number`` of a guardrail as what Argo makes of NaN. The
    ``workloadRef`` and the providers are placeholders that have to be edited.

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
        if inline is None or stage.watch_s == 0.0:
            steps.append(_pause(stage.bake_s, number))
            continue
        if stage.watched_from_s:
            steps.append(_pause(stage.watched_from_s, number))
        reference, counts = inline
        args = [
            {"name": f"checks-{i}", "value": str(count)} for i, count in enumerate(counts[number])
        ]
        steps.append({"analysis": {**reference, "args": args}})
        after_s = stage.bake_s - stage.watched_from_s - stage.watch_s
        if after_s:
            steps.append(_pause(after_s, number))
    return steps


def _pause(length_s: float, number: int) -> dict[str, Any]:
    return {"pause": {"duration": duration(length_s, f"stages.{number}.bake_s", 1.0)}}


def _counts(plan: Plan, number: int) -> list[int]:
    """Return how often each guardrail is checked in a stage."""
    watch_s, found = plan.stages[number].watch_s, []
    for i, rail in enumerate(plan.guardrails if watch_s else ()):
        every_s = rail.every_s or plan.check_every_s
        count = round((watch_s - rail.delay_s) / every_s)
        if not 1 <= count <= 10**6 or rail.delay_s + count * every_s != watch_s:
            rule = (
                f"must be guardrails.{i}.delay_s ({rail.delay_s:g}) and a multiple of "
                f"check_every_s ({plan.check_every_s:g}): an analysis step counts its checks"
            )
            raise ScenarioError(f"stages.{number}.bake_s", watch_s, rule)
        found.append(count)
    return found


def _metric(plan: Plan, number: int, counts: list[list[int]] | None) -> dict[str, Any]:
    rail, decision = plan.guardrails[number], plan.decision
    limit, is_upper = rail.limit
    found: dict[str, Any] = {"name": rail.metric}
    path = "check_every_s" if rail.every_s is None else f"guardrails.{number}.every_s"
    found["interval"] = duration(rail.every_s or plan.check_every_s, path)
    if rail.delay_s:
        found["initialDelay"] = duration(rail.delay_s, f"guardrails.{number}.delay_s")
    if counts is not None:
        found["count"] = f"{{{{args.checks-{number}}}}}"
    found["successCondition"] = f"result[0] {'<=' if is_upper else '>='} {limit!r}"
    if rail.fails_beyond is not None:
        found["failureCondition"] = f"result[0] {'>' if is_upper else '<'} {rail.fails_beyond!r}"
    for name, field in LIMITS.items():
        tolerated = (
            getattr(decision, field) if getattr(rail, field) is None else getattr(rail, field)
        )
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
