"""What the verbs print, and how they end: tables or JSON, thresholds, what an interrupt left."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from simlib.errors import Interrupted, ScenarioError, SimlibError
from simlib.processes import terminable

if TYPE_CHECKING:
    import pandas as pd

MISSED, WRONG, WORLD, STOPPED = 1, 2, 3, 130
"""The exit codes beside 0, as the package says them."""


class Stopped(Exception):
    """An interrupt ended a verb that has printed what was finished by then."""


class Kept(NamedTuple):
    """A threshold, and whether a result keeps it.

    Attributes
    ----------
    threshold : str
        As it was given.
    found : str
        What it was held against, in words.
    is_kept : bool
    """

    threshold: str
    found: str
    is_kept: bool


def examples(*commands: str) -> str:
    """Return what a verb's help ends with: commands, a line each."""
    return "\n".join(["\b", "Examples:", *(f"  {command}" for command in commands)])


as_json = click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")


def finish(
    verb: str,
    tables: Mapping[str, pd.DataFrame],
    *,
    is_json: bool,
    texts: Iterable[str] = (),
    about: Mapping[str, Any] | None = None,
    warnings: Iterable[object] = (),
    kept: Iterable[Kept] = (),
) -> int:
    """Print a result, its warnings and what became of the thresholds; return the exit code.

    Parameters
    ----------
    verb : str
    tables : mapping of str to DataFrame
        By the names that they have in JSON. Their index is not shown.
    is_json : bool
        Whether one JSON object is printed instead of texts.
    texts : iterable of str, optional
        What is said before the tables; not in JSON.
    about : mapping, optional
        What JSON has beside tables.
    warnings : iterable, optional
        Sentences; a sentence that comes twice is shown once. They go to stderr, or into JSON.
    kept : iterable of Kept, optional
    """
    said = list(dict.fromkeys(map(str, warnings)))
    thresholds = list(kept)
    if is_json:
        shown = {
            "verb": verb,
            **dict(about or {}),
            **{name: _records(table) for name, table in tables.items()},
            "warnings": said,
            "thresholds": [one._asdict() for one in thresholds],
        }
        click.echo(json.dumps(_plain(shown), indent=2, allow_nan=False, ensure_ascii=False))
    else:
        for text in texts:
            click.echo(text)
        for table in tables.values():
            click.echo(text_of(table))
        for sentence in said:
            click.echo(f"warning: {sentence}", err=True)
        for one in thresholds:
            click.echo(f"{'kept' if one.is_kept else 'MISSED'}: {one.threshold}; {one.found}")
    return 0 if all(one.is_kept for one in thresholds) else MISSED


def write_csv(table: pd.DataFrame, file: str | None) -> None:
    """Write a table to a file, if one is named.

    Raises
    ------
    ScenarioError
        The file cannot be written.
    """
    if file is None:
        return
    try:
        table.to_csv(file, index=False)
    except OSError as error:
        raise ScenarioError(
            "--out", file, f"must be a file that can be written ({error})"
        ) from None


def text_of(table: pd.DataFrame) -> str:
    """Return a table as text: numbers to four digits, nothing where there is no value."""
    if table.empty:
        return "(no rows)"
    return table.to_string(index=False, float_format=lambda value: f"{value:.4g}", na_rep="")


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers of numpy as numbers, what is not finite as null."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


@contextmanager
def interruptible(show: Callable[[Any], object]) -> Iterator[None]:
    """Show what was finished when Ctrl-C or SIGTERM comes, and end the verb with `Stopped`.

    Parameters
    ----------
    show : callable
        Given what there is, if there is anything.
    """
    try:
        with terminable():
            yield
    except Interrupted as stop:
        click.echo(f"stopped: {stop.what}", err=True)
        is_there = stop.result is not None and not (
            hasattr(stop.result, "__len__") and len(stop.result) == 0
        )
        try:
            if is_there:
                show(stop.result)
        except SimlibError as error:  # too little was finished to be shown
            click.echo(f"simlib: {error}", err=True)
        raise Stopped from None
    except KeyboardInterrupt:
        click.echo("stopped: nothing was finished", err=True)
        raise Stopped from None
