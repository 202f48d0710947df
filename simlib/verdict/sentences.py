"""What a tornado and a break-even say, in sentences whose numbers are those of their tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simlib.errors import ScenarioError
from simlib.verdict.decision import Decision
from simlib.verdict.measures import JUDGED, shown, three_digits
from simlib.verdict.sensitivity import break_even

if TYPE_CHECKING:
    import pandas as pd

_OF_A_NODE = ("nodes", "utilisation", "memory_bytes")
"""With nodes these change the table itself: what one node bears is in its values."""
_NONE = "none, for none meets every need"


def turning_points(decision: Decision, *settings: str) -> list[str]:
    """Return in sentences what would turn a verdict: each limit of its needs, and settings.

    Where nodes are a need, they and what one of them bears are left out.

    Parameters
    ----------
    decision : Decision
    *settings : str
        Paths of settings, as `break_even` takes them.

    Raises
    ------
    ScenarioError
        As `break_even` raises it.

    Examples
    --------
    >>> from simlib import Scenario, decide
    >>> board = Scenario(updates={"rate_per_s": 0.1}, clients=10, horizon_s=120)
    >>> decision = decide(board, {"latency_p95_s": 2.0}, candidates=["push"])
    >>> len(turning_points(decision, "updates.rate_per_s"))
    2
    """
    needs = decision.asked.needs
    of_a_node = _OF_A_NODE if needs.nodes is not None else ()
    limits = [f"needs.{name}" for name in needs.limits if name not in of_a_node]
    return [sentence_of(break_even(decision, over)) for over in (*limits, *settings)]


def sentence_of(table: pd.DataFrame) -> str:
    """Return what a tornado or a break-even says, in a sentence or two.

    Of a tornado: what to measure first, and why; and what was not varied. Of a break-even: how far
    what was assumed may be off, and what would be taken then.

    Parameters
    ----------
    table : pandas.DataFrame
        As `tornado` or `break_even` returned it.

    Raises
    ------
    ScenarioError
        The table is none of those.

    Examples
    --------
    >>> from simlib import Scenario, decide, verdict
    >>> board = Scenario(updates={"rate_per_s": 0.1}, clients=10, horizon_s=120)
    >>> decision = decide(board, {"latency_p95_s": 2.0}, candidates=["push"])
    >>> sentence_of(verdict.break_even(decision, "needs.latency_p95_s"))  # doctest: +ELLIPSIS
    'With needs.latency_p95_s at 2 s the verdict is push of deltas: it stays that down to ...
    """
    about = set(getattr(table, "attrs", ()))
    if {"curves", "names", "missed"} <= about:
        return _said_of_setting(table) if table.attrs["labels"] else _said_of_need(table)
    if not {"measure", "labels", "verdict", "best", "skipped"} <= about:
        rule = "must be a table from verdict.tornado or verdict.break_even"
        raise ScenarioError("table", table, rule)
    return _said_of_tornado(table)


def _said_of_tornado(table: pd.DataFrame) -> str:
    row, kind = table.iloc[0], JUDGED[table.attrs["measure"]].kind
    labels, verdict = table.attrs["labels"], table.attrs["verdict"]
    switch = table.attrs.get("switches", {}).get(row["over"])
    low, high = switch or (f"{row[end]:g}" for end in ("low", "high"))
    ends = {"low": low, "high": high}
    # A need may turn the verdict where the lead does not.
    turns = [
        f"at {ends[end]} to {labels.get(row[f'best_at_{end}'], _NONE)}"
        for end in ("low", "high")
        if row[f"best_at_{end}"] != verdict
    ]
    lead = f"{shown(row['at_low'], kind)} to {shown(row['at_high'], kind)}"
    skipped = ", ".join(table.attrs["skipped"])
    but = f" Not varied, since 0 or not set: {skipped}." if skipped else ""
    why = (
        f"it changes the verdict, {' and '.join(turns)}" if turns else "nothing changes the verdict"
    )
    return (
        f"{'Find out' if switch else 'Measure'} {row['over']} first: {why}; between {low} and "
        f"{high} the lead of {labels[table.attrs['best']]} goes from {lead}.{but}"
    )


def _said_of_need(table: pd.DataFrame) -> str:
    """Return between which limits of a need the verdict stays, and what it is beyond them."""
    about, kind = table.attrs, JUDGED[table.attrs["measure"]].kind
    names = {**about["names"], "none": _NONE}
    sides = {
        "however tight it is": ("down to {}, below which it is {}", "below", table["value"].le),
        "however loose it is": ("up to {}, from which on it is {}", "above", table["value"].gt),
    }
    said = []
    for never, (words, side, is_on_it) in sides.items():
        rows = table[is_on_it(about["today"])]
        nearest = [(shown(row["value"], kind), names[row[side]]) for _, row in rows.iterrows()][:1]
        said.append(words.format(*nearest[0]) if nearest else never)
    limit = shown(about["today"], kind)
    return (
        f"With {about['over']} at {limit} the verdict is {names[about['verdict']]}: it stays that "
        f"{said[0]}, and {said[1]}."
    )


def _said_of_setting(table: pd.DataFrame) -> str:
    """Return up to which value of a setting a candidate takes less than another."""
    about, names = table.attrs, table.attrs["names"]
    over, curves = about["over"], about["curves"]
    measure, today = JUDGED[about["measure"]].label, three_digits(about["today"])
    if len(table) == 0:
        one, other = about["labels"]
        less, more = (one, other) if curves[one].sum() < curves[other].sum() else (other, one)
        span = " to ".join(three_digits(end) for end in (curves[over].min(), curves[over].max()))
        return (
            f"For {over} from {span}, which is {today} here, {names[less]} takes less "
            f"than {names[more]} all along ({measure})."
        )
    row = table.iloc[0]
    below, above, times = row["below"], row["above"], row["value"] / about["today"]
    missed = [
        f"{names[name]} misses a need as it is ({about['missed'][name]})"
        for name in (below, above)
        if name in about["missed"]
    ]
    but = f" But {' and '.join(missed)}." if missed else ""
    return (
        f"For {over} up to {three_digits(row['value'])}, {three_digits(times)} times the {today} "
        f"here, {names[below]} takes less than {names[above]} ({measure}); "
        f"above, it takes more.{but}"
    )
