"""Argo's analyses: which metrics a template measures, how often, and what is a failure.

`formats.argo` says what is ignored and what is refused.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

from simlib.errors import ScenarioError
from simlib.rollout.exchange import ImportOptions, Meaning, check_direction
from simlib.rollout.formats.conditions import (
    Condition,
    Shape,
    Threshold,
    phase,
    result_of,
    shape_of,
)
from simlib.scenario.documents import IGNORED, ForeignMapping

LIMITS = {
    "failureLimit": "failures",
    "inconclusiveLimit": "inconclusive",
    "consecutiveErrorLimit": "errors",
}
"""Argo's limits, and what a plan calls them."""
_DEFAULTS = {"failureLimit": 0, "inconclusiveLimit": 0, "consecutiveErrorLimit": 4}
_ONE_THRESHOLD = 'must turn at one number, such as "result[0] <= 0.95"'
_LONGEST_PATTERN = 100
_ARG = re.compile(r"\{\{\s*args\.([-\w]+)\s*\}\}")


class Analysis(NamedTuple):
    """What an analysis asks for.

    Attributes
    ----------
    interval_s : float
        The shortest of its metrics'.
    decision : dict
        The limits of its first metric.
    rails : list of dict
    ends_s : list of float
        When each of its metrics has been measured often enough, from its start; also of those that
        decide nothing.
    """

    interval_s: float
    decision: dict[str, Any]
    rails: list[dict[str, Any]]
    ends_s: list[float]


class _Metric(NamedTuple):
    """A metric of an analysis; without a guardrail it decides nothing."""

    name: str
    interval_s: float
    times: int | None
    limits: dict[str, int]
    rail: dict[str, Any] | None
    delay_s: float

    @property
    def end_s(self) -> float:
        """Time of its last check, seconds from the start of its analysis."""
        return math.inf if self.times is None else self.delay_s + self.times * self.interval_s


def read_analysis(
    analysis: ForeignMapping, templates: dict[tuple[str, str], ForeignMapping], given: ImportOptions
) -> Analysis:
    """Return what an analysis asks for."""
    analysis.ignore("measurementRetention", "analysisRunMetadata")
    analysis.known.add("startingStep")  # which the strategy reads
    dry = _dry(analysis)
    args: dict[str, ForeignMapping] = {}
    for arg in analysis.sections("args"):
        name = str(arg.take("name", needed=True))
        args[name] = arg
        for key in ("value", "valueFrom"):
            arg.take(key)
            arg.became(key, f"{{{{args.{name}}}}}")
        arg.done()
    metrics: list[_Metric] = []
    names: set[str | None] = set()
    paths: list[str] = []
    for reference in analysis.sections("templates", needed=True):
        spec = _template_of(reference, templates, args)
        dry += _dry(spec)
        for section in spec.sections("metrics", needed=True):
            foreign = section.text("name", needed=True)
            if foreign in names:
                raise section.wrong("name", "must be there once in an analysis")
            names.add(foreign)
            with section.reading.going_on():
                metrics.append(_read_metric(section, given, dry))
                paths.append(section.path)
        spec.done()
    analysis.done()
    if not metrics:
        analysis.reading.finish()  # where all of them have problems, those are the reason
        raise ScenarioError(analysis.path, dict(analysis.values), "must have a metric")
    shortest_s = min(metric.interval_s for metric in metrics)
    decision = {"rule": "argo", "failures": 0, **_named(metrics[0].limits)}
    rails = []
    for one, path in zip(metrics, paths, strict=True):
        times = one.interval_s / shortest_s
        if abs(times - round(times)) > 1e-9:
            rule = f"must be a multiple of the shortest of its analysis ({shortest_s:g} s)"
            raise ScenarioError(f"{path}.interval", one.interval_s, rule)
        if one.rail is None:
            continue
        own: dict[str, Any] = {} if one.interval_s == shortest_s else {"every_s": one.interval_s}
        of_first, its = ({**_DEFAULTS, **each.limits} for each in (metrics[0], one))
        own |= _named({name: its[name] for name in _DEFAULTS if its[name] != of_first[name]})
        rails.append({**one.rail, **own})
    return Analysis(shortest_s, decision, rails, [metric.end_s for metric in metrics])


def _named(limits: dict[str, int]) -> dict[str, Any]:
    """Return limits by their names in a plan."""
    return {LIMITS[name]: limit for name, limit in limits.items()}


