"""One node of the lab's server and its standbys: one process takes over from the other.

The scenario's faults say when a node's process ends and when the next one is there. A standby has
been started and has loaded everything before the run begins. It opens the ports of the process
before it at the end of the outage, so the outage is as long as the scenario asks for. One that
replaces a process without an outage opens ports of its own before the other one goes.

A restart of the server is a crash: SIGKILL. A node that goes in a deploy gets SIGTERM. Either cuts
its connections at once, as the rules have it; a process that gets SIGTERM also tells what it has
measured.
"""

from __future__ import annotations

import contextlib
import math
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, NamedTuple, Self

import psutil

from simlib.core.connection import stops
from simlib.core.faults import FaultEffect, FaultEvent
from simlib.errors import LiveError
from simlib.live.ipc import START_S, Child
from simlib.live.messages import (
    BusyTime,
    Change,
    CloseConnections,
    Command,
    Ready,
    ServerReport,
    Settings,
    Start,
    TakeOver,
)

_PORTS = range(20_000, 32_000)
"""Below the ports that Linux gives to clients: one that tries a closed port could be given it."""
_GRACE_S = 1.0
_LEAD_S = 1.0
"""How long before it replaces another a process opens its ports, seconds by the clock."""


class Outage(NamedTuple):
    """A node is down from one time to another, seconds; it crashes, or is asked to go.

    If both times are the same, it is never down: the next process is there before this one goes.
    """

    start_s: float
    end_s: float
    is_crash: bool

    @property
    def is_none(self) -> bool:
        """Whether the node is never down."""
        return self.start_s == self.end_s


ON_ORDER = Outage(math.inf, math.nan, is_crash=True)
"""An outage that somebody may order during the run: see `ServerWithStandbys.crash`."""


def outages_of(fault_events: Sequence[FaultEvent], node: int, horizon_s: float) -> list[Outage]:
    """Return when a node of the server is down, in order of time.

    Parameters
    ----------
    fault_events : sequence of FaultEvent
        All of a run.
    node : int
    horizon_s : float
        The end of the run, by which an outage is over that has no end before.

    Examples
    --------
    >>> from simlib.core.faults import fault_events_of
    >>> deploy = fault_events_of("rolling_deploy", 0, 2, start_s=9, length_s=5, every_s=8)
    >>> outages_of(deploy, 1, 60.0)
    [Outage(start_s=17, end_s=22, is_crash=False)]
    """
    outages: list[Outage] = []
    for fault_event in fault_events:
        effect = fault_event.effect
        is_back = effect == FaultEffect.NODE_UP and fault_event.node == node
        if stops(fault_event, node):
            is_crash = effect == FaultEffect.SERVER_DOWN
            end_s = fault_event.t if fault_event.is_replaced else horizon_s
            outages.append(Outage(fault_event.t, end_s, is_crash))
        elif is_back or effect == FaultEffect.SERVER_UP:
            outages[-1] = outages[-1]._replace(end_s=fault_event.t)
    return outages


