"""Rollout plans as other tools write them: `Plan.load` and `Plan.dump` beyond TOML.

``flagger``
    A Canary of Flagger's (`scenario.flagger`).
``argo``
    A Rollout of Argo Rollouts' with its AnalysisTemplates (`scenario.argo`).
``unleash``, ``growthbook``
    A release plan of Unleash's, a ramp schedule of GrowthBook's (`scenario.schedules`).

A reader returns what its file says, as values of a `Plan`; the caller says the rest. Neither way is
anything dropped silently: what the other side cannot say is refused by name, and each module's head
lists what has no meaning there. What is written is read back before it is returned.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from simlib.errors import ScenarioError
from simlib.rollout.formats.documents import ForeignMapping, go_seconds, go_text, parsed, scaled
from simlib.scenario.units import parse_duration_s

if TYPE_CHECKING:
    from simlib.rollout.plan import Plan

NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")


class ImportOptions:
    """What the caller says beside a file.

    Parameters
    ----------
    metrics : mapping, optional
        From a foreign metric's name to one of `plan.METRICS`, or to a pair of that and the factor
        from the foreign unit to ours.
    gate_s : float or str, optional
        How long somebody takes to approve, seconds.
    last_s : float or str, optional
        How long the last stage is watched, where the file does not say, seconds.

    Raises
    ------
    ScenarioError
        One of them is not that.
    """

    def __init__(self, metrics: Any = None, gate_s: Any = None, last_s: Any = None) -> None:
        from simlib.core.measures import METRICS

        self.metrics: dict[str, tuple[str, float]] = {name: (name, 1.0) for name in METRICS}
        if metrics is not None and not isinstance(metrics, Mapping):
            raise ScenarioError("metrics", metrics, "must map foreign metric names to ours")
        for name, ours in (metrics or {}).items():
            pair = ours if isinstance(ours, tuple | list) else (ours, 1.0)
            if not isinstance(name, str) or len(pair) != 2 or pair[0] not in METRICS:
                rule = f"must be one of {', '.join(METRICS)}, or a pair of that and a factor"
                raise ScenarioError(f"metrics.{name}", ours, rule)
            factor = pair[1]
            is_number = isinstance(factor, int | float) and not isinstance(factor, bool)
            if not is_number or not 0 < factor <= 1e12:
                raise ScenarioError(f"metrics.{name}", factor, "must be a factor in (0, 1e12]")
            self.metrics[name] = pair[0], float(factor)
        self._gate_s, self.last_s = _seconds("gate_s", gate_s), _seconds("last_s", last_s)

    def gate_s(self, path: str) -> float:
        """Return how long approval takes at a gate of the file."""
        if self._gate_s is None:
            rule = f"must be given: how long somebody takes to approve at {path}, seconds"
            raise ScenarioError("gate_s", None, rule)
        return self._gate_s

    def metric(self, section: ForeignMapping, name: str) -> tuple[str, float]:
        """Return our name for the metric that a section names, and the factor to our unit."""
        foreign = section.text(name, needed=True)
        assert foreign is not None
        if foreign not in self.metrics:
            rule = f'must be one of ours, or metrics={{"{foreign}": ...}} must say which it is'
            raise section.wrong(name, rule)
        return self.metrics[foreign]


def _seconds(name: str, given: Any) -> float | None:
    try:
        seconds = parse_duration_s(given)
    except ValueError as error:
        raise ScenarioError(name, given, str(error)) from None
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is None or (is_number and 0 <= seconds < math.inf):
        return None if seconds is None else float(seconds)
    raise ScenarioError(name, given, "must be a duration >= 0")


def read(documents: list[ForeignMapping], given: ImportOptions) -> dict[str, Any]:
    """Return what documents say of a plan, as its values.

    Parameters
    ----------
    documents : list of Section
        Of one file.
    given : Given

    Returns
    -------
    dict
        Some of `Plan`'s fields.

    Raises
    ------
    ScenarioError
        They are of none of the formats, or say what a plan cannot.
    """
    from simlib.rollout.formats import argo, flagger, schedules

    kinds = [document.values.get("kind") for document in documents]
    if "Canary" in kinds:
        return flagger.read(documents, given)
    if "Rollout" in kinds:
        return argo.read(documents, given)
    [first, *more] = documents
    for key, reader in (
        ("milestones", schedules.read_unleash),
        ("featureId", schedules.read_growthbook),
    ):
        if key in first:
            if more:
                raise ScenarioError(more[0].path, more[0].values, "must hold one document alone")
            return reader(first.renamed(""), given)
    rule = "must be a Canary, a Rollout, or have milestones (Unleash) or a featureId (GrowthBook)"
    raise ScenarioError(first.path, next((kind for kind in kinds if kind), None), rule)


def merged(said: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file and its caller say, together.

    Parameters
    ----------
    said : dict
        Of the file.
    settings : mapping
        Of the caller.

    Raises
    ------
    ScenarioError
        Both say the same field, or neither says how the flag reaches a tab.

    Examples
    --------
    >>> said = {"bucketing": {"rule": "unleash", "flag": "push"}}
    >>> merged(said, {"flag": {"reach": "pushed"}, "bucketing": {"ids": "email"}})
    {'bucketing': {'rule': 'unleash', 'flag': 'push', 'ids': 'email'}, 'flag': {'reach': 'pushed'}}
    >>> merged(said, {})
    Traceback (most recent call last):
        ...
    simlib.errors.ScenarioError: flag: must be given, such as {"reach": "polled", ...
    """
    values = dict(said)
    for name, value in settings.items():
        if name in said and not (name == "bucketing" and isinstance(value, Mapping)):
            raise ScenarioError(name, value, "must be left to the file, which says it")
        if name == "bucketing":
            for field in value if isinstance(value, Mapping) else ():
                if field in said.get(name, ()):
                    rule = "must be left to the file, which says it"
                    raise ScenarioError(f"bucketing.{field}", value[field], rule)
            if name in said:
                value = {**said[name], **value}
        values[name] = value
    if "bucketing" in said and values["bucketing"].get("rule") is None:
        rule = "must be given, growthbook or growthbook_v1: the file does not say its hashVersion"
        raise ScenarioError("bucketing.rule", None, rule)
    if "flag" not in values:
        rule = 'must be given, such as {"reach": "polled", "every_s": 60}: the file cannot say it'
        raise ScenarioError("flag", None, rule)
    return values