def _dry(section: ForeignMapping) -> list[str]:
    """Return the patterns of the metrics that decide nothing."""
    found = []
    for one in section.sections("dryRun"):
        pattern = one.text("metricName", needed=True)
        assert pattern is not None
        if len(pattern) > _LONGEST_PATTERN or not _is_pattern(pattern):
            raise one.wrong("metricName", "must be a regular expression, and no long one")
        one.became("metricName", "metrics that decide nothing", "a dry run")
        one.done()
        found.append(pattern)
    return found


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError):
        return False
    return not re.search(r"[*+}]\)?[*+{]", text)  # which may take for ever


def _template_of(
    reference: ForeignMapping,
    templates: dict[tuple[str, str], ForeignMapping],
    args: dict[str, ForeignMapping],
) -> ForeignMapping:
    """Return the spec of a template that an analysis names, with its arguments filled in."""
    kind = "ClusterAnalysisTemplate" if reference.flag("clusterScope") else "AnalysisTemplate"
    name = reference.text("templateName", needed=True)
    assert name is not None
    reference.done()
    if (kind, name) not in templates:
        raise reference.wrong("templateName", f"must be the name of a {kind} in the same file")
    reference.became("templateName", f"the {kind} {name}")
    return _filled(templates[kind, name], args)


def _filled(template: ForeignMapping, given: dict[str, ForeignMapping]) -> ForeignMapping:
    """Return the spec of a template with its arguments filled in."""
    template.ignore("apiVersion", "kind", "metadata", "status")
    spec = template.section("spec", needed=True)
    template.done()
    assert spec is not None
    spec.ignore("measurementRetention")
    spec.refuse({"templates": "must be absent: name all templates where the analysis is"})
    values: dict[str, Any] = {}
    for arg in spec.sections("args"):
        values[str(arg.take("name"))] = arg.values.get("value")
        arg.ignore("value", "valueFrom")
        arg.done()
    spec.became("args", "what {{args...}} are if the analysis does not say it")
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
    filled = ForeignMapping({**spec.values, "metrics": metrics}, spec.path, spec.reading)
    filled.known.update(spec.known - {"metrics"})
    return filled


def _read_metric(metric: ForeignMapping, given: ImportOptions, dry: list[str]) -> _Metric:
    """Return a metric's interval, its limits, and the guardrail that it becomes."""
    name = str(metric.values.get("name"))
    is_dry = any(re.search(pattern, name) for pattern in dry)
    ours = None if is_dry else given.metric(metric, "name")
    metric.refuse({"consecutiveSuccessLimit": "must be 0: a plan's stage lasts as long as it says"})
    interval_s = metric.duration_s("interval", needed=True)
    assert interval_s is not None
    if interval_s == 0.0:
        raise metric.wrong("interval", "must be > 0s")
    metric.became("interval", f"checked every {interval_s:g} s")
    count = metric.whole("count", 0, 10**6, digits=True) or None
    times = "measured without end" if count is None else f"measured {count} times"
    metric.became("count", times, "errors do not count")
    delay_s = metric.duration_s("initialDelay") or 0.0
    metric.became("initialDelay", f"delay_s = {delay_s:g}")
    limits = {}
    for limit_name in LIMITS:
        low = -1 if limit_name == "failureLimit" else 0
        limit = metric.whole(limit_name, low, 100_000, digits=True)
        if limit is not None:
            limits[limit_name] = limit
            metric.became(limit_name, f"{LIMITS[limit_name]} = {limit}")
    rail: dict[str, Any] | None = None
    if ours is not None:
        rail = {"metric": ours.metric, "delay_s": delay_s, **_read_conditions(metric, ours)}
        check_direction(metric, "name", ours, rail)
        for place in ("successCondition", "failureCondition"):
            metric.became(place, _in_words(rail))
    else:
        metric.ignore("successCondition", "failureCondition")
    metric.ignore("provider", why="the metric's name says what it is")
    if rail is not None:
        metric.became("provider", "what a result looks like", "the metric's name says what it is")
    if is_dry:
        metric.reading.note(metric.path, IGNORED, "a dry run: it decides nothing")
    metric.done()
    return _Metric(name, interval_s, count, limits, rail, delay_s)


