"""What notebooks show of runs, scenarios, plans and rollouts: pieces of HTML with their own style.

Colours are given with each piece, text and background together, so that they can be read on a dark
page too.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_BOX = (
    "margin:6px 0;padding:6px 10px;border-left:4px solid #D55E00;background:#FFF4EC;"
    "color:#222;max-width:60em"
)
_NO_VALUE = "absent"
_MOST_ITEMS = 40


def page(title: str, *parts: str) -> str:
    """Return pieces of HTML below a title."""
    return f"<div><strong>{html.escape(title)}</strong>{''.join(parts)}</div>"


def warnings_html(warnings: Iterable[Any]) -> str:
    """Return a coloured box for each warning.

    Examples
    --------
    >>> "&lt;30 s" in warnings_html(["polled in <30 s"])
    True
    """
    return "".join(f'<div style="{_BOX}">⚠ {html.escape(str(one))}</div>' for one in warnings)


def table_html(table: pd.DataFrame) -> str:
    """Return a table."""
    return str(table.to_html(border=0, notebook=True))


class _Long:
    """Stands for a long list where it is shown."""

    def __init__(self, items: list[Any] | tuple[Any, ...]) -> None:
        self.items = items

    def __repr__(self) -> str:
        first, second, *_, last = self.items
        return f"({first!r}, {second!r}, ..., {last!r}: {len(self.items):,} of them)"


def abridged(value: Any) -> Any:
    """Return a value, or what stands for it if it is a long list.

    Examples
    --------
    >>> abridged((1.5, 2.0)), abridged(tuple(range(1000)))
    ((1.5, 2.0), (0, 1, ..., 999: 1,000 of them))
    """
    is_long = isinstance(value, list | tuple) and len(value) > _MOST_ITEMS
    return _Long(value) if is_long else value


def settings_html(values: Mapping[str, Any]) -> str:
    """Return a table of settings by their paths.

    Examples
    --------
    >>> "<code>polling.interval_s</code>" in settings_html({"polling": {"interval_s": 10.0}})
    True
    """
    rows = "".join(
        f'<tr><td style="text-align:left"><code>{html.escape(path)}</code></td>'
        f'<td style="text-align:left">{html.escape(str(abridged(value)))}</td></tr>'
        for path, value in _flat(values)
    )
    return f"<table><tbody>{rows}</tbody></table>"


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the paths at which two nested mappings differ, with what each has there.

    Examples
    --------
    >>> differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": 2}, "d": [4]})
    {'a.b': (1, 3), 'd': ('absent', [4])}
    """
    left, right = dict(_flat(one)), dict(_flat(other))
    return {
        path: (left.get(path, _NO_VALUE), right.get(path, _NO_VALUE))
        for path in dict.fromkeys([*left, *right])
        if left.get(path, _NO_VALUE) != right.get(path, _NO_VALUE)
    }


def _flat(values: Mapping[str, Any], head: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{head}{name}.")
        else:
            yield f"{head}{name}", value
