"""Rollout plans as Flagger's Canary.

Each weight is a stage, as long as the interval between checks: Flagger moves on at the first look
at which all checks pass. The weight grows by ``stepWeight`` until it is ``maxWeight`` or more, so
the last one may be larger. After the last weight Flagger promotes the new version to all users and
checks nothing more. Here this is a last stage at 100 %, as long as one interval (or ``last_s``), in
which the guardrails are still checked. Failed checks count as in `rollout.tally`; a check
without data fails.

Flagger chooses a version for each request, or by a cookie; here each user has the cohort that the
bucketing rule gives.

Ignored: documents of other kinds in the file, ``metadata`` except for the name, ``status``; in the
spec ``targetRef``, ``autoscalerRef``, ``ingressRef``, ``routeRef``,
``upstreamRef``, ``gatewayRef``, ``service``, ``provider``, ``metricsServer``,
``progressDeadlineSeconds`` (of pods), ``revertOnDeletion``; in the analysis ``alerts``,
``stepWeightPromotion`` (by then both sides run the new version), ``primaryReadyThreshold``,
``canaryReadyThreshold``, ``sessionAffinity``; of a metric ``templateRef``, ``templateVariables``
and ``query`` (its name says what it is); webhooks that notify: ``event``, ``post-rollout``.
``confirm-rollout`` is the first stage's gate, ``confirm-traffic-increase`` every stage's,
``confirm-promotion`` that of the last stage, where it is not among the weights.

Refused: ``iterations``, ``match``, ``mirror``, ``skipAnalysis``, ``suspend``; webhooks whose answer
is a check or a command (``pre-rollout``, ``rollout``, which is the default, ``rollback``,
``skip``...); a metric over a span other than the interval (1m if the file does not give it).
The built-in metrics have no counterpart: ``request-success-rate`` is a share, not a rate of errors,
and ``request-duration`` is the 99th percentile of response times in ms, not of delivery latencies.
To use the latter for ours, pass ``metrics={"request-duration": ("latency_p99_s", 0.001)}``.

References
----------
Flagger, pkg/apis/flagger/v1beta1/canary.go, pkg/controller/scheduler.go (``maxWeight``,
``nextStepWeight``, ``runCanary``), docs.flagger.app, How it works and Metrics analysis.
"""

from __future__ import annotations

from typing import Any

from simlib.errors import ScenarioError
from simlib.rollout.exchange import ImportOptions
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

_SHORTEST_S = 10.0
_GATES = ("confirm-rollout", "confirm-traffic-increase", "confirm-promotion")
_NOTIFY = ("event", "post-rollout")


def read(documents: list[ForeignMapping], given: ImportOptions) -> dict[str, Any]:
    """Return the values of a plan that a Canary contains.

    Parameters
    ----------
    documents : list of ForeignMapping
        Documents, one of which is a Canary.
    given : ImportOptions

    Raises
    ------
    ScenarioError
        There are several Canaries, or the Canary contains something that a plan cannot express.

    Examples
    --------
    >>> canary = {"kind": "Canary", "spec": {"analysis": {"stepWeights": [25], "interval": "2m"}}}
    >>> read([ForeignMapping(canary, "canary.yaml")], ImportOptions())["stages"]
    [{'percent': 25.0, 'bake_s': 120.0}, {'percent': 100.0, 'bake_s': 120.0}]
    """
    canary = given.one_of(of_kind(documents, "Canary"), "Canary").renamed("")
    canary.ignore("apiVersion", "kind", "status")
    metadata = canary.section("metadata")
    spec = canary.section("spec", needed=True)
    canary.done()
    assert spec is not None
    spec.ignore("targetRef", "autoscalerRef", "ingressRef", "routeRef", "upstreamRef", "gatewayRef")
    spec.ignore("service", "provider", "metricsServer", "progressDeadlineSeconds")
    spec.ignore("revertOnDeletion")
    spec.refuse(
        {
            "skipAnalysis": "must be false: without an analysis there is nothing to rehearse",
            "suspend": "must be false: a Canary that is suspended does nothing",
            "canaryAnalysis": "must be under its name of today, analysis",
        }
    )
    analysis = spec.section("analysis", needed=True)
    spec.done()
    assert analysis is not None
    said = _read_analysis(analysis, given)
    name = metadata.text("name") if metadata else None
    return said if name is None else {"name": name, **said}