def _in_words(rail: dict[str, Any]) -> str:
    """Say what conditions have become."""
    sides = [name for name in ("below", "above", "fails_beyond") if name in rail]
    limits = ", ".join(f"{side} {rail[side]:.10g}" for side in sides)
    empty = f"without data: {rail['no_data']}"
    nan = f", without a number: {rail['no_number']}" if "no_number" in rail else ""
    errs = "" if rail.get("is_evaluated", True) else "; it errs at each measurement"
    return f"{rail['metric']} {limits}; {empty}{nan}{errs}"


def _read_conditions(metric: ForeignMapping, ours: Meaning) -> dict[str, Any]:
    """Return what the conditions of a metric ask for."""
    passes, fails = (_condition(metric, f"{name}Condition") for name in ("success", "failure"))
    if passes is None and fails is None:
        raise metric.wrong("successCondition", "must be given, or failureCondition")
    provider, shape = _provider(metric)
    shapes: tuple[Shape, ...] = ("vector", "number", "series", "row")
    found: dict[str, Any] = {}
    for tried in (*([shape] if shape else []), *shapes):
        limits = _limits(metric, passes, fails, tried, ours)
        if limits is not None:
            break
    else:
        name = "successCondition" if passes is not None else "failureCondition"
        raise metric.wrong(name, _ONE_THRESHOLD)
    found |= limits
    if shape is not None and tried != shape:
        return {**found, "no_data": "hold", "is_evaluated": False}
    found["no_data"] = phase(passes, fails, result_of(tried, None))
    no_number = phase(passes, fails, result_of(tried, math.nan))
    if provider == "wavefront":  # which measures NaN as inconclusive, whatever the conditions
        return {**found, "no_number": "inconclusive"}
    if provider != "prometheus":  # no other gives what is no number
        return found
    return found if no_number == found["no_data"] else {**found, "no_number": no_number}


def _provider(metric: ForeignMapping) -> tuple[str, Shape | None]:
    """Return a metric's provider and what it returns, as far as that is known."""
    provider = metric.section("provider")
    if provider is None:
        return "", None
    rule = "must be a provider that gives a number"
    provider.refuse({"job": rule, "kayenta": rule})
    names = [name for name, value in provider.values.items() if isinstance(value, dict)]
    if len(names) != 1:
        return "", None
    query = provider.values[names[0]].get("query")
    return names[0], shape_of(names[0], query if isinstance(query, str) else "")


def _limits(
    metric: ForeignMapping,
    passes: Condition | None,
    fails: Condition | None,
    shape: Shape,
    ours: Meaning,
) -> dict[str, float] | None:
    """Return the limit up to which a check passes, and the limit beyond which it fails.

    None if the conditions cannot be evaluated on what a provider of this shape returns.
    """
    turns: dict[str, tuple[bool, float]] = {}
    for name, condition in (("success", passes), ("failure", fails)):
        if condition is None:
            continue
        try:
            turn = condition.threshold(shape)
        except ValueError:
            raise metric.wrong(f"{name}Condition", _ONE_THRESHOLD) from None
        if turn is None:
            return None
        turns[name] = _ours(turn, ours, is_failure=name == "failure")
    if "success" not in turns:
        is_upper, limit = turns["failure"]
        return {"below" if is_upper else "above": limit}
    is_upper, limit = turns["success"]
    found = {"below" if is_upper else "above": limit}
    if "failure" in turns:
        fails_above, beyond = turns["failure"]
        if fails_above != is_upper or (beyond < limit if is_upper else beyond > limit):
            rule = "must begin where successCondition ends, or after it"
            raise metric.wrong("failureCondition", rule)
        if beyond != limit:
            found["fails_beyond"] = beyond
    return found


def _ours(turn: Threshold, ours: Meaning, *, is_failure: bool) -> tuple[bool, float]:
    """Return whether values above a limit are bad, and the last good value, in our unit."""
    is_upper = turn.sign.startswith("<") != is_failure
    is_good_there = turn.sign.endswith("=") != is_failure
    if ours.factor < 0.0:
        is_upper = not is_upper
    limit = ours.ours(turn.limit)
    # At the limit a strict condition is false but a guardrail passes, so take the next float.
    if not is_good_there:
        limit = math.nextafter(limit, -math.inf if is_upper else math.inf)
    return is_upper, limit


def _condition(metric: ForeignMapping, name: str) -> Condition | None:
    """Return a condition, if there is one."""
    text = metric.text(name)
    if text is None or not text.strip():
        return None
    try:
        return Condition(text)
    except ValueError:
        raise metric.wrong(name, _ONE_THRESHOLD) from None
