"""Several measurements side by side: for what is counted, not for what is timed.

A measurement mostly waits; four of them keep a processor busy for a tenth of the time. They begin
together, so that no process loads its modules while others are measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import simlib as sl

AT_A_TIME = 4


def measured_together(
    scenarios: Mapping[Any, sl.Scenario], at_a_time: int = AT_A_TIME, **options: Any
) -> dict[Any, sl.Run]:
    """Return the run of each scenario, measured with the same options."""
    left, runs = iter(scenarios.items()), {}
    with ThreadPoolExecutor(at_a_time) as pool:
        while batch := dict(islice(left, at_a_time)):
            lives = pool.map(lambda one: sl.measure(one, progress=False, **options), batch.values())
            runs |= dict(zip(batch, lives, strict=True))
    return runs