def _read_analysis(analysis: ForeignMapping, given: ImportOptions) -> dict[str, Any]:
    analysis.ignore("alerts", "stepWeightPromotion", "sessionAffinity")
    analysis.ignore("primaryReadyThreshold", "canaryReadyThreshold")
    analysis.refuse(
        {
            "iterations": "must be absent: an A/B test or blue/green has no percentages",
            "match": "must be absent: a plan chooses users by a hash, not by their requests",
            "mirror": "must be false: a plan sends nobody's requests twice",
            "mirrorWeight": "must be absent: a plan sends nobody's requests twice",
        }
    )
    interval_s = analysis.duration_s("interval")
    interval_s = 60.0 if interval_s is None else interval_s
    if interval_s < _SHORTEST_S:
        raise analysis.wrong("interval", "must be at least 10s: Flagger takes 10s for less")
    failures = analysis.whole("threshold", 0, 100_000) or 1
    weights = _weights(analysis)
    stages = [{"percent": float(weight), "bake_s": interval_s} for weight in weights]
    is_promoted = weights[-1] < 100
    if is_promoted:
        bake_s = interval_s if given.last_s is None else given.last_s
        stages.append({"percent": 100.0, "bake_s": bake_s})
    for webhook in analysis.sections("webhooks"):
        _read_webhook(webhook, stages, given, is_promoted)
    rails = [
        rail
        for metric in analysis.sections("metrics")
        for rail in _read_metric(metric, interval_s, given)
    ]
    analysis.done()
    return {
        "check_every_s": interval_s,
        "stages": stages,
        "guardrails": rails,
        "decision": {"rule": "flagger", "failures": failures},
    }


def _weights(analysis: ForeignMapping) -> list[int]:
    """Return the weights in order."""
    step, most = analysis.whole("stepWeight", 0, 100), analysis.whole("maxWeight", 0, 100)
    steps = list(analysis.items("stepWeights"))
    if not steps:
        if not step:
            raise analysis.wrong("stepWeight", "must be > 0, or stepWeights must be given")
        weights = [step]
        while weights[-1] < (most or 100):
            weights.append(min(weights[-1] + step, 100))
        return weights
    if step:
        raise analysis.wrong("stepWeight", "must be absent where there are stepWeights")
    if most:
        raise analysis.wrong("maxWeight", "must be absent: the last of stepWeights is the most")
    weights = []
    for weight, path in steps:
        if isinstance(weight, bool) or not isinstance(weight, int) or not 1 <= weight <= 100:
            raise ScenarioError(path, weight, "must be a whole number in [1, 100]")
        if weights and weight <= weights[-1]:
            raise ScenarioError(path, weight, f"must be > the one before ({weights[-1]})")
        weights.append(weight)
    return weights


def _read_webhook(
    webhook: ForeignMapping, stages: list[dict[str, float]], given: ImportOptions, is_promoted: bool
) -> None:
    kind = webhook.text("type") or "rollout"
    webhook.ignore("name", "url", "timeout", "metadata", "muteAlert", "retries", "disableTLS")
    webhook.done()
    if kind not in (*_GATES, *_NOTIFY):
        rule = f"must be one of {', '.join((*_GATES, *_NOTIFY))}: a plan calls nobody's service"
        raise ScenarioError(webhook.at("type"), kind, rule)
    gated = {
        "confirm-rollout": stages[:1],
        "confirm-traffic-increase": stages,
        "confirm-promotion": stages[-1:] if is_promoted else [],
    }.get(kind, [])
    for stage in gated:
        stage["gate_s"] = given.gate_s(webhook.path)


