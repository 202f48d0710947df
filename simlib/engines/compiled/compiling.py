"""How far numba has come with compiling, for whoever waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import event
from tqdm import tqdm

from simlib.progress import DELAY_S, ticking

_FUNCTIONS = {(True, False): 240, (False, True): 270, (True, True): 400}
"""About how many functions a copy of the loop is made of, by whether it polls and pushes: counted
with a fresh cache. A bar whose total is somewhat wrong still moves; nothing else reads them."""


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