def write(plan: Plan, format: str) -> str:  # noqa: A002  (what it is)
    """Return a plan as a file of another tool.

    Parameters
    ----------
    plan : Plan
    format : {"flagger", "argo", "unleash", "growthbook"}

    Raises
    ------
    ScenarioError
        The format is not known, or cannot say what the plan says.
    """
    from simlib.rollout.formats import argo, flagger, schedules

    writers = {
        "flagger": flagger.write,
        "argo": argo.write,
        "unleash": schedules.write_unleash,
        "growthbook": schedules.write_growthbook,
    }
    if not isinstance(format, str) or format not in writers:
        raise ScenarioError("format", format, f"must be toml, {', '.join(writers)}")
    require(plan, "kill_s", None)
    require(plan, "rollback.percents", (0.0,))
    require(plan, "bucketing.deciders", "ramp")
    for number, rail in enumerate(plan.guardrails):
        for name in ("times_control", "judge"):
            if getattr(rail, name) is not None:
                rule = f"must be a limit, below or above: {format} knows no control cohort"
                raise ScenarioError(f"guardrails.{number}.{name}", getattr(rail, name), rule)
        if rail.min_sample != 1:
            rule = f"must be 1: {format} counts no observations"
            raise ScenarioError(f"guardrails.{number}.min_sample", rail.min_sample, rule)
    text = writers[format](plan)
    _read_back(plan, text, format)
    return text


