"""What `replace` of scenarios and plans is given: dotted paths and their new values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from simlib.errors import ScenarioError
from simlib.scenario.fields import Section

_DEEPEST, _MOST = 8, 10_000
_LARGEST = 2**63 - 1


def read_changes(changes: Any, named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes that a `replace` is given as one mapping, and copies of their values.

    Parameters
    ----------
    changes : mapping of str to object, or None
    named : mapping of str to object
        Further ones, which come last.

    Raises
    ------
    ScenarioError
        They are no mapping, a path is not text, or a value is nested too deep or too large.

    Examples
    --------
    >>> read_changes({"polling": {"interval_s": 5.0}}, {"clients": 3})
    {'polling': {'interval_s': 5.0}, 'clients': 3}
    >>> read_changes({5: 3}, {})
    Traceback (most recent call last):
        ...
    simlib.errors.ScenarioError: changes: must have paths that are text, got 5
    """
    if changes is not None and not isinstance(changes, Mapping):
        raise ScenarioError("changes", changes, "must be a mapping of paths to values")
    given = {**(changes or {}), **named}
    for path in given:
        if not isinstance(path, str):
            raise ScenarioError("changes", path, "must have paths that are text")
    return {path: copied(path, value) for path, value in given.items()}


def copied(path: str, value: Any, *, only_plain: bool = False) -> Any:
    """Return a value with copies of its tables and lists; sections become tables.

    Parameters
    ----------
    path : str
        What errors call it.
    value : object
    only_plain : bool, optional
        Whether a value that no file could hold is an error, and tuples become the lists that a file
        has. If not, values are returned as they are, for the fields that they are meant for.

    Raises
    ------
    ScenarioError
        It is nested too deep, or holds too many values; or (`only_plain`) holds what is not plain.
    """
    left = [_MOST]

    def copy(value: Any, depth: int) -> Any:
        left[0] -= 1
        if depth > _DEEPEST or left[0] < 0:
            rule = f"must be at most {_DEEPEST} levels deep, and have at most {_MOST} values"
            raise ScenarioError(path, value, rule)
        if isinstance(value, Section):
            value = value.model_dump(exclude_none=True)
        if isinstance(value, dict):
            if only_plain:
                for key in value:
                    _check_plain(path, key, is_key=True)
            return {key: copy(inner, depth + 1) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            inside = [copy(inner, depth + 1) for inner in value]
            return inside if only_plain or isinstance(value, list) else tuple(inside)
        if only_plain:
            _check_plain(path, value)
        return value

    return copy(value, 0)


def _check_plain(path: str, value: Any, *, is_key: bool = False) -> None:
    """Raise `ScenarioError` unless TOML can say a value."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ScenarioError(path, value, "must be valid Unicode") from None
    elif is_key:
        raise ScenarioError(path, value, "must have text for keys")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ScenarioError(path, value, "must be finite")
    elif isinstance(value, int):
        if abs(value) > _LARGEST:
            raise ScenarioError(path, value, f"must be at most {_LARGEST}")
    elif value is None:
        rule = "must be a value: a file cannot say that a setting is absent"
        raise ScenarioError(path, value, rule)
    else:
        rule = "must be text, a number, true or false, or a list or table of these"
        raise ScenarioError(path, value, rule)
