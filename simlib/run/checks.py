"""Checks of what tables and figures are given, and of what a run is asked to keep."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from simlib.errors import ScenarioError
from simlib.run.result import Run
from simlib.run.tables import ON_REQUEST

_MOST_ROWS = 20_000_000


def check_table(
    name: str,
    table: Any,
    columns: Iterable[str] = (),
    *,
    texts: Iterable[str] = (),
    numbers: Iterable[str] = (),
    positive: Iterable[str] = (),
) -> None:
    """Check that something is a table that has rows, and columns of text and of numbers.

    Parameters
    ----------
    name : str
        What the caller calls it.
    table : object
    columns : iterable of str
        Columns that must be there, whatever they hold.
    texts, numbers, positive : iterable of str
        Columns that must hold text, finite numbers, and finite numbers > 0, in every row.

    Raises
    ------
    ScenarioError
        It is no such table: which column, and the label of the first row where it is not so.

    Examples
    --------
    >>> import pandas as pd
    >>> check_table("costs", pd.DataFrame({"cpu_s": [1.0, 0.0]}), positive=["cpu_s"])
    Traceback (most recent call last):
        ...
    simlib.errors.ScenarioError: costs.cpu_s: must be numbers > 0 (see row 1), got 0.0
    """
    import pandas as pd

    if not isinstance(table, pd.DataFrame):
        raise ScenarioError(name, table, "must be a table (pandas.DataFrame)")
    kinds = (("text", texts), ("finite numbers", numbers), ("numbers > 0", positive))
    chosen = [(column, kind) for kind, of_a_kind in kinds for column in of_a_kind]
    for column in (*columns, *(column for column, _ in chosen)):
        if list(table.columns).count(column) != 1:
            raise ScenarioError(name, list(table.columns), f"must have the column {column}, once")
    if len(table) == 0:
        raise ScenarioError(name, table, "must have at least one row")
    for column, kind in chosen:
        values = table[column]
        if kind == "text":
            fits = np.array([isinstance(value, str) for value in values])
        elif values.dtype.kind in "iuf":
            plain = values.to_numpy(dtype=float, na_value=np.nan)
            fits = (
                np.isfinite(plain) if kind == "finite numbers" else (plain > 0) & (plain < np.inf)
            )
        else:
            raise ScenarioError(f"{name}.{column}", values.tolist(), f"must be {kind}")
        if not fits.all():
            first = int(np.argmin(fits))
            rule = f"must be {kind} (see row {values.index[first]})"
            raise ScenarioError(f"{name}.{column}", values.tolist()[first], rule)


def check_runs(runs: Any, *, delivered: bool = False) -> None:
    """Check what a table or a figure is asked to show.

    Parameters
    ----------
    runs : tuple or list of Run
        A tuple if each is an argument of its own.
    delivered : bool, optional

    Raises
    ------
    ScenarioError
        There is no run, something is not a run, or (`delivered`) a run delivered nothing.
    """
    if not isinstance(runs, list | tuple) or not runs:
        raise ScenarioError("runs", runs, "must be at least one run")
    for run in runs:
        if not isinstance(run, Run):
            rule = "must be runs, as simulate and measure return them"
            if isinstance(runs, tuple) and _are_runs(run):
                rule = "must be given one by one, with a star: (*runs), not (runs)"
            raise ScenarioError("runs", run, rule)
        if delivered and run.ledger.delivered == 0:
            raise ScenarioError("runs", run, "must have delivered something")


def _are_runs(value: Any) -> bool:
    """Whether something holds runs, as a list or a series does."""
    is_iterable = isinstance(value, Iterable) and not isinstance(value, str)
    return is_iterable and any(isinstance(one, Run) for one in value)


def refuse_rollout(run: Run) -> None:
    """Raise `ScenarioError` if a run is of a rollout, which has two cohorts of clients."""
    if run.has_cohorts:
        rule = "must be of clients that all obey the same settings: this one is of a rollout"
        raise ScenarioError("runs", run, rule)


def check_keep(keep: tuple[str, ...], changes: int, clients: int) -> None:
    """Check a `keep` argument before a run: known names, and not more rows than memory bears.

    Raises
    ------
    ScenarioError
    """
    if not isinstance(keep, tuple | list):
        raise ScenarioError("keep", keep, "must be a tuple of names")
    for name in keep:
        if name not in ON_REQUEST:
            raise ScenarioError("keep", name, f"must be among {', '.join(ON_REQUEST)}")
    rows = changes * clients
    if keep and rows > _MOST_ROWS:
        raise ScenarioError(
            "keep", keep, f"must be empty for {rows} client-changes (at most {_MOST_ROWS})"
        )
