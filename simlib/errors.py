"""What can go wrong, in one tree.

::

    SimlibError
    ├── ScenarioError   the caller's scenario is wrong: says path, value and rule
    ├── ProtocolError   a driver fed an event that the state does not know: a bug in a driver
    ├── LedgerError     a run's ledger does not balance: a bug in a rule or a driver
    ├── RunFileError    a saved run cannot be read back
    └── LiveError       the live lab could not do its work: a process died, a port was taken

The first is the user's to mend, the next two are ours, the last two are the world's.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

_LONGEST_VALUE, _LONGEST_PATH, _LONGEST_RULE = 80, 200, 2000
_BRACKETS: dict[type, tuple[str, str]] = {list: ("[", "]"), tuple: ("(", ")"), dict: ("{", "}")}


def shown(value: Any) -> str:
    """Return a value as errors show it: its `repr`, cut off after 80 characters.

    It never raises, though `repr` may: for whole numbers of thousands of digits, and for objects
    that somebody else has written. Of lists and tables no more is looked at than is shown.

    Examples
    --------
    >>> shown(0.5), len(shown("x" * 1000)), shown(10**5000)
    ('0.5', 80, 'a number of thousands of digits')
    """
    text = ""
    try:
        for piece in _pieces(value):
            text += piece
            if len(text) > _LONGEST_VALUE:
                break
    except Exception:  # whatever a repr raises
        if isinstance(value, int):
            return "a number of thousands of digits"
        return f"a value of type {_cut(type(value).__name__, _LONGEST_VALUE)}"
    return _cut(text, _LONGEST_VALUE)


def _pieces(value: Any) -> Iterator[str]:
    """Yield the `repr` of a value piece by piece."""
    if type(value) not in _BRACKETS:
        yield repr(value)
        return
    start, end = _BRACKETS[type(value)]
    yield start
    for number, item in enumerate(value):
        yield ", " if number else ""
        yield from _pieces(item)
        if type(value) is dict:
            yield ": "
            yield from _pieces(value[item])
    yield f",{end}" if type(value) is tuple and len(value) == 1 else end


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


class SimlibError(Exception):
    """The root of every error that simlib raises on purpose."""


class ScenarioError(SimlibError, ValueError):
    """A scenario, or an argument beside it, that cannot be run as it stands.

    Parameters
    ----------
    path : str
        Where: the dotted path of the field, such as ``reconnect.cap_s``, or a file's name.
    value : object
        What was given.
    rule : str
        What would be right, such as ``must be >= base_s (0.5)``.
    others : int, optional
        How many further problems the same scenario has.

    Examples
    --------
    >>> print(ScenarioError("reconnect.cap_s", 0.1, "must be >= base_s (0.5)"))
    reconnect.cap_s: must be >= base_s (0.5), got 0.1
    """

    def __init__(self, path: str, value: Any, rule: str, *, others: int = 0) -> None:
        self.path = path
        self.value = value
        self.rule = rule
        self.others = others
        tail = f" (and {others} more problem{'s' if others > 1 else ''})" if others else ""
        where, right = _cut(str(path), _LONGEST_PATH), _cut(str(rule), _LONGEST_RULE)
        super().__init__(f"{where}: {right}, got {shown(value)}{tail}")

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross process boundaries; the default would call us with the message alone.
        return partial(type(self), others=self.others), (self.path, self.value, self.rule)


class ProtocolError(SimlibError):
    """A driver fed a client an event that its state does not allow."""


class LedgerError(SimlibError):
    """delivered + lost + pending differs from eligible: no result may be shown."""


class RunFileError(SimlibError):
    """A saved run that is missing, incomplete or written by something else."""


class LiveError(SimlibError):
    """The live lab could not do its work; nothing of it is left running."""
