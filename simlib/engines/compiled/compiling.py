"""How far numba has come with compiling, for whoever waits for it; what several would compile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from numba.core import event
from tqdm import tqdm

from simlib.engines.compiled.variants import GENERAL, POLLS, PUSHES, Variant
from simlib.progress import DELAY_S, ticking

try:
    import fcntl
except ImportError:  # not on Windows: there, each process compiles for itself
    fcntl = None  # type: ignore[assignment]

FUNCTIONS = {POLLS: 279, PUSHES: 410, GENERAL: 645}
"""About how many functions a copy of the loop is made of: counted with a fresh cache. A bar whose
total is somewhat wrong still moves; nothing else reads them."""

_LOOK_S = 0.1


@contextmanager
def alone(folder: str | Path | None, copy: str) -> Iterator[None]:
    """Compile while no other process does, and so find on disk what another one has compiled.

    Parameters
    ----------
    folder : str or Path or None
        Where compiled code is kept. None, or one that cannot be written to: nothing is shared, and
        nobody waits.
    copy : str
        Of the loop; another one may be compiled meanwhile.

    Examples
    --------
    >>> with alone(None, "general"):
    ...     "compiled"
    'compiled'
    """
    with contextlib.ExitStack() as held:
        lock = _lock_in(folder, copy)
        if lock is not None:
            _take(held.enter_context(lock))  # it is given back when the file is closed
        yield


@contextmanager
def alone_or_not(folder: str | Path | None, what: str) -> Iterator[bool]:
    """Do something only if no other process does: true if none does, until the end of the block.

    Parameters
    ----------
    folder : str or Path or None
        As for `alone`; where there is none, every process is alone.
    what : str

    Examples
    --------
    >>> with alone_or_not(None, "ahead") as is_alone:
    ...     is_alone
    True
    """
    with contextlib.ExitStack() as held:
        lock = _lock_in(folder, what)
        is_alone = True
        if lock is not None:
            try:
                fcntl.flock(held.enter_context(lock), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                is_alone = False
            except OSError:  # a file system without locks
                pass
        yield is_alone


def _lock_in(folder: str | Path | None, name: str) -> IO[str] | None:
    if folder is None or fcntl is None:
        return None
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        return (Path(folder) / f"simlib-compiling-{name}.lock").open("w")
    except OSError:
        return None


def _take(lock: IO[str]) -> None:
    """Wait for a lock; what is seen while another process compiles is a bar without an end."""
    shown = tqdm(
        desc="another process is compiling, up to a minute",
        bar_format="{desc} [{elapsed}]",
        delay=DELAY_S,
        miniters=0,
        leave=False,
    )
    with contextlib.closing(shown), ticking(shown):
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_LOOK_S)
            except OSError:  # a file system without locks
                return
            else:
                return


@contextmanager
def compiling_bar(functions: int, *, is_on: bool = True) -> Iterator[Any]:
    """Show a bar meanwhile, for `count_one`, if it takes longer than two seconds.

    Parameters
    ----------
    functions : int
        About how many are compiled.
    is_on : bool, optional
    """
    shown = tqdm(
        total=functions,
        desc="compiling, once, up to a minute",
        bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} functions [{elapsed}]",
        delay=DELAY_S,
        miniters=0,
        leave=False,
        disable=not is_on,
    )
    with contextlib.closing(shown), ticking(shown):
        yield shown


def count_one(shown: Any) -> None:
    """Move a bar by one function; it is full when all are compiled, not before.

    Parameters
    ----------
    shown : tqdm
    """
    if shown.n + 1 < shown.total:
        shown.update()


@contextmanager
def counted_compiling(count: Callable[[], None]) -> Iterator[None]:
    """Call a function for each function that is compiled meanwhile.

    Parameters
    ----------
    count : callable
    """
    listener = _Counter(count)
    event.register("numba:compile", listener)
    try:
        yield
    finally:
        event.unregister("numba:compile", listener)


class _Counter(event.Listener):
    def __init__(self, count: Callable[[], None]) -> None:
        self._count = count

    def on_start(self, event: Any) -> None:
        """Nothing yet."""

    def on_end(self, event: Any) -> None:  # noqa: ARG002  (numba's signature)
        self._count()


@contextmanager
def shown_compiling() -> Iterator[None]:
    """Show a bar if something is compiled meanwhile, and it takes longer than two seconds.

    What is found on disk is not compiled, and shows nothing.
    """
    listener = _Listener()
    event.register("numba:compile", listener)
    try:
        yield
    finally:
        event.unregister("numba:compile", listener)
        listener.close()


class _Listener(event.Listener):
    """Counts the functions that are compiled, from the first one that was called by Python on."""

    def __init__(self) -> None:
        self._depth = 0
        self._shown: Any = None
        self._bar: Any = None

    def on_start(self, event: Any) -> None:
        """A function begins to be compiled, and then those that it calls."""
        self._depth += 1
        if self._shown is None:
            names = event.data["dispatcher"].py_func.__globals__
            which = Variant(bool(names.get("POLLS", True)), bool(names.get("PUSHES", True)))
            self._bar = compiling_bar(FUNCTIONS[which])
            self._shown = self._bar.__enter__()

    def on_end(self, event: Any) -> None:  # noqa: ARG002  (numba's signature)
        """A function is compiled; the outermost one is the last of its loop."""
        self._depth -= 1
        count_one(self._shown)
        if self._depth == 0:
            self.close()

    def close(self) -> None:
        """End the bar: what follows shows its own."""
        if self._shown is not None:
            self._bar.__exit__(None, None, None)
            self._shown = self._bar = None