class ServerWithStandbys:
    """The processes of a node, one after the other; a context manager that leaves none.

    Parameters
    ----------
    processor : int or None
        The processor to run on.
    settings : Settings
        Its ports are those that each process is to open, but for one that replaces another. They
        have to be given, see `free_ports`, where there are outages.
    outages : list of Outage
        When the node is down; one from time 0 on leaves it without a first process, and
        `ON_ORDER`, which has to be alone, begins when `crash` is called.

    Attributes
    ----------
    is_up_first : bool
        Whether it is up when the run begins.
    ports : dict of Port to int
        The node's, once it is ready: those of its latest process.
    bin_busy_s : dict of int to float
        The processor time used in each bin so far, seconds by the clock.
    """

    def __init__(self, processor: int | None, settings: Settings, outages: list[Outage]) -> None:
        self.is_up_first = not outages or outages[0].start_s > 0.0
        self._scale = settings.time_scale
        self._outages = outages
        self._stack = ExitStack()
        self._start_s = 0.0
        self._active = 0
        self._is_down = not self.is_up_first
        self._used_s = 0.0
        self._killed_cpu_s = 0.0
        self._failure: LiveError | None = None
        self.bin_busy_s: dict[int, float] = {}
        self._reports: list[ServerReport] = []
        self._is_over = threading.Event()
        self._is_ordered = threading.Event()
        self._restarter: threading.Thread | None = None
        self.ports = settings.ports
        with ExitStack() as stack:
            self._children = [
                stack.enter_context(Child("simlib.live.app_server", processor))
                for _ in range(len(outages) + self.is_up_first)
            ]
            for place, child in enumerate(self._children):
                turn = place - self.is_up_first
                is_beside = turn >= 0 and outages[turn].is_none
                ports = {} if is_beside else settings.ports
                child.send(replace(settings, ports=ports, is_standby=turn >= 0))
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_restarter()
        self._stack.close()

    def await_ready(self, timeout_s: float) -> None:
        """Wait until all processes have loaded, and the first has opened its ports.

        Raises
        ------
        LiveError
            A process has died, or has said nothing for `timeout_s` seconds.
        """
        for child in self._children:
            ready: Ready = child.receive(timeout_s)
            self.ports = self.ports or ready.ports

    @property
    def processes(self) -> int:
        """How many processes there are, standbys among them."""
        return len(self._children)

    def start(self, start_s: float, say_is_up: Callable[[bool], None] = lambda _: None) -> None:
        """Start the run at a time of the clock, seconds.

        `say_is_up` is called whenever the node is back or another process takes its place, and just
        before it goes.
        """
        self._start_s = start_s
        if self.is_up_first:
            self._children[0].send(Start(start_s))
        first = int(self.is_up_first)
        for child, outage in zip(self._children[first:], self._outages, strict=True):
            if outage is ON_ORDER:
                continue
            opens_s = self._to_clock(outage.end_s) - _LEAD_S * outage.is_none
            child.send(TakeOver(start_s, opens_s, serves_s=outage.end_s))
        self._used_s = _cpu_s(self._children[0])
        self._restarter = threading.Thread(
            target=self._carry_out_outages, args=(say_is_up,), daemon=True
        )
        self._restarter.start()

    def crash(self, start_s: float, length_s: float) -> None:
        """Let the outage that was to be ordered begin; times in seconds of the scenario."""
        end_s = start_s + length_s
        self._outages = [Outage(start_s, end_s, is_crash=True)]
        self._children[1].send(TakeOver(self._start_s, self._to_clock(end_s), serves_s=end_s))
        self._is_ordered.set()

    def tell(self, change: Change) -> None:
        """Tell the node of a change, and its standbys, which will need to have heard of it."""
        for child in self._children[self._active :]:
            with contextlib.suppress(LiveError):  # it is just being stopped; or else see `check`
                child.send(change)

    def close_connections(self, message: CloseConnections) -> None:
        """Let the server close clients' connections, each at its time, for good."""
        self._children[self._active].send(message)

    def busy_s(self) -> float:
        """Return the processor time of the bins that have ended, seconds by the clock."""
        child = self._children[self._active]
        if not self._is_down:  # or it is the standby, whose Ready is waited for elsewhere
            self._take(child.pending())
        return sum(self.bin_busy_s.values())

    def check(self) -> None:
        """Raise `LiveError` if a server has died that should not have."""
        if self._failure is not None:
            raise self._failure
        for child in self._children[self._active :]:
            child.check()

    def kill(self) -> None:
        """End all processes at once."""
        for child in self._children:
            child.kill()

    def stop(self) -> ServerReport:
        """End the last process.

        Returns
        -------
        ServerReport
            Of all processes, but for those that were killed: of them, the processor time.
        """
        self._end_restarter()
        last = self._children[self._active]
        last.send(Command.STOP)
        for child in self._children[: self._active]:
            self._take(child.messages_to_end())
        while not isinstance(message := last.receive(START_S), ServerReport):
            self._take([message])
        report = merged([*self._reports, message])
        return report._replace(cpu_s=report.cpu_s + self._killed_cpu_s)

    def _end_restarter(self) -> None:
        self._is_over.set()
        self._is_ordered.set()
        if self._restarter is not None:
            self._restarter.join()

    def _to_clock(self, t: float) -> float:
        return self._start_s + t / self._scale

    def _waits_until(self, t: float) -> bool:
        """Wait until a time of the scenario; say whether the run goes on."""
        return not self._is_over.wait(max(0.0, self._to_clock(t) - time.monotonic()))

    def _carry_out_outages(self, say_is_up: Callable[[bool], None]) -> None:
        try:
            if self._outages == [ON_ORDER]:
                self._is_ordered.wait()
                if self._is_over.is_set():
                    return
            for place, outage in enumerate(self._outages, start=int(self.is_up_first)):
                if not self._is_down and not outage.is_none:
                    if not self._waits_until(outage.start_s):
                        return
                    say_is_up(False)
                    self._end_process(outage)
                child = self._children[place]
                if not self._waits_until(outage.end_s) or not self._has_opened(child):
                    return
                say_is_up(True)
                if outage.is_none:
                    self._end_process(outage)
                self._is_down = False
        except LiveError as error:
            self._failure = error

    def _end_process(self, outage: Outage) -> None:
        """End the active process; the next one is its standby."""
        child = self._children[self._active]
        self._is_down = not outage.is_none
        self._active += 1
        if outage.is_crash:
            child.kill()
            self._killed_cpu_s += max(0.0, _cpu_s(child) - self._used_s)
        else:
            child.terminate(_GRACE_S)

    def _has_opened(self, child: Child) -> bool:
        """Wait until a standby has opened its ports; say whether the run goes on."""
        until_s = time.monotonic() + START_S
        while not self._is_over.is_set():
            for message in child.pending():
                if isinstance(message, Ready):
                    self._used_s = _cpu_s(child)
                    self.ports = message.ports
                    return True
            if time.monotonic() > until_s:
                raise LiveError(f"{child.module} said nothing for {START_S:g} s")
            child.check()
            time.sleep(1e-3)
        return False

    def _take(self, messages: list[Any]) -> None:
        """Take what a process has told."""
        for message in messages:
            if isinstance(message, BusyTime):
                before_s = self.bin_busy_s.get(message.bin_number, 0.0)
                self.bin_busy_s[message.bin_number] = before_s + message.busy_s
            elif isinstance(message, ServerReport):
                self._reports.append(message)


def merged(reports: Sequence[ServerReport]) -> ServerReport:
    """Return one report of several processes: sums, and the most of each client and process."""
    buffered_bytes: dict[int, int] = {}
    refused: Counter[str] = Counter()
    for report in reports:
        refused.update(report.refused)
        for number, n_bytes in report.buffered_bytes.items():
            buffered_bytes[number] = max(n_bytes, buffered_bytes.get(number, 0))
    return ServerReport(
        late_s=[late_s for report in reports for late_s in report.late_s],
        cpu_s=sum(report.cpu_s for report in reports),
        spun_s=sum(report.spun_s for report in reports),
        buffered_bytes=buffered_bytes,
        peak_bytes=max(report.peak_bytes for report in reports),
        refused=dict(refused),
    )


def _cpu_s(child: Child) -> float:
    """Return the processor time of a process, also of one that has just been killed."""
    try:
        times = psutil.Process(child.pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def free_ports(n: int) -> list[int]:
    """Return ports that nothing listens to now, and that no client is given by the system."""
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
