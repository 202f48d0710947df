"""Progress bars, in one place: on stderr, and only for what takes longer than two seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from tqdm import tqdm

DELAY_S = 2.0
_TICK_S = 0.5


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


class _TimeBar(tqdm):
    """A bar whose count is a time; tqdm would write it with all its digits."""

    def __init__(self, **options: Any) -> None:
        counts = "{done} of {whole} simulated [{elapsed}<{remaining}]"
        super().__init__(bar_format=f"{{l_bar}}{{bar}}| {counts}", **options)

    @property
    def format_dict(self) -> dict[str, Any]:
        """What the bar's text is made of: tqdm's own, and the times in units."""
        found: dict[str, Any] = super().format_dict
        done_s, whole_s = found["n"], found["total"]
        times = {"done": in_units(done_s, whole_s), "whole": in_units(whole_s, whole_s)}
        return {**found, **times}
