"""Reading plans from other tools' files: `Plan.load` for all formats but TOML.

A format's reader returns the values of a `Plan` that its file contains; the caller gives the rest.
Nothing is dropped silently: a key that a plan cannot express is refused by name, and the docstring
of each format's module lists the keys that are ignored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from simlib.core.measures import MEASURES, METRICS
from simlib.errors import ScenarioError, shown
from simlib.scenario import suggestions
from simlib.scenario.documents import IGNORED, ForeignMapping, Reading, Said, read_documents
from simlib.scenario.formats import recognised
from simlib.scenario.places import in_file, refuse_foreign
from simlib.scenario.suggestions import hint
from simlib.scenario.units import parse_duration_s

ONE_CHECK_S = 60.0
"""The length of the last stage if neither the file nor the caller gives it, seconds."""
A_FLAG = {"propagation": "polled", "every_s": 60}
"""What errors give as an example of the flag, which is needed and has no default."""


ANSWERS = ("pass", "fail", "wait")
"""What a webhook may answer: it lets the rollout go on, it fails, or it does so after a wait."""


class Meaning(NamedTuple):
    """What a foreign metric is here: ``offset + factor * value`` of `metric`.

    Examples
    --------
    >>> success = Meaning("errors_per_request", -0.01, 1.0)  # from a success rate in per cent
    >>> success.limits(99, None)
    {'below': 0.01}
    >>> Meaning("latency_p99_s", 0.001, 0.0).limits(None, 500)
    {'below': 0.5}
    """

    metric: str
    factor: float
    offset: float

    def ours(self, value: float) -> float:
        """Return a foreign value in our unit, in decimal arithmetic."""
        product = Decimal(repr(float(value))) * Decimal(repr(self.factor))
        return float(product + Decimal(repr(self.offset)))

    def limits(self, low: float | None, high: float | None) -> dict[str, float]:
        """Return a guardrail's limits in our unit, by their names."""
        if self.factor < 0.0:
            low, high = high, low
        given = {"above": low, "below": high}
        return {name: self.ours(value) for name, value in given.items() if value is not None}

    @property
    def words(self) -> str:
        """How it is computed from the foreign value."""
        scaled = "" if self.factor == 1.0 else f" = {self.factor:g} x"
        return self.metric + scaled + (f" + {self.offset:g}" if self.offset else "")


