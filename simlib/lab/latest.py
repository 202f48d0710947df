"""Works on the latest of what is asked, in a thread of its own: what is stale is never begun.

So a slider that is dragged through ten values has those simulated that there was time for, and the
last one always. The kernel's own thread goes on hearing the next move meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from simlib.processes import ending_with

_T = TypeVar("_T")

PATIENCE_S = 0.5
"""What has taken so long is given up when something newer is asked for, seconds. What takes less is
finished, or else the figures would stand still while somebody drags."""


class Latest(Generic[_T]):
    """A thread that works on the latest of what it is asked.

    Parameters
    ----------
    work : callable
        Is called in that thread with what was asked last. Simulations in it end early where they
        are given up: see `processes.ending_with`.

    Examples
    --------
    >>> done = []
    >>> latest = Latest(done.append)
    >>> latest.ask(1)
    >>> latest.close()
    >>> done
    [1]
    """

    def __init__(self, work: Callable[[_T], None]) -> None:
        self._work = work
        self._turn = threading.Condition()
        self._asked: list[_T] = []
        self._is_closed = False
        self._given_up: threading.Event | None = None
        self._began_s = 0.0
        self._thread: threading.Thread | None = None

    @property
    def is_busy(self) -> bool:
        """Whether something is worked on, or waits."""
        with self._turn:
            return bool(self._asked) or self._given_up is not None

    def ask(self, what: _T) -> None:
        """Ask for something, in place of what waits."""
        with self._turn:
            self._asked = [what]
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
            self._turn.notify_all()

    def close(self) -> None:
        """Finish what was asked last, and end the thread."""
        with self._turn:
            self._is_closed = True
            self._turn.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def give_up(self) -> None:
        """Let what is worked on end early, and forget what waits."""
        with self._turn:
            self._asked = []
            if self._given_up is not None:
                self._given_up.set()

    def _run(self) -> None:
        while True:
            with self._turn:
                while not self._asked and not self._is_closed:
                    self._turn.wait()
                if not self._asked:
                    return
                what, self._given_up = self._asked.pop(), threading.Event()
                self._began_s = time.monotonic()
            watch = threading.Thread(target=self._watch, args=(self._given_up,), daemon=True)
            watch.start()
            try:
                with ending_with(self._given_up):
                    self._work(what)
            finally:
                with self._turn:
                    self._given_up = None
                    self._turn.notify_all()
                watch.join()

    def _watch(self, given_up: threading.Event) -> None:
        """Give up what is worked on, once it has taken long and something newer waits."""
        with self._turn:
            while self._given_up is given_up:
                left_s = self._began_s + PATIENCE_S - time.monotonic()
                if self._asked and left_s <= 0.0:
                    given_up.set()
                    return
                self._turn.wait(left_s if self._asked else None)
