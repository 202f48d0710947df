"""The table of other tools' file formats, for rollout plans and for scenarios.

This module imports no format. Each format is a file of its own, such as `rollout.formats.flagger`,
which ends with its row; its package registers the row here.
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
    """Its name for `dump`."""
    kind: Kind
    """Whether a file of it holds a plan or a scenario."""
    title: str
    """What a file of it is called in prose, with an article."""
    language: Literal["YAML", "JSON"]
    """The language in which it is written; both are read."""
    detect: Callable[[list[ForeignMapping]], bool]
    """Returns whether a file's documents are of this format."""
    read: Callable[[list[ForeignMapping], Any], dict[str, Any]]
    """Returns the values of a plan or scenario from a file's documents; the second argument are the
    caller's options."""
    write: Callable[[Any], str] | None = None
    """Returns a plan or scenario as a file's text; None: this format is only read."""
    is_a: str = ""
    """For an error's text: the kind by which one of the documents is recognised, if any."""
    has: str = ""
    """For an error's text: the key by which the first document is recognised, if any."""
    near: Callable[[list[ForeignMapping]], str] | None = None
    """Returns what to bring in place of a file that this tool makes too, and that is none of the
    format; an empty text if it is no such file."""
    implied: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Optional fields, by section, that a file always contains, and the values that it contains if
    the plan or scenario does not give them."""


FORMATS: dict[str, Format] = {}
"""Every format by its name, in the order in which they are tried on a file."""


def register(row: Format) -> None:
    """Add a format to the table.

    Parameters
    ----------
    row : Format

    Raises
    ------
    ValueError
        There is another format of this name.
    """
    if row.name in FORMATS:
        raise ValueError(f"there are two formats of the name {row.name}")
    FORMATS[row.name] = row


def recognised(documents: list[ForeignMapping], kind: Kind) -> Format:
    """Return the format of a file.

    Parameters
    ----------
    documents : list of ForeignMapping
        The documents of one file.
    kind : {"plan", "scenario"}
        What the file must hold.

    Raises
    ------
    ScenarioError
        The file is of none of the formats.
    """
    rows = [row for row in FORMATS.values() if row.kind == kind]
    for row in rows:
        if row.detect(documents):
            return row
    for row in rows:
        rule = row.near(documents) if row.near else ""
        if rule:
            raise ScenarioError(documents[0].path, dict(documents[0].values), rule)
    is_a, has = [row.is_a for row in rows if row.is_a], [row.has for row in rows if row.has]
    signs = ["be " + ", ".join(is_a)] if is_a else []
    signs += ["have " + " or ".join(has)] if has else []
    rule = f"must {', or '.join(signs)}"
    kinds = [document.values.get("kind") for document in documents]
    raise ScenarioError(documents[0].path, next((one for one in kinds if one), None), rule)


def writer(name: str, kind: Kind) -> Callable[[Any], str]:
    """Return the function that writes a format.

    Parameters
    ----------
    name : str
    kind : {"plan", "scenario"}
        What it has to write.

    Raises
    ------
    ScenarioError
        No format of that name can be written.
    """
    known = {row.name: row.write for row in FORMATS.values() if row.kind == kind and row.write}
    if not isinstance(name, str) or name not in known:
        raise ScenarioError("format", name, f"must be {', '.join(['toml', *known])}")
    return known[name]
