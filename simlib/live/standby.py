"""The lab's server, killed and followed by another as the scenario's restarts say.

A server that is to take over has been started and has loaded everything before the run begins; it
opens the ports of the one before at the end of the outage, so the outage is as long as asked for.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import psutil

from simlib.live.ipc import Child
from simlib.scenario import Scenario

_START_S = 30.0
_PORTS = range(20_000, 32_000)
"""Below what Linux gives to clients: one that tries a closed port may never be given that port."""


class Servers:
    """One server after the other; a context manager that leaves none.

    Parameters
    ----------
    processor : int or None
        The processor to run on.
    settings : dict
        As for ``simlib.live.app_server``.

    Attributes
    ----------
    ports : dict of str to int
        ``poll_port`` and ``push_port``.
    """

    def __init__(self, processor: int | None, settings: dict[str, Any]) -> None:
        scenario: Scenario = settings["scenario"]
        self._scale: float = settings["time_scale"]
        restarts = [fault for fault in scenario.faults if fault.kind == "restart"]
        self._restarts = sorted(restarts, key=lambda fault: fault.start_s)
        self._stack = ExitStack()
        self._present = 0
        self._start_s = 0.0
        self._killed_cpu_s = 0.0
        self._busy_s: dict[int, float] = {}
        self._is_over = threading.Event()
        self._killer = threading.Thread(target=self._kill, daemon=True)
        with contextlib.ExitStack() as stack:
            self._children = [
                stack.enter_context(Child("simlib.live.app_server", processor))
                for _ in range(1 + len(self._restarts))
            ]
            chosen = dict(zip(("poll_port", "push_port"), _free_ports(2), strict=True))
            first = chosen if self._restarts else {}
            self._children[0].send({**settings, **first, "spare": False})
            self.ports: dict[str, int] = self._children[0].receive(_START_S)
            for child in self._children[1:]:
                child.send({**settings, **self.ports, "spare": True})
                child.receive(_START_S)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()
        if self._killer.is_alive():
            self._killer.join()
        self._stack.close()

    def start(self, start_s: float) -> None:
        """Let the run start at a time of the clock, seconds."""
        self._start_s = start_s
        self._children[0].send(start_s)
        for child, fault in zip(self._children[1:], self._restarts, strict=True):
            end_s = fault.start_s + (fault.length_s or 0.0)
            child.send({"start_s": start_s, "opens_s": start_s + end_s / self._scale})
        self._used_s = _cpu_s(self._children[0])
        self._killer.start()

    def bar(self, closes: list[tuple[int, float]]) -> None:
        """Let the server close clients' connections, each at its time, for good."""
        self._children[self._present].send(closes)

    def busy_s(self) -> float:
        """Return the processor time of the bins that have ended, seconds by the clock."""
        for message in self._children[self._present].pending():
            _add(self._busy_s, message)
        return sum(self._busy_s.values())

    def check(self) -> None:
        """Raise `LiveError` if a server has died that should not have."""
        for child in self._children[self._present :]:
            child.check()

    def stop(self) -> dict[str, Any]:
        """End the last server; return what they all have measured.

        Returns
        -------
        dict
            ``busy_s`` (index of the bin to processor time, seconds), ``late_s`` (of the last
            server), ``cpu_s``, ``spun_s``.
        """
        self._is_over.set()
        self._killer.join()
        last = self._children[self._present]
        last.send("stop")
        for child in self._children[: self._present]:
            for message in child.said():
                _add(self._busy_s, message)
        while "late_s" not in (message := last.receive(_START_S)):
            _add(self._busy_s, message)
        return {**message, "busy_s": self._busy_s, "cpu_s": message["cpu_s"] + self._killed_cpu_s}

    def _kill(self) -> None:
        for fault in self._restarts:
            due_s = self._start_s + fault.start_s / self._scale
            if self._is_over.wait(max(0.0, due_s - time.monotonic())):
                return
            child = self._children[self._present]
            self._present += 1
            child.kill()
            self._killed_cpu_s += max(0.0, _cpu_s(child) - self._used_s)
            self._used_s = (
                0.0
                if self._present == len(self._children)
                else _cpu_s(self._children[self._present])
            )


def _add(busy_s: dict[int, float], message: dict[str, Any]) -> None:
    if "bin" in message:
        busy_s[message["bin"]] = busy_s.get(message["bin"], 0.0) + message["busy_s"]


def _cpu_s(child: Child) -> float:
    """Processor time of a process, also of one that has just been killed."""
    try:
        times = psutil.Process(child.pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _free_ports(n: int) -> list[int]:
    ports: list[int] = []
    with ExitStack() as stack:
        for port in random.sample(_PORTS, len(_PORTS)):
            probe = stack.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                ports.append(port)
                if len(ports) == n:
                    break
    return ports
