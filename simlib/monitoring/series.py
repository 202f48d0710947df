"""Time series as a monitor keeps them: samples of scrapes, and marks where a series has ended."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

LOOKBACK_MS = 5 * 60 * 1000
"""A series without a newer sample is no more, after so long, milliseconds."""

Labels = tuple[tuple[str, str], ...]
"""Names and values of labels, in the order of the names; the metric's name is ``__name__``."""


class Sample(NamedTuple):
    """A value at a time; None marks where the series has ended, as by a scrape that failed."""

    t_ms: int
    value: float | None


class Series:
    """The samples of one series, in the order of their times.

    Parameters
    ----------
    labels : Labels
    samples : iterable of Sample

    Examples
    --------
    >>> up = Series((("__name__", "up"),), [Sample(0, 1.0), Sample(15_000, None)])
    >>> up.at(10_000), up.at(20_000)
    (Sample(t_ms=0, value=1.0), None)
    """

    def __init__(self, labels: Labels, samples: Iterable[Sample] = ()) -> None:
        self.labels = labels
        self.samples = list(samples)

    def add(self, t_ms: int, value: float | None) -> None:
        """Add a sample, which is later than those before."""
        self.samples.append(Sample(t_ms, value))

    def at(self, t_ms: int, lookback_ms: int = LOOKBACK_MS) -> Sample | None:
        """Return the latest sample up to a time; None if it is too old, or an end."""
        place = bisect.bisect_right(self.samples, t_ms, key=_time)
        if place == 0:
            return None
        sample = self.samples[place - 1]
        return None if sample.value is None or sample.t_ms < t_ms - lookback_ms else sample

    def between(self, from_ms: int, to_ms: int) -> list[tuple[int, float]]:
        """Return the samples from one time to another, both included, without ends."""
        low = bisect.bisect_left(self.samples, from_ms, key=_time)
        high = bisect.bisect_right(self.samples, to_ms, key=_time)
        return [(t, value) for t, value in self.samples[low:high] if value is not None]


def _time(sample: Sample) -> int:
    return sample.t_ms


class Store:
    """All series of a monitor.

    Examples
    --------
    >>> store = Store()
    >>> store.add("polls_total", {"cohort": "control"}, 15_000, 40.0)
    >>> [series.labels for series in store.named("polls_total")]
    [(('__name__', 'polls_total'), ('cohort', 'control'))]
    """

    def __init__(self) -> None:
        self._by_name: dict[str, dict[Labels, Series]] = {}

    def add(self, name: str, labels: dict[str, str], t_ms: int, value: float | None) -> None:
        """Add a sample of a series, which begins with its first."""
        key = tuple(sorted({"__name__": name, **labels}.items()))
        of_name = self._by_name.setdefault(name, {})
        if key not in of_name:
            of_name[key] = Series(key)
        of_name[key].add(t_ms, value)

    def named(self, name: str | None = None) -> Iterator[Series]:
        """Yield the series of a metric, in the order in which they began; of all without a name."""
        names = self._by_name if name is None else [name]
        for each in names:
            yield from self._by_name.get(each, {}).values()


_TESTS: dict[str, Callable[[str, str], bool]] = {
    "=": lambda value, wanted: value == wanted,
    "!=": lambda value, wanted: value != wanted,
    "=~": lambda value, pattern: re.fullmatch(pattern, value) is not None,
    "!~": lambda value, pattern: re.fullmatch(pattern, value) is None,
}


def matches(labels: Labels, asked: Iterable[tuple[str, str, str]]) -> bool:
    """Say whether labels meet all of some conditions; a label that is not there is empty.

    Parameters
    ----------
    labels : Labels
    asked : iterable of (str, str, str)
        Names, one of ``=``, ``!=``, ``=~`` and ``!~``, and values or patterns.

    Examples
    --------
    >>> matches((("a", "1"),), [("a", "=~", "1|2"), ("b", "=", "")])
    True
    """
    have = dict(labels)
    return all(_TESTS[sign](have.get(name, ""), value) for name, sign, value in asked)
