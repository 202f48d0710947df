"""How processes end, and let others go first: SIGTERM as Ctrl-C, workers with their parent."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType

import psutil

_WATCH = "simlib watches its parent"
_LOOK_S = 0.5
_LAST = 19  # the lowest priority of Unix
_is_over: ContextVar[threading.Event | None] = ContextVar("is_over", default=None)


@contextmanager
def terminable() -> Iterator[None]:
    """Answer SIGTERM as Ctrl-C, unless the program has an answer of its own.

    Only a program's main thread can ask for signals; elsewhere nothing changes.

    Examples
    --------
    >>> with terminable():
    ...     try:
    ...         signal.raise_signal(signal.SIGTERM)
    ...     except KeyboardInterrupt:
    ...         "stopped"
    'stopped'
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _as_ctrl_c(_number: int, frame: FrameType | None) -> None:
    answer = signal.getsignal(signal.SIGINT)
    if not callable(answer):  # a shell that starts a program in the background has it ignore Ctrl-C
        raise KeyboardInterrupt
    answer(signal.SIGINT, frame)


def end_with(parent: int) -> None:
    """Let this process, a worker, end within a second of its parent, however that ends.

    Parameters
    ----------
    parent : int
        The parent's process id.
    """
    if any(thread.name == _WATCH for thread in threading.enumerate()):
        return

    def watch() -> None:
        # A process whose parent has ended gets another one, on every Unix.
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        os._exit(1)

    threading.Thread(target=watch, name=_WATCH, daemon=True).start()
    if threading.current_thread() is threading.main_thread():
        # A worker has nothing to tidy up; its parent sees that it is gone, and runs its task again.
        signal.signal(signal.SIGTERM, lambda number, _frame: os._exit(128 + number))


@contextmanager
def ending_with(is_over: threading.Event) -> Iterator[None]:
    """Let what this thread does end soon after an event is set: see `end_event`.

    Parameters
    ----------
    is_over : threading.Event

    Examples
    --------
    >>> event = threading.Event()
    >>> with ending_with(event):
    ...     end_event() is event
    True
    >>> end_event() is None
    True
    """
    before = _is_over.set(is_over)
    try:
        yield
    finally:
        _is_over.reset(before)


def end_event() -> threading.Event | None:
    """Return the event at which this thread's work is to end, if there is one."""
    return _is_over.get()


def give_way(process: int) -> None:
    """Let a process, and those that it starts from now on, compute when no other wants to.

    Where the system knows no such thing, or does not allow it, all goes on as before.

    Parameters
    ----------
    process : int
        Its id.
    """
    with contextlib.suppress(OSError, psutil.Error):
        psutil.Process(process).nice(getattr(psutil, "IDLE_PRIORITY_CLASS", _LAST))
        if hasattr(os, "SCHED_IDLE"):
            os.sched_setscheduler(process, os.SCHED_IDLE, os.sched_param(0))
