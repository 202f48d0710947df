"""The table of other tools' file formats, for rollout plans and for scenarios.

The table stands below what it reads and writes, and knows no format: each has a file of its own,
such as `rollout.formats.flagger`, with its row at the end, and its package enters the row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from simlib.errors import ScenarioError
from simlib.scenario.documents import ForeignMapping

Kind = Literal["plan", "scenario"]


@dataclass(frozen=True)
class Format:
    """A format that another tool reads or writes: a row of `FORMATS`."""

    name: str
    """What `dump` calls it."""
    kind: Kind
    """What a file of it is."""
    title: str
    """What a file of it is, in prose, with its article."""
    language: Literal["YAML", "JSON"]
    """What is written; both are read."""
    detect: Callable[[list[ForeignMapping]], bool]
    """Whether a file's documents are of this format."""
    read: Callable[[list[ForeignMapping], Any], dict[str, Any]]
    """What a file's documents say, as values of its kind; the second argument is what the caller
    says beside the file."""
    write: Callable[[Any], str] | None = None
    """A plan, or a scenario, as a file's text; None: this format is read only."""
    is_a: str = ""
    """By what documents are recognised, for an error's text: what one of them has to be..."""
    has: str = ""
    """...or what the first has to have."""
    implied: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Optional fields, by section, that a file says always, and what it says where the plan, or the
    scenario, leaves them open."""


FORMATS: dict[str, Format] = {}
"""Every format by its name, in the order in which files are tried."""


def register(row: Format) -> None:
    """Enter a format into the table.

    Parameters
    ----------
    row : Format

    Raises
    ------
    ValueError
        There is another of this name.
    """
    if row.name in FORMATS:
        raise ValueError(f"there are two formats of the name {row.name}")
    FORMATS[row.name] = row


def recognised(documents: list[ForeignMapping], kind: Kind) -> Format:
    """Return the format of a file.

    Parameters
    ----------
    documents : list of ForeignMapping
        Of one file.
    kind : {"plan", "scenario"}
        What the file has to be.

    Raises
    ------
    ScenarioError
        It is of none of the formats.
    """
    rows = [row for row in FORMATS.values() if row.kind == kind]
    for row in rows:
        if row.detect(documents):
            return row
    is_a, has = [row.is_a for row in rows if row.is_a], [row.has for row in rows if row.has]
    signs = ["be " + ", ".join(is_a)] if is_a else []
    signs += ["have " + " or ".join(has)] if has else []
    rule = f"must {', or '.join(signs)}"
    kinds = [document.values.get("kind") for document in documents]
    raise ScenarioError(documents[0].path, next((one for one in kinds if one), None), rule)


def writer(name: str, kind: Kind) -> Callable[[Any], str]:
    """Return what writes a format.

    Parameters
    ----------
    name : str
    kind : {"plan", "scenario"}
        What is to be written.

    Raises
    ------
    ScenarioError
        No format of that name can be written.
    """
    known = {row.name: row.write for row in FORMATS.values() if row.kind == kind and row.write}
    if not isinstance(name, str) or name not in known:
        raise ScenarioError("format", name, f"must be {', '.join(['toml', *known])}")
    return known[name]
