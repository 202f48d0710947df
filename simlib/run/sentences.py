"""Sentences about a run as data: when each is said, and what its numbers are called.

A check of `run.warnings` that follows from a scenario and a few numbers returns such sentences.
Here Python fills a run's numbers in. A page does so too, for a run that it has simulated itself: it
is given the sentences (`web.warned`), and its numbers come from `engines.wasm.warned`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

SATURATED_FRAC = 0.95
"""Above this utilisation the queue goes on growing for most of a run."""
LAST_PART = 0.75
"""After this part of a run comes its last quarter, whose utilisation is looked at by itself."""
QUEUED_FRAC = 0.01
"""A tab waited for a connection of its browser if it did for more than this part of its time."""

NUMBERS = (
    "busy_frac",
    "busiest_frac",
    "busiest",
    "late_busy_frac",
    "late_busiest_frac",
    "late_busiest",
    "clients",
    "tried",
    "without",
    "waited",
    "never",
    "waited_frac",
    "due",
    "unseen",
    "unseen_frac",
    "eligible",
    "pending",
    "pending_frac",
    "kept_frac",
    "streamed",
    "published_per_s",
)
"""The numbers of a run that sentences use beside its counts, which go by `record.Count`.

Utilisation of all workers and of the busiest node, and its number, after the warm-up and over the
last quarter; how many clients there are, have tried to connect, never had a connection on which a
server pushes; how many tabs waited for their browser, of them got nothing, and for which part of
their time; how many clients some change was due for, saw none of theirs; changes for a client, of
them pending; what proxies keep back as a part of these; messages on streams; changes per second
after the warm-up."""

_COMPARED: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<=": operator.le,
}
_CONDITION = re.compile(r"(.+) (>=|>|<=) (\S+)")
_PLACE = re.compile(r"\{([^:}]+):(\w+)\}")


class Piece(NamedTuple):
    """A piece of a sentence.

    Attributes
    ----------
    text : str
        ``{name:format}`` is a number, ``{one + other:format}`` a sum; a format is one of `FORMATS`.
    when : tuple of str
        The piece stands there if all of these are true: ``"name > 0.05"``, or ``>=`` or ``<=``.
    """

    text: str
    when: tuple[str, ...] = ()


class Sentence(NamedTuple):
    """A sentence, which is said if all of `when` is true."""

    when: tuple[str, ...]
    pieces: tuple[Piece, ...]


def say(when: Sequence[str], *pieces: str | Piece) -> Sentence:
    """Return a sentence of pieces, of which those that are texts always stand there."""
    return Sentence(
        tuple(when), tuple(Piece(each) if isinstance(each, str) else each for each in pieces)
    )


def said(sentences: Sequence[Sentence], numbers: Mapping[str, float]) -> str:
    """Return the first sentence that is true of some numbers, with them; empty if none is.

    Examples
    --------
    >>> late = say(
    ...     ["late > 0.05"],
    ...     "{late:two_percent} % were late",
    ...     Piece(", {lost:count} lost", ("lost > 0",)),
    ...     ".",
    ... )
    >>> said([late], {"late": 0.125, "lost": 1200})
    '12 % were late, 1,200 lost.'
    >>> said([late], {"late": 0.05, "lost": 0})
    ''
    """
    for sentence in sentences:
        if all(_is_true(condition, numbers) for condition in sentence.when):
            found = (
                piece.text
                for piece in sentence.pieces
                if all(_is_true(condition, numbers) for condition in piece.when)
            )
            return _PLACE.sub(
                lambda place: FORMATS[place[2]](_sum_of(place[1], numbers)), "".join(found)
            )
    return ""


def _is_true(condition: str, numbers: Mapping[str, float]) -> bool:
    match = _CONDITION.fullmatch(condition)
    if match is None:
        raise ValueError(f"must be like 'name > 0', got {condition!r}")
    return _COMPARED[match[2]](_sum_of(match[1], numbers), float(match[3]))


def _sum_of(names: str, numbers: Mapping[str, float]) -> float:
    return sum(numbers[name] for name in names.split(" + "))


def two(value: float) -> str:
    """Return a number with two digits and no exponent.

    Examples
    --------
    >>> two(0.0256), two(1234.0)
    ('0.026', '1,200')
    """
    return f"{float(f'{value:.2g}'):,.10g}"


def words_s(seconds: float) -> str:
    """Return a duration in the unit in which people say it.

    Examples
    --------
    >>> words_s(30000), words_s(90), words_s(30), words_s(0.25), words_s(200_000)
    ('8.3 h', '1.5 min', '30 s', '0.25 s', '2.3 days')
    """
    for least, factor, unit in ((172_800, 86400, "days"), (3600, 3600, "h"), (90, 60, "min")):
        if seconds >= least:
            return f"{two(seconds / factor)} {unit}"
    return f"{float(f'{seconds:.3g}'):,.10g} s"


FORMATS: dict[str, Callable[[float], str]] = {
    "count": lambda value: f"{value:,.0f}",
    "two": two,
    "two_percent": lambda value: two(100.0 * value),
    "three_percent": lambda value: f"{100.0 * value:.3g}",
}
"""How numbers are written in sentences; `web/view.js` has the same."""