class ImportOptions:
    """What the caller of `Plan.load` gives beside a file.

    Parameters
    ----------
    metrics : mapping, optional
        From a foreign metric's name to one of `core.measures.METRICS`; to a pair of that and the
        factor from the foreign unit to ours; to a triple with what is added then; or to None, to
        leave it out.
    gate_s : float or str, optional
        How long an approval takes, seconds.
    last_s : float or str, optional
        Length of the last stage, if the file does not give it, seconds.
    name : str, optional
        The plan to read, if the file holds several.
    webhooks : str or mapping, optional
        What the file's webhooks answer, one of `ANSWERS`: all, or each by its name or its type.

    Raises
    ------
    ScenarioError
        An argument has a wrong type or is out of range.
    """

    def __init__(
        self,
        metrics: Any = None,
        gate_s: Any = None,
        last_s: Any = None,
        name: Any = None,
        webhooks: Any = None,
    ) -> None:
        self.name = name
        self._webhooks = _answers(webhooks)
        self._answered: set[str] = set()
        self.metrics: dict[str, Meaning | None] = {one: Meaning(one, 1.0, 0.0) for one in METRICS}
        if metrics is not None and not isinstance(metrics, Mapping):
            raise ScenarioError("metrics", metrics, "must map foreign metric names to ours")
        for name, ours in (metrics or {}).items():
            self.metrics[name] = _meaning(name, ours)
        self._gate_s, self.last_s = _seconds("gate_s", gate_s), _seconds("last_s", last_s)

    def gate_s(self, path: str) -> float:
        """Return how long approval takes at a gate of the file."""
        if self._gate_s is None:
            rule = f"must be given: how long somebody takes to approve at {path}, seconds"
            raise ScenarioError("gate_s", None, rule)
        return self._gate_s

    def metric(
        self, section: ForeignMapping, name: str, known: Mapping[str, Meaning] | None = None
    ) -> Meaning | None:
        """Return what the metric is here that a section names; None if it is to be left out.

        Parameters
        ----------
        section : ForeignMapping
        name : str
            Its key for the metric's name.
        known : mapping of str to Meaning, optional
            What the tool itself means by some names.
        """
        foreign = section.text(name, needed=True)
        assert foreign is not None
        meanings = {**(known or {}), **self.metrics}
        if foreign not in meanings:
            rule = f'must be one of ours, or metrics={{"{foreign}": ...}} must say which it is'
            raise section.wrong(name, rule)
        found = meanings[foreign]
        if found is None:
            section.reading.note(section.path, IGNORED, "the caller leaves it out")
        else:
            section.became(name, found.words)
        return found

    def webhook(self, section: ForeignMapping, kind: str) -> str | None:
        """Return what a webhook answers, or None if its caller has not said it."""
        if isinstance(self._webhooks, str):
            return self._webhooks
        name = section.values.get("name")
        for key in (name, kind):
            if isinstance(key, str) and key in self._webhooks:
                self._answered.add(key)
                return self._webhooks[key]
        return None

    @property
    def answers_all(self) -> bool:
        """Whether the caller has said one answer for all webhooks."""
        return isinstance(self._webhooks, str)

    def check_webhooks(self, reading: Reading) -> None:
        """Refuse what the caller has said of webhooks that the file has not."""
        if isinstance(self._webhooks, str):
            return
        for name, answer in self._webhooks.items():
            if name not in self._answered:
                rule = "must be the name or the type of a webhook in the file"
                reading.problem(ScenarioError(f"webhooks.{name}", answer, rule))

    def one_of(self, found: list[ForeignMapping], what: str) -> ForeignMapping:
        """Return the only plan of a file, or the one that has the name given by the caller."""
        names = [_name_of(one) for one in found]
        known = ", ".join(str(name) for name in names if name is not None)
        if len(found) == 1 and (self.name is None or not known):
            return found[0]
        if self.name is None or not known:
            rule = "must be there once in a file"
            rule += f", or name= must say which: {known}" if known else ""
            raise ScenarioError(found[0].path, what, rule)
        if names.count(self.name) != 1:
            rule = f"must be the name of one {what} of the file alone: {known}"
            raise ScenarioError("name", self.name, rule)
        return found[names.index(self.name)]


def check_direction(section: ForeignMapping, name: str, ours: Meaning, limits: Any) -> None:
    """Refuse a least value of what is the worse the more there is of it.

    Such a limit is what becomes of a success rate that is taken for a rate of errors: a fleet
    without errors would fail. Who uses our own names says what he means.
    """
    measure = MEASURES[ours.metric]
    is_turned = "above" in limits and measure.worse == "higher" and measure.scope == "cohort"
    if not is_turned or section.values.get(name) == ours.metric:
        return
    rule = (
        f"must not become a least value of {ours.metric}, of which more is worse: say how it turns "
        f'round, as ("errors_per_request", -0.01, 1) does of a success rate in %'
    )
    section.reading.problem(section.wrong(name, rule))


def _meaning(name: Any, ours: Any) -> Meaning | None:
    """Return what a caller says of a foreign metric."""
    if ours is None and isinstance(name, str):
        return None
    parts = tuple(ours) if isinstance(ours, tuple | list) else (ours,)
    if not isinstance(name, str) or not 1 <= len(parts) <= 3 or parts[0] not in METRICS:
        rule = f"must be one of {', '.join(METRICS)}, or that, a factor and what is added, or None"
        rule += hint(parts[0], METRICS, suggestions.METRIC_ALIASES) if parts else ""
        label = name if isinstance(name, str) else shown(name)
        raise ScenarioError(f"metrics.{label}", ours, rule)
    whole: list[Any] = [*parts, *(1.0, 0.0)[len(parts) - 1 :]]
    factor, offset = whole[1:]
    for number, right in ((factor, "a factor between -1e12 and 1e12, not 0"), (offset, "a number")):
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if not is_number or not abs(number) <= 1e12:
            raise ScenarioError(f"metrics.{name}", number, f"must be {right}")
    if factor == 0:
        raise ScenarioError(f"metrics.{name}", factor, "must be a factor that is not 0")
    return Meaning(parts[0], float(factor), float(offset))