def _read_metric(
    metric: ForeignMapping, interval_s: float, given: ImportOptions
) -> list[dict[str, Any]]:
    ours, factor = given.metric(metric, "name")
    metric.ignore("templateRef", "templateVariables", "query")
    metric.refuse({"threshold": "must be under its name of today, thresholdRange"})
    window_s = metric.duration_s("interval")
    if (60.0 if window_s is None else window_s) != interval_s:
        rule = f"must be the analysis' ({interval_s:g} s): a check sees what came since the last"
        raise metric.wrong("interval", rule)
    bounds = metric.section("thresholdRange", needed=True)
    assert bounds is not None
    found = _limits(bounds.number("min"), bounds.number("max"), factor)
    bounds.done()
    metric.done()
    if not found:
        raise ScenarioError(bounds.path, {}, "must have a min or a max")
    return [{"metric": ours, "no_data": "fail", **limit} for limit in found]


def _limits(low: float | None, high: float | None, factor: float) -> list[dict[str, float]]:
    """Return a guardrail's limits, one for each bound that the file gives, in our unit."""
    found = []
    if low is not None:
        found.append({"above": scaled(low, factor)})
    if high is not None:
        found.append({"below": scaled(high, factor)})
    return found


def write(plan: Plan) -> str:
    """Return a plan as a Canary.

    These fields are left out, and the caller of `Plan.load` gives them: ``flag``, ``bucketing``,
    ``start_s``, ``rollback.sockets`` and ``window_s``, and the length of gates (``gate_s``). These
    are placeholders that have to be edited in the file: ``targetRef``, ``service``, each metric's
    ``templateRef``, and the addresses of webhooks.

    Raises
    ------
    ScenarioError
        The plan contains something that a Canary cannot express.

    Examples
    --------
    >>> plan = Plan(flag={"propagation": "pushed"}, stages=[{"percent": 100, "bake_s": 60}])
    >>> print(write(plan).partition("analysis:")[2].strip())
    interval: 1m
        threshold: 5
        stepWeights:
        - 100
    """
    name = kubernetes_name(plan)
    require(plan, "decision.rule", "flagger")
    require_guardrails(plan, no_data="fail", delay_s=0.0, fails_beyond=None)
    if plan.check_every_s < _SHORTEST_S:
        raise ScenarioError("check_every_s", plan.check_every_s, "must be >= 10, Flagger's least")
    interval = duration(plan.check_every_s, "check_every_s")
    weights: list[int] = []
    for number, stage in enumerate(plan.stages):
        require(plan, f"stages.{number}.bake_s", plan.check_every_s)
        weight = whole_percent(plan, number)
        if weight <= (weights[-1] if weights else 0):
            rule = "must be more than the stage's before: Flagger's weights rise, from 1 on"
            raise ScenarioError(f"stages.{number}.percent", stage.percent, rule)
        weights.append(weight)
    require_end_at_100(plan)
    metrics = [
        {
            "name": rail.metric,
            "templateRef": {"name": rail.metric.replace("_", "-")},
            "thresholdRange": {"max": rail.below}
            if rail.below is not None
            else {"min": rail.above},
            "interval": interval,
        }
        for rail in plan.guardrails
    ]
    analysis = {
        "interval": interval,
        "threshold": plan.decision.failures,
        "stepWeights": weights,
        **({"metrics": metrics} if metrics else {}),
        **_write_webhooks(plan),
    }
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    return to_yaml(
        {
            "apiVersion": "flagger.app/v1beta1",
            "kind": "Canary",
            "metadata": {"name": name},
            "spec": {"targetRef": target, "service": {"port": 80}, "analysis": analysis},
        }
    )


def _write_webhooks(plan: Plan) -> dict[str, Any]:
    gates = [stage.gate_s > 0 for stage in plan.stages]
    one_gate_s(plan)
    if not any(gates):
        return {}
    if not all(gates) and gates != [True] + [False] * (len(gates) - 1):
        number = gates.index(True) if not gates[0] else gates.index(False)
        rule = "must be a gate of the first stage alone, or of all: Flagger knows no other"
        raise ScenarioError(f"stages.{number}.gate_s", plan.stages[number].gate_s, rule)
    kind = "confirm-traffic-increase" if all(gates) else "confirm-rollout"
    url = "http://flagger-loadtester/gate/check"
    return {"webhooks": [{"name": "gate", "type": kind, "url": url}]}


FORMAT = Format(
    name="flagger",
    kind="plan",
    title="a Flagger `Canary`",
    language="YAML",
    is_a="a Canary",
    detect=lambda documents: bool(of_kind(documents, "Canary")),
    read=read,
    write=write,
)
