"""Reading plans from other tools' files: `Plan.load` for all formats but TOML.

A format's reader returns the values of a `Plan` that its file contains; the caller gives the rest.
Nothing is dropped silently: a key that a plan cannot express is refused by name, and the docstring
of each format's module lists the keys that are ignored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simlib.core.measures import METRICS
from simlib.errors import ScenarioError, shown
from simlib.scenario import suggestions
from simlib.scenario.documents import ForeignMapping, read_documents
from simlib.scenario.formats import recognised
from simlib.scenario.places import in_file, refuse_foreign
from simlib.scenario.suggestions import hint
from simlib.scenario.units import parse_duration_s

ONE_CHECK_S = 60.0
"""The length of the last stage if neither the file nor the caller gives it, seconds."""
A_FLAG = {"propagation": "polled", "every_s": 60}
"""What errors give as an example of the flag, which is needed and has no default."""


class ImportOptions:
    """What the caller of `Plan.load` gives beside a file.

    Parameters
    ----------
    metrics : mapping, optional
        From a foreign metric's name to one of `core.measures.METRICS`, or to a pair of that and the
        factor from the foreign unit to ours.
    gate_s : float or str, optional
        How long an approval takes, seconds.
    last_s : float or str, optional
        Length of the last stage, if the file does not give it, seconds.
    name : str, optional
        The plan to read, if the file holds several.

    Raises
    ------
    ScenarioError
        An argument has a wrong type or is out of range.
    """

    def __init__(
        self, metrics: Any = None, gate_s: Any = None, last_s: Any = None, name: Any = None
    ) -> None:
        self.name = name
        self.metrics: dict[str, tuple[str, float]] = {name: (name, 1.0) for name in METRICS}
        if metrics is not None and not isinstance(metrics, Mapping):
            raise ScenarioError("metrics", metrics, "must map foreign metric names to ours")
        for name, ours in (metrics or {}).items():
            pair = ours if isinstance(ours, tuple | list) else (ours, 1.0)
            if not isinstance(name, str) or len(pair) != 2 or pair[0] not in METRICS:
                rule = f"must be one of {', '.join(METRICS)}, or a pair of that and a factor"
                rule += hint(pair[0], METRICS, suggestions.METRIC_ALIASES) if pair else ""
                label = name if isinstance(name, str) else shown(name)
                raise ScenarioError(f"metrics.{label}", ours, rule)
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


def read(path: Path, given: ImportOptions, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a plan from a file and from the caller's settings.

    Parameters
    ----------
    path : Path
    given : ImportOptions
    settings : mapping
        Fields of a plan, from the caller.

    Raises
    ------
    ScenarioError
        The file cannot be read, has none of the formats, contains something that a plan cannot
        express, or contains a field that the caller gives too.
    """
    documents = read_documents(path)
    refuse_foreign(path, "plan")
    try:
        said = said_by(documents, given)
    except ScenarioError as error:
        raise in_file(error, path) from None
    return merged(said, settings)


def said_by(documents: list[ForeignMapping], given: ImportOptions) -> dict[str, Any]:
    """Return the fields of a plan that the documents of one file contain.

    Parameters
    ----------
    documents : list of ForeignMapping
    given : ImportOptions

    Raises
    ------
    ScenarioError
        They have none of the formats, or contain something that a plan cannot express.
    """
    return recognised(documents, "plan").read(documents, given)


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
    if "bucketing" in said and values["bucketing"].get("rule") is None:
        rule = "must be given, growthbook or growthbook_v1: the file does not say its hashVersion"
        raise ScenarioError("bucketing.rule", None, rule)
    if "flag" not in values:
        rule = f"must be given, such as {json.dumps(A_FLAG)}: the file cannot say it"
        raise ScenarioError("flag", None, rule)
    return values
