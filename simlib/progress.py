"""Progress bars, in one place: on stderr, and only for what takes longer than two seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from tqdm import tqdm

DELAY_S = 2.0
_TICK_S = 0.5
_SURELY = 2.0
"""A run that is expected to take so many times `DELAY_S` will hardly be shorter than that."""
_MEASURED_S = 0.5
"""After so long, seconds, a run says itself how long it takes."""


def bar(total: int, name: str, unit: str, *, done: int = 0, is_on: bool = True) -> Any:
    """Return a bar that counts.

    Parameters
    ----------
    total : int
    name, unit : str
        What is done, and what is counted.
    done : int, optional
        How many are done already; the estimate of the time that is left does not count them.
    is_on : bool, optional
    """
    return tqdm(total=total, desc=name, unit=unit, initial=done, delay=DELAY_S, disable=not is_on)


def time_bar(total_s: float, name: str, *, is_on: bool = True) -> Any:
    """Return a bar of simulated time, seconds; it shows minutes and hours where they are long."""
    return _TimeBar(total=total_s, desc=name, delay=DELAY_S, disable=not is_on)


def run_bar(total_s: float, name: str, *, expected_s: float, is_on: bool = True) -> Any:
    """Return a bar of simulated time that says how long the run takes, and how fast it goes.

    Parameters
    ----------
    total_s : float
        Simulated time, seconds.
    name : str
        What is done.
    expected_s : float
        How long that is expected to take, seconds; 0: nobody knows. A bar that is expected to be
        there for long enough shows itself at once.
    is_on : bool, optional

    Returns
    -------
    tqdm
        It is moved by ``advance(simulated_s, share, events)``: by how much time, which part of the
        work is done by then, and how many events were handled so far, None where they are not
        counted. From that it says anew how long the run takes.
    """
    return _RunBar(total_s, name, expected_s, is_on=is_on)


@contextmanager
def ticking(shown: Any) -> Iterator[None]:
    """Redraw a bar every half second meanwhile, so that its clock goes on when nothing else does.

    Parameters
    ----------
    shown : tqdm
        Made with ``miniters=0``.
    """
    ended = Event()

    def tick() -> None:
        while not ended.wait(_TICK_S):
            shown.update(0)

    thread = Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def in_units(seconds: float, longest_s: float) -> str:
    """Return a time as text, in the unit that suits the longest one beside it.

    Parameters
    ----------
    seconds, longest_s : float

    Examples
    --------
    >>> in_units(488.12481219999427, 600.0), in_units(600.0, 600.0)
    ('8.1 min', '10.0 min')
    >>> in_units(2.34, 90.0), in_units(2 * 86400.0, 7 * 86400.0)
    ('2.3 s', '48.0 h')
    """
    for unit, length_s in (("h", 3600.0), ("min", 60.0)):
        if longest_s >= 2.0 * length_s:
            return f"{seconds / length_s:.1f} {unit}"
    return f"{seconds:.1f} s"


def about(seconds: float) -> str:
    """Return how long something takes as people say it.

    Parameters
    ----------
    seconds : float

    Examples
    --------
    >>> about(0.42), about(39.7), about(200.0), about(9000.0)
    ('about 0.4 s', 'about 40 s', 'about 3.3 min', 'about 2.5 h')
    """
    for unit, length_s in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * length_s:
            return f"about {float(f'{seconds / length_s:.2g}'):g} {unit}"
    return f"about {float(f'{seconds:.2g}') if seconds >= 1.0 else round(seconds, 1):g} s"


def _counted(number: float) -> str:
    """Return a large number as people say it."""
    for unit, size in ((" M", 1e6), (" k", 1e3)):
        if number >= size:
            return f"{float(f'{number / size:.2g}'):g}{unit}"
    return f"{number:.0f}"


class _TimeBar(tqdm):
    """A bar whose count is a time; tqdm would write it with all its digits."""

    SPEED = "<{remaining}"

    def __init__(self, **options: Any) -> None:
        counts = f"{{done}} of {{whole}} simulated [{{elapsed}}{self.SPEED}]"
        super().__init__(bar_format=f"{{l_bar}}{{bar}}| {counts}", **options)

    @property
    def format_dict(self) -> dict[str, Any]:
        """What the bar's text is made of: tqdm's own, and the times in units."""
        found: dict[str, Any] = super().format_dict
        done_s, whole_s = found["n"], found["total"]
        times = {"done": in_units(done_s, whole_s), "whole": in_units(whole_s, whole_s)}
        return {**found, **times}


class _RunBar(_TimeBar):
    """A bar of a run's time, with what is expected of it, and then with its speed."""

    SPEED = "{speed}"

    def __init__(self, total_s: float, name: str, expected_s: float, *, is_on: bool) -> None:
        self._speed = f", {about(expected_s)} expected" if expected_s > 0.0 else ""
        delay_s = 0.0 if expected_s > _SURELY * DELAY_S else DELAY_S
        super().__init__(total=total_s, desc=name, delay=delay_s, disable=not is_on)

    def advance(self, simulated_s: float, share: float, events: int | None) -> None:
        """Move by some simulated time; see `run_bar`."""
        if self.disable:
            return
        took_s = time.time() - self.start_t  # tqdm's clock
        if took_s >= _MEASURED_S and share > 0.0:
            whole = "" if share >= 1.0 else f", {about(took_s / share)} as measured"
            pace = in_units((self.n + simulated_s) / took_s, self.total)
            counted = "" if events is None else f" and {_counted(events / took_s)} events"
            self._speed = f"{whole}: {pace}{counted} a second"
        self.update(simulated_s)

    @property
    def format_dict(self) -> dict[str, Any]:
        """What the bar's text is made of, with the speed."""
        return {**super().format_dict, "speed": self._speed}