def _answers(given: Any) -> str | dict[str, str]:
    """Check what a caller says of webhooks."""
    if given is None:
        return {}
    by_name = given if isinstance(given, Mapping) else {"": given}
    for name, answer in by_name.items():
        if not isinstance(name, str) or answer not in ANSWERS:
            path = f"webhooks.{name}" if isinstance(given, Mapping) else "webhooks"
            rule = f"must be {', '.join(ANSWERS)}, or names or types of webhooks with one of these"
            raise ScenarioError(path, answer, rule)
    return dict(given) if isinstance(given, Mapping) else str(given)


def _name_of(document: ForeignMapping) -> Any:
    """Return a document's name, which Kubernetes keeps in its metadata and others at the top."""
    metadata = document.values.get("metadata")
    return (metadata if isinstance(metadata, Mapping) else document.values).get("name")


def _seconds(name: str, given: Any) -> float | None:
    try:
        seconds = parse_duration_s(given)
    except ValueError as error:
        raise ScenarioError(name, given, str(error)) from None
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is None or (is_number and 0 <= seconds < math.inf):
        return None if seconds is None else float(seconds)
    raise ScenarioError(name, given, "must be a duration >= 0")


def read(
    path: Path, given: ImportOptions, settings: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Said]]:
    """Return the values of a plan from a file and from the caller's settings.

    Parameters
    ----------
    path : Path
    given : ImportOptions
    settings : mapping
        Fields of a plan, from the caller.

    Returns
    -------
    values : dict
    explained : list of Said
        What became of each key of the file.

    Raises
    ------
    ScenarioError
        The file cannot be read, has none of the formats, contains something that a plan cannot
        express, or contains a field that the caller gives too. All problems are said at once.
    """
    documents = read_documents(path)
    refuse_foreign(path, "plan")
    reading = Reading()
    said: dict[str, Any] = {}
    with reading.going_on():
        said = said_by(documents, given, reading)
        given.check_webhooks(reading)
    with reading.going_on():
        said = merged(said, settings)
    try:
        reading.finish()
    except ScenarioError as error:
        raise in_file(error, path) from None
    return said, list(reading.explained())


def said_by(
    documents: list[ForeignMapping], given: ImportOptions, reading: Reading | None = None
) -> dict[str, Any]:
    """Return the fields of a plan that the documents of one file contain.

    Parameters
    ----------
    documents : list of ForeignMapping
    given : ImportOptions
    reading : Reading, optional
        Gets the problems; absent: the first one is raised.

    Raises
    ------
    ScenarioError
        They have none of the formats, or contain something that a plan cannot express.
    """
    read = recognised(documents, "plan").read
    return read([ForeignMapping(one.values, one.path, reading) for one in documents], given)


def merged(said: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that a file contains, and those that its caller gives, as one mapping.

    Parameters
    ----------
    said : dict
        The file's fields.
    settings : mapping
        The caller's fields.

    Raises
    ------
    ScenarioError
        Both contain the same field, or neither contains ``flag``.

    Examples
    --------
    >>> said = {"bucketing": {"rule": "unleash", "flag": "push"}}
    >>> merged(said, {"flag": {"propagation": "pushed"}, "bucketing": {"ids": "email"}})[
    ...     "bucketing"
    ... ]
    {'rule': 'unleash', 'flag': 'push', 'ids': 'email'}
    >>> merged(said, {})
    Traceback (most recent call last):
        ...
    simlib.errors.ScenarioError: flag: must be given, such as {"propagation": "polled", ...
    """
    values = dict(said)
    for name, value in settings.items():
        if name == "name" and said.get(name) == value:
            continue  # it has chosen this plan among others
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
    if "flag" in said.get("bucketing", ()) and values["bucketing"].get("rule") is None:
        rule = "must be given, growthbook or growthbook_v1: the file does not say its hashVersion"
        raise ScenarioError("bucketing.rule", None, rule)
    if "flag" not in values:
        rule = f"must be given, such as {json.dumps(A_FLAG)}: the file cannot say it"
        raise ScenarioError("flag", None, rule)
    return values
