"""The lab's server and its standbys: one takes over from the other as the scenario's restarts say.

A standby has been started and has loaded everything before the run begins. It opens the ports of
the server before it at the end of the outage, so the outage is as long as the scenario asks for.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Self

import psutil

from simlib.live.ipc import START_S, Child
from simlib.live.messages import (
    BusyTime,
    CloseConnections,
    Command,
    Port,
    Ready,
    ServerReport,
    Settings,
    Start,
    TakeOver,
)

_PORTS = range(20_000, 32_000)
"""Below the ports that Linux gives to clients: one that tries a closed port could be given it."""


class ServerWithStandbys:
    """One server process after the other; a context manager that leaves none.

    Parameters
    ----------
    processor : int or None
        The processor to run on.
    settings : Settings

    Attributes
    ----------
    ports : dict of Port to int
    bin_busy_s : dict of int to float
        The processor time used in each bin so far, seconds by the clock.
    """

    def __init__(self, processor: int | None, settings: Settings) -> None:
        self._scale = settings.time_scale
        faults = settings.scenario.faults_by_number().values()
        restarts = [fault for fault in faults if fault.kind == "restart"]
        self._restarts = sorted(restarts, key=lambda fault: fault.start_s)
        self._stack = ExitStack()
        self._active = 0
        self._start_s = 0.0
        self._killed_cpu_s = 0.0
        self.bin_busy_s: dict[int, float] = {}
        self._is_over = threading.Event()
        self._restarter = threading.Thread(target=self._kill_as_scheduled, daemon=True)
        with ExitStack() as stack:
            self._children = [
                stack.enter_context(Child("simlib.live.app_server", processor))
                for _ in range(1 + len(self._restarts))
            ]
            ports = dict(zip(Port, _free_ports(len(Port)), strict=True)) if self._restarts else {}
            self._children[0].send(replace(settings, ports=ports))
            ready: Ready = self._children[0].receive(START_S)
            self.ports = ready.ports
            for child in self._children[1:]:
                child.send(replace(settings, ports=self.ports, is_standby=True))
                child.receive(START_S)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        if self._restarter.is_alive():
            self._restarter.join()
        self._stack.close()

    def start(self, start_s: float) -> None:
        """Start the run at a time of the clock, seconds."""
        self._start_s = start_s
        self._children[0].send(Start(start_s))
        for child, fault in zip(self._children[1:], self._restarts, strict=True):
            end_s = fault.start_s + (fault.length_s or 0.0)
            child.send(TakeOver(start_s, opens_s=start_s + end_s / self._scale))
        self._used_s = _cpu_s(self._children[0])
        self._restarter.start()

    def close_connections(self, message: CloseConnections) -> None:
        """Let the server close clients' connections, each at its time, for good."""
        self._children[self._active].send(message)

    def busy_s(self) -> float:
        """Return the processor time of the bins that have ended, seconds by the clock."""
        self._add_busy_time(self._children[self._active].pending())
        return sum(self.bin_busy_s.values())

    def check(self) -> None:
        """Raise `LiveError` if a server has died that should not have."""
        for child in self._children[self._active :]:
            child.check()

    def stop(self) -> ServerReport:
        """End the last server.

        Returns
        -------
        ServerReport
            The last server's, with the processor time of all.
        """
        self._is_over.set()
        self._restarter.join()
        last = self._children[self._active]
        last.send(Command.STOP)
        for child in self._children[: self._active]:
            self._add_busy_time(child.messages_to_end())
        while not isinstance(message := last.receive(START_S), ServerReport):
            self._add_busy_time([message])
        return message._replace(cpu_s=message.cpu_s + self._killed_cpu_s)

    def _kill_as_scheduled(self) -> None:
        for fault in self._restarts:
            due_s = self._start_s + fault.start_s / self._scale
            if self._is_over.wait(max(0.0, due_s - time.monotonic())):
                return
            child = self._children[self._active]
            self._active += 1
            child.kill()
            self._killed_cpu_s += max(0.0, _cpu_s(child) - self._used_s)
            is_last = self._active == len(self._children)
            self._used_s = 0.0 if is_last else _cpu_s(self._children[self._active])

    def _add_busy_time(self, messages: list[Any]) -> None:
        for message in messages:
            if isinstance(message, BusyTime):
                before_s = self.bin_busy_s.get(message.bin_number, 0.0)
                self.bin_busy_s[message.bin_number] = before_s + message.busy_s


def _cpu_s(child: Child) -> float:
    """Return the processor time of a process, also of one that has just been killed."""
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
