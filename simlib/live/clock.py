"""The scenario's time, as the lab's processes read it from the machine's clock."""

from __future__ import annotations

import asyncio
import time


class ScenarioClock:
    """The scenario's time on the machine's monotonic clock, which is asyncio's too.

    Parameters
    ----------
    time_scale : float
        How many times faster than the clock the scenario runs.
    start_s : float, optional
        When the run starts, by the clock, seconds; set it as soon as it is known.

    Examples
    --------
    >>> clock = ScenarioClock(time_scale=5.0, start_s=100.0)
    >>> clock.to_clock(10.0)
    102.0
    """

    def __init__(self, time_scale: float, start_s: float = 0.0) -> None:
        self.time_scale = time_scale
        self.start_s = start_s

    def now_s(self) -> float:
        """Return the scenario's time, seconds."""
        return (time.monotonic() - self.start_s) * self.time_scale

    def to_clock(self, t: float) -> float:
        """Return the clock's time for a time of the scenario, seconds."""
        return self.start_s + t / self.time_scale

    async def sleep_until(self, t: float) -> None:
        """Sleep until a time of the scenario; return at once if it has passed."""
        await asyncio.sleep(max(0.0, self.to_clock(t) - time.monotonic()))