def _read_back(plan: Plan, text: str, format: str) -> None:  # noqa: A002  (what it is)
    """Raise unless a file says what the plan says, but for what its caller says."""
    language = "YAML" if format in ("flagger", "argo") else "JSON"
    given = ImportOptions(gate_s=one_gate_s(plan), last_s=plan.stages[-1].bake_s)
    said = read(parsed(text, format, language), given)
    wanted = plan.model_dump()
    if plan.decision.rule == "argo" and plan.decision.analysis is None:
        wanted["decision"]["analysis"] = "step"
    settings = {name: value for name, value in wanted.items() if name not in said}
    if "bucketing" in said:
        others = plan.bucketing.model_dump().items()
        settings["bucketing"] = {k: v for k, v in others if k not in said["bucketing"]}
    again = type(plan)(**merged(said, settings)).model_dump()
    for name, value in wanted.items():
        if "decision" not in said and name == "decision":
            continue
        if again[name] != value:
            raise ScenarioError(name, value, f"must be such that {format} can say it")


def require(plan: Plan, path: str, *right: Any) -> None:
    """Raise unless a field of a plan is one of the values that a format can say."""
    value: Any = plan
    for name in path.split("."):
        value = value[int(name)] if name.isdigit() else getattr(value, name)
    if value not in right:
        words = " or ".join(repr(one) for one in right)
        raise ScenarioError(path, value, f"must be {words}: the format can say nothing else")


def require_guardrails(plan: Plan, **right: Any) -> None:
    """Raise unless a field of every guardrail is what a format can say."""
    for number in range(len(plan.guardrails)):
        for name, value in right.items():
            require(plan, f"guardrails.{number}.{name}", value)


def require_end_at_100(plan: Plan) -> None:
    """Raise unless everybody is enrolled in the end."""
    require(plan, f"stages.{len(plan.stages) - 1}.percent", 100.0)


def kubernetes_name(plan: Plan) -> str:
    """Return a plan's name, which has to be one that Kubernetes takes."""
    if not NAME.fullmatch(plan.name):
        rule = "must be small letters, digits and hyphens, at most 63, to be a name in Kubernetes"
        raise ScenarioError("name", plan.name, rule)
    return plan.name


def whole_percent(plan: Plan, number: int) -> int:
    """Return a stage's percentage, which has to be a whole number."""
    percent = plan.stages[number].percent
    if percent != int(percent):
        rule = "must be a whole number: the format knows no fractions of a percent"
        raise ScenarioError(f"stages.{number}.percent", percent, rule)
    return int(percent)


def duration(seconds: float, path: str, smallest_s: float = 1e-9) -> str:
    """Return a duration in Go's manner; it has to be a multiple of the smallest."""
    text = go_text(seconds)
    # To be read back as it is: Go counts nanoseconds, a float may hold less.
    if go_seconds(text) != seconds or (smallest_s == 1.0 and seconds != int(seconds)):
        rule = f"must be a multiple of {smallest_s:g} s: the format knows nothing finer"
        raise ScenarioError(path, seconds, rule)
    return text


def one_gate_s(plan: Plan) -> float:
    """Return how long every gate of a plan takes, which has to be the same; 0: there is none."""
    gates = {stage.gate_s for stage in plan.stages if stage.gate_s}
    if len(gates) > 1:
        number = next(i for i, stage in enumerate(plan.stages) if stage.gate_s == max(gates))
        rule = "must be as long as the other gates: the caller says one gate_s for all of them"
        raise ScenarioError(f"stages.{number}.gate_s", max(gates), rule)
    return max(gates, default=0.0)


def limits(low: float | None, high: float | None, factor: float) -> list[dict[str, float]]:
    """Return a guardrail's limit for each bound that there is, in our unit."""
    found = []
    if low is not None:
        found.append({"above": scaled(low, factor)})
    if high is not None:
        found.append({"below": scaled(high, factor)})
    return found
