"""Rollout plans as Flagger's Canary.

Each weight is a stage, as long as the interval between checks: Flagger moves on at the first look
at which all checks pass. The weight grows by ``stepWeight`` until it is ``maxWeight`` or more, so
the last one may be larger; with ``stepWeights`` the last of them is the most, whatever
``maxWeight`` says. After the last weight Flagger promotes the new version to all users and checks
nothing more. Here this is a last stage at 100 %, as long as one interval (or ``last_s``), in which
the guardrails are still checked. Failed checks count as in `rollout.tally`; a check without data
fails. A metric looks back on its own interval (1m if the file does not give it), which may be
longer or shorter than that between checks.

``request-success-rate`` without a template is the share of requests without an error, in %: here
it is a most of `errors_per_request`. ``request-duration`` is the 99th percentile of response times
in ms, which has no counterpart: to use it for ours, pass ``metrics={"request-duration":
("latency_p99_s", 0.001)}``. A metric that is mapped to None is left out.

A rehearsal calls nobody's service, so the caller says what webhooks answer (``webhooks="pass"``, or
by name or type). ``rollout`` (the default) is asked at each look, ``pre-rollout`` before the first
weight. ``confirm-rollout`` is the first stage's gate, ``confirm-traffic-increase`` every stage's,
``confirm-promotion`` that of the last stage, where it is not among the weights; a gate takes
``gate_s``, or nothing if it passes at once. No look is taken during a gate, where Flagger goes on
checking (but for ``confirm-rollout``): a long gate of another kind has fewer failed checks here. A
``rollback`` or ``skip`` that passes would end the analysis: by its name or type it may only fail;
``webhooks="pass"`` means that all of them let the rollout go on.

Flagger chooses a version for each request, or by a cookie; here each user has the cohort that the
bucketing rule gives. With ``sessionAffinity`` that has no ``primaryCookieName``, users of the new
version keep it and every request of the others is decided anew: ``bucketing.sticks`` is enrolled.

Ignored: documents of other kinds in the file, ``metadata`` except for the name, ``status``; in the
spec ``targetRef``, ``autoscalerRef``, ``ingressRef``, ``routeRef``,
``upstreamRef``, ``gatewayRef``, ``service``, ``provider``, ``metricsServer``,
``progressDeadlineSeconds`` (of pods), ``revertOnDeletion``; in the analysis ``alerts``,
``stepWeightPromotion`` (by then both sides run the new version), ``primaryReadyThreshold``,
``canaryReadyThreshold``; of a metric ``templateRef``, ``templateVariables``
and ``query`` (its name says what it is); webhooks that notify: ``event``, ``post-rollout``.

Refused: ``iterations`` (blue/green, or with ``match`` an A/B test) and ``provider: kubernetes``
(which makes ten iterations of any weights), as they have no percentages; ``match``, ``mirror``,
``skipAnalysis``, ``suspend``; a gate that never opens, and a ``rollback`` that is asked for.

References
----------
Flagger, pkg/apis/flagger/v1beta1/canary.go, pkg/controller/scheduler.go (``maxWeight``,
``nextStepWeight``, ``runCanary``; the provider kubernetes), docs.flagger.app, How it works, Metrics
analysis and Webhooks; fluxcd/flagger issue 1532 on sessions that drift.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from simlib.errors import ScenarioError
from simlib.rollout.exchange import ImportOptions, Meaning, check_direction
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

_SHORTEST_S = 10.0
_WINDOW_S = 60.0
"""What a metric looks back on if the file does not say it."""
_GATES = ("confirm-rollout", "confirm-traffic-increase", "confirm-promotion")
_NOTIFY = ("event", "post-rollout")
_ASKED = ("pre-rollout", "rollout")
_ENDS = ("rollback", "skip")
"""Webhooks whose passing ends the analysis: it goes back, or promotes at once."""
_BUILT_IN = {"request-success-rate": Meaning("errors_per_request", -0.01, 1.0)}
_OF_PODS = "it is about pods, which a rehearsal has none of"
_ROUTED = "a rehearsal sends no requests through it"


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
    spec.ignore("targetRef", "autoscalerRef", "progressDeadlineSeconds", why=_OF_PODS)
    spec.ignore("ingressRef", "routeRef", "upstreamRef", "gatewayRef", "service", why=_ROUTED)
    spec.ignore("metricsServer", "revertOnDeletion")
    spec.refuse(
        {
            "skipAnalysis": "must be false: without an analysis there is nothing to rehearse",
            "suspend": "must be false: a Canary that is suspended does nothing",
            "canaryAnalysis": "must be under its name of today, analysis",
        }
    )
    if spec.text("provider") == "kubernetes":
        rule = (
            "must be another: this one shifts no traffic by weight, so that Flagger makes ten "
            "iterations of any weights, without a user on the new version, and then moves everybody"
        )
        spec.reading.problem(spec.wrong("provider", rule))
    spec.ignore("provider", why=_ROUTED)
    said: dict[str, Any] = {}
    name = None
    if metadata is not None:
        name = metadata.text("name")
        metadata.became("name", f"name = {name}")
        metadata.ignore(*(each for each in metadata.values if each != "name"))
    with spec.reading.going_on():
        analysis = spec.section("analysis", needed=True)
        assert analysis is not None
        said = _read_analysis(analysis, given)
    spec.done()
    return said if name is None else {"name": name, **said}


def _read_analysis(analysis: ForeignMapping, given: ImportOptions) -> dict[str, Any]:
    analysis.ignore("alerts", why="nobody is told in a rehearsal")
    analysis.ignore("stepWeightPromotion", why="by then both sides run the new version")
    analysis.ignore("primaryReadyThreshold", "canaryReadyThreshold", why=_OF_PODS)
    analysis.refuse(
        {
            "iterations": (
                "must be absent: looks that often without a user on the new version, and then "
                "everybody at once (blue/green; with match an A/B test), is no percentage"
            ),
            "match": "must be absent: a plan chooses users by a hash, not by their requests",
            "mirror": "must be false: a plan sends nobody's requests twice",
            "mirrorWeight": "must be absent: a plan sends nobody's requests twice",
        }
    )
    interval_s = 60.0
    with analysis.reading.going_on():
        said_s = analysis.duration_s("interval")
        interval_s = interval_s if said_s is None else said_s
        if interval_s < _SHORTEST_S:
            raise analysis.wrong("interval", "must be at least 10s: Flagger takes 10s for less")
    analysis.became("interval", f"check_every_s = {interval_s:g}", "and how long a stage lasts")
    failures = 1
    with analysis.reading.going_on():
        failures = analysis.whole("threshold", 0, 100_000) or 1
    analysis.became(
        "threshold", f"decision.failures = {failures}", "at the look after, it goes back"
    )
    weights = [100]
    with analysis.reading.going_on():
        weights = _weights(analysis) if "iterations" not in analysis else weights
    stages = [{"percent": float(weight), "bake_s": interval_s} for weight in weights]
    is_promoted = weights[-1] < 100
    if is_promoted:
        bake_s = interval_s if given.last_s is None else given.last_s
        stages.append({"percent": 100.0, "bake_s": bake_s})
    failing: list[str] = []
    # A rollout that never gets beyond its pre-rollout checks has a stage for them before all gates.
    webhooks = analysis.sections("webhooks")
    for webhook in sorted(webhooks, key=lambda one: one.values.get("type") != "pre-rollout"):
        with analysis.reading.going_on():
            _read_webhook(webhook, stages, given, failing, is_promoted=is_promoted)
    rails: list[dict[str, Any]] = []
    for metric in analysis.sections("metrics"):
        with analysis.reading.going_on():
            rails += _read_metric(metric, interval_s, given)
    affinity = _read_affinity(analysis)
    analysis.done()
    return {
        **affinity,
        "check_every_s": interval_s,
        "stages": stages,
        "guardrails": rails,
        "decision": {"rule": "flagger", "failures": failures},
        **({"failing": failing} if failing else {}),
    }


def _read_affinity(analysis: ForeignMapping) -> dict[str, Any]:
    """Return what sessions that stick to a version mean for who is enrolled."""
    affinity = analysis.section("sessionAffinity")
    if affinity is None:
        return {}
    is_of_both = affinity.text("primaryCookieName")
    if not is_of_both:
        why = "each request of the others is decided anew"
        affinity.reading.note(affinity.path, "bucketing.sticks = enrolled", why)
    affinity.ignore(*affinity.values)
    return {} if is_of_both else {"bucketing": {"sticks": "enrolled"}}


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
        after = "then 100 %" if weights[-1] < 100 else "to the end"
        analysis.became("stepWeight", f"stages at {', '.join(map(str, weights))} %", after)
        analysis.became("maxWeight", f"the last weight is {weights[-1]} %", after)
        return weights
    if step:
        raise analysis.wrong("stepWeight", "must be absent where there are stepWeights")
    weights = []
    for weight, path in steps:
        if isinstance(weight, bool) or not isinstance(weight, int) or not 1 <= weight <= 100:
            raise ScenarioError(path, weight, "must be a whole number in [1, 100]")
        if weights and weight <= weights[-1]:
            raise ScenarioError(path, weight, f"must be > the one before ({weights[-1]})")
        analysis.reading.note(path, f"stages.{len(weights)}.percent = {weight}")
        weights.append(weight)
    analysis.became("maxWeight", IGNORED, f"the last of stepWeights is the most ({weights[-1]})")
    return weights


def _read_webhook(
    webhook: ForeignMapping,
    stages: list[dict[str, float]],
    given: ImportOptions,
    failing: list[str],
    *,
    is_promoted: bool,
) -> None:
    kind = webhook.text("type") or "rollout"
    webhook.ignore("name", "url", "timeout", "metadata", "muteAlert", "retries", "disableTLS")
    webhook.done()
    known = (*_GATES, *_ASKED, *_ENDS, *_NOTIFY)
    if kind not in known:
        raise ScenarioError(webhook.at("type"), kind, f"must be one of {', '.join(known)}")
    note = partial(webhook.reading.note, webhook.path)
    if kind in _NOTIFY:
        return note(IGNORED, "it only tells somebody")
    answer = given.webhook(webhook, kind)
    name = str(webhook.values.get("name") or kind)
    if kind in _GATES:
        return note(*_gate(webhook, kind, answer, stages, given, is_promoted=is_promoted))
    if answer is None:
        rule = (
            f'must be acknowledged, as a plan calls nobody: webhooks="pass" (or fail), or '
            f'webhooks={{"{name}": "pass"}}, by its name or its type ({kind})'
        )
        raise ScenarioError(webhook.path, name, rule)
    if answer == "wait":
        raise ScenarioError(f"webhooks.{name}", answer, "must be pass or fail")
    if kind in _ENDS:
        if answer == "pass" and not given.answers_all:
            what = "goes back" if kind == "rollback" else "promotes at once"
            rule = f"must be fail: Flagger {what} when it passes; for a rollback, give kill_s"
            raise ScenarioError(f"webhooks.{name}", answer, rule)
        return note(IGNORED, f"the caller says that nobody asks for it ({kind})")
    if answer == "pass":
        return note(IGNORED, f"the caller says that it passes ({kind})")
    failing.append(name)
    if kind == "pre-rollout" and stages[0]["percent"] > 0.0:
        stages.insert(0, {"percent": 0.0, "bake_s": stages[0]["bake_s"]})
    return note(f"failing = {name}", "the caller says that it fails at every look")


def _gate(
    webhook: ForeignMapping,
    kind: str,
    answer: str | None,
    stages: list[dict[str, float]],
    given: ImportOptions,
    *,
    is_promoted: bool,
) -> tuple[str, str]:
    """Give stages the gate of a webhook, and return what became of it, and why."""
    if answer == "fail":
        rule = "must be pass or wait: a gate that nobody opens keeps the rollout where it is"
        raise ScenarioError(f"webhooks.{webhook.values.get('name')}", answer, rule)
    if answer == "pass":
        return IGNORED, f"the caller says that it passes at once ({kind})"
    gated = {
        "confirm-rollout": stages[:1],
        "confirm-traffic-increase": stages,
        "confirm-promotion": stages[-1:] if is_promoted else [],
    }[kind]
    for stage in gated:
        stage["gate_s"] = given.gate_s(webhook.path)
    stages_gated = "one stage" if len(gated) == 1 else f"{len(gated)} stages"
    return (f"gate_s of {stages_gated}" if gated else IGNORED), kind


def _read_metric(
    metric: ForeignMapping, interval_s: float, given: ImportOptions
) -> list[dict[str, Any]]:
    known = {} if "templateRef" in metric else _BUILT_IN
    ours = given.metric(metric, "name", known)
    metric.ignore("templateRef", "templateVariables", "query", why="its name says what it is")
    metric.refuse({"threshold": "must be under its name of today, thresholdRange"})
    window_s = metric.duration_s("interval")
    if window_s == 0.0:
        raise metric.wrong("interval", "must be > 0s")
    window_s = _WINDOW_S if window_s is None else window_s
    is_own = window_s != interval_s
    metric.became("interval", f"window_s = {window_s:g}" if is_own else "since the look before")
    bounds = metric.section("thresholdRange", needed=True)
    assert bounds is not None
    low, high = bounds.number("min"), bounds.number("max")
    bounds.done()
    metric.done()
    if low is None and high is None:
        raise ScenarioError(bounds.path, {}, "must have a min or a max")
    if ours is None:
        return []
    found = []
    for name, limits in (("min", ours.limits(low, None)), ("max", ours.limits(None, high))):
        if limits:
            check_direction(metric, "name", ours, limits)
            [(side, limit)] = limits.items()
            bounds.became(name, f"{ours.metric} {side} {limit:g}", "a check without data fails")
            rail = {"metric": ours.metric, "no_data": "fail", **limits}
            found.append({**rail, "window_s": window_s} if is_own else rail)
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
    require_guardrails(plan, no_data="fail", delay_s=0.0, fails_beyond=None, every_s=None)
    require_guardrails(plan, no_number=None, is_evaluated=True)
    require(plan, "failing", ())
    if plan.check_every_s < _SHORTEST_S:
        raise ScenarioError("check_every_s", plan.check_every_s, "must be >= 10, Flagger's least")
    interval = duration(plan.check_every_s, "check_every_s")
    weights: list[int] = []
    for number, stage in enumerate(plan.stages):
        require(plan, f"stages.{number}.bake_s", plan.check_every_s)
        require(plan, f"stages.{number}.watch_s", stage.bake_s)
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
            "interval": interval if rail.window_s is None else _window(rail.window_s, number),
        }
        for number, rail in enumerate(plan.guardrails)
    ]
    analysis = {
        "interval": interval,
        "threshold": plan.decision.failures,
        "stepWeights": weights,
        **({"metrics": metrics} if metrics else {}),
        **_write_affinity(plan),
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


def _window(window_s: float, number: int) -> str:
    return duration(window_s, f"guardrails.{number}.window_s")


def _write_affinity(plan: Plan) -> dict[str, Any]:
    if plan.bucketing.sticks == "users":
        return {}
    return {"sessionAffinity": {"cookieName": f"{kubernetes_name(plan)}-version"}}


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
