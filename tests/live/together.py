"""Several measurements side by side: for what is counted, not for what is timed.

A measurement mostly waits; four of them keep a processor busy for a tenth of the time. They begin
together, so that no process loads its modules while others are measured.

A test that fails is taken again (see `conftest`). So are its measurements then, each by itself: a
machine that was busy with something else made all of them late.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import simlib as sl

AT_A_TIME = 4

_sets: list[Together] = []
"""All that were made in this process."""


class Together(Mapping[Any, sl.Run]):
    """The run of each scenario; all are measured when the first one is asked for."""

    def __init__(
        self, scenarios: Mapping[Any, sl.Scenario], at_a_time: int = AT_A_TIME, **options: Any
    ):
        self._scenarios, self._at_a_time, self._options = scenarios, at_a_time, options
        self._runs: dict[Any, sl.Run] | None = None
        self.asked: set[Any] = set()
        """The names whose runs were asked for since it was last emptied."""
        _sets.append(self)

    def __getitem__(self, name: Any) -> sl.Run:
        scenario = self._scenarios[name]
        if self._runs is None:
            self._runs = self._measure(self._scenarios)
        if name not in self._runs:
            self._runs |= self._measure({name: scenario})
        self.asked.add(name)
        return self._runs[name]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._scenarios)

    def __len__(self) -> int:
        return len(self._scenarios)

    def _measure(self, scenarios: Mapping[Any, sl.Scenario]) -> dict[Any, sl.Run]:
        left, runs = iter(scenarios.items()), {}
        with ThreadPoolExecutor(self._at_a_time) as pool:
            while batch := dict(islice(left, self._at_a_time)):
                lives = pool.map(
                    lambda one: sl.measure(one, progress=False, **self._options), batch.values()
                )
                runs |= dict(zip(batch, lives, strict=True))
        return runs

    def forget(self) -> None:
        """Have what was asked for measured anew, when it is asked for again."""
        if self._runs is not None:
            self._runs = {name: self._runs[name] for name in self._runs.keys() - self.asked}


def begin_test(again: bool) -> None:
    """Note which runs the test that begins asks for; where it failed before, those are measured."""
    for runs in _sets:
        if again:
            runs.forget()
        runs.asked.clear()
