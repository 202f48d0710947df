"""What can go wrong, in one tree.

::

    SimlibError
    ├── ScenarioError   the caller's scenario is wrong: says path, value and rule
    ├── ProtocolError   a driver fed an event that the state does not know: a bug in a driver
    ├── LedgerError     a run's ledger does not balance: a bug in a rule or a driver
    ├── RunFileError    a saved run cannot be read back
    └── LiveError       the live lab could not do its work: a process died, a port was taken
    KeyboardInterrupt
    └── Interrupted     Ctrl-C or SIGTERM came; it has what was finished by then

The first is the user's to mend, the next two are ours, the last two are the world's. `Interrupted`
is not a `SimlibError`: what catches errors should not go on after a Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

_MOST_SHOWN = 20
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
    others : sequence of ScenarioError, optional
        The further problems of the same scenario.
    place : str, optional
        The file and the line where it was given.

    Examples
    --------
    >>> print(ScenarioError("reconnect.cap_s", 0.1, "must be >= base_s (0.5)"))
    reconnect.cap_s: must be >= base_s (0.5), got 0.1
    """

    def __init__(
        self,
        path: str,
        value: Any,
        rule: str,
        *,
        others: Sequence[ScenarioError] = (),
        place: str = "",
    ) -> None:
        self.path = path
        self.value = value
        self.rule = rule
        self.others = tuple(others)
        self.place = place
        where, right = _cut(str(path), _LONGEST_PATH), _cut(str(rule), _LONGEST_RULE)
        lines = [f"{where}: {right}, got {shown(value)}{f' ({place})' if place else ''}"]
        lines += map(str, self.others[:_MOST_SHOWN])
        if len(self.others) > _MOST_SHOWN:
            lines.append(f"(and {len(self.others) - _MOST_SHOWN} more problems)")
        super().__init__("\n".join(lines))

    @property
    def problems(self) -> list[ScenarioError]:
        """Each of the problems alone."""
        first = type(self)(self.path, self.value, self.rule, place=self.place)
        return [first, *self.others]

    @classmethod
    def of(cls, problems: Sequence[ScenarioError]) -> ScenarioError:
        """Return problems as one error, which is about the first of them.

        Parameters
        ----------
        problems : sequence of ScenarioError
            At least one, each alone.
        """
        first, *others = problems
        return cls(first.path, first.value, first.rule, others=others, place=first.place)

    def moved(self, path_of: Callable[[str], str]) -> ScenarioError:
        """Return the same problems at other paths."""
        problems = [
            type(self)(path_of(one.path), one.value, one.rule, place=one.place)
            for one in self.problems
        ]
        return self.of(problems)

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross process boundaries; the default would call us with the message alone.
        options: dict[str, Any] = {"others": self.others, "place": self.place}
        return partial(type(self), **options), (self.path, self.value, self.rule)


class ProtocolError(SimlibError):
    """A driver fed a client an event that its state does not allow."""


class LedgerError(SimlibError):
    """delivered + lost + pending differs from eligible: no result may be shown."""


class RunFileError(SimlibError):
    """A saved run that is missing, incomplete or written by something else."""


class LiveError(SimlibError):
    """The live lab could not do its work; nothing of it is left running."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or an interrupt of a kernel ended a call before it had finished.

    It is raised after what was finished has been kept, so that the cells that follow in a notebook
    do not go on with half a result.

    Parameters
    ----------
    what : str
        What was finished, in words.
    result : object
        What the call would have returned, made of what was finished.

    Attributes
    ----------
    result : object
        As given. `interrupted` returns it as well.

    Examples
    --------
    >>> print(Interrupted("3 of 10 runs were finished", [1, 2, 3]))
    3 of 10 runs were finished; simlib.interrupted() returns what there is
    """

    def __init__(self, what: str, result: Any = None) -> None:
        super().__init__(f"{what}; simlib.interrupted() returns what there is")
        self.what = what
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.what, self.result)


def interrupted() -> Any:
    """Return what was finished by the interrupt that came last: Ctrl-C, SIGTERM or a kernel's.

    Python keeps the last exception that nobody caught, in the interactive interpreter and in
    notebooks, and this is where it is taken from: another error in between takes its place. A
    program catches `Interrupted` and reads its ``result``.

    Returns
    -------
    object
        What the interrupted call would have returned, made of what was finished: the run up to
        then (`simulate`, `measure`), the finished runs (`replicate`, `variants`), the table of the
        finished runs (`sweep`, `compare`), the rollout or rehearsal so far.

    Raises
    ------
    SimlibError
        The last error was no such interrupt.
    """
    last = getattr(sys, "last_value", None)
    if not isinstance(last, Interrupted):
        raise SimlibError("nothing was interrupted, or another error came after it")
    return last.result
