"""How far numba has come with compiling, for whoever waits for it; what several would compile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from numba.core import event
from tqdm import tqdm

from simlib.progress import DELAY_S, ticking

try:
    import fcntl
except ImportError:  # not on Windows: there, each process compiles for itself
    fcntl = None  # type: ignore[assignment]

_FUNCTIONS = {(True, False): 265, (False, True): 305, (True, True): 545}
"""About how many functions a copy of the loop is made of, by whether it polls and pushes: counted
with a fresh cache. A bar whose total is somewhat wrong still moves; nothing else reads them."""


_LOOK_S = 0.1


@contextmanager
def alone(folder: str | Path | None) -> Iterator[None]:
    """Compile while no other process does, and so find on disk what another one has compiled.

    Parameters
    ----------
    folder : str or Path or None
        Where compiled code is kept. None, or one that cannot be written to: nothing is shared, and
        nobody waits.

    Examples
    --------
    >>> with alone(None):
    ...     "compiled"
    'compiled'
    """
    with contextlib.ExitStack() as held:
        lock = _lock_in(folder)
        if lock is not None:
            _take(held.enter_context(lock))  # it is given back when the file is closed
        yield


def _lock_in(folder: str | Path | None) -> IO[str] | None:
    if folder is None or fcntl is None:
        return None
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        return (Path(folder) / "simlib-compiling.lock").open("w")
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
        self._clock: Any = None

    def on_start(self, event: Any) -> None:
        """A function begins to be compiled, and then those that it calls."""
        self._depth += 1
        if self._shown is None:
            names = event.data["dispatcher"].py_func.__globals__
            which = bool(names.get("POLLS", True)), bool(names.get("PUSHES", True))
            self._shown = tqdm(
                total=_FUNCTIONS.get(which),
                desc="compiling, once, up to a minute",
                bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} functions [{elapsed}]",
                delay=DELAY_S,
                miniters=0,
                leave=False,
            )
            self._clock = ticking(self._shown)
            self._clock.__enter__()

    def on_end(self, event: Any) -> None:  # noqa: ARG002  (numba's signature)
        """A function is compiled; the outermost one is the last of its loop."""
        self._depth -= 1
        if self._shown.n + 1 < self._shown.total:
            self._shown.update()
        if self._depth == 0:
            self.close()

    def close(self) -> None:
        """End the bar: what follows shows its own."""
        if self._shown is not None:
            self._clock.__exit__(None, None, None)
            self._shown.close()
            self._shown = self._clock = None
