"""All nodes of the lab's server, and the broker that tells them of changes.

A node is a process with its standbys (`standby`), and has workers, backlog and limits of its own.
The proxy is the balancer before them. A thread of the lab is the broker: whenever the board changes
it tells each node, which pushes the change when the scenario's hop is over. A node is told sooner
than that unless the hop is shorter than a message between two processes takes here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Self

from simlib.live.ipc import START_S, Child
from simlib.live.messages import (
    Change,
    CloseConnections,
    NodeState,
    Port,
    ServerReport,
    Settings,
)
from simlib.live.standby import (
    ON_ORDER,
    ServerWithStandbys,
    free_ports,
    merged,
    outages_of,
)
from simlib.scenario import Workload

_BROKER_END_S = 1.0


class ServerNodes:
    """The nodes of the server; a context manager that leaves no process.

    Parameters
    ----------
    processors : sequence of (int or None), one for each node
        The processor that each is to run on.
    settings : Settings
    workload : Workload
    may_crash : bool, optional
        Whether `crash` may be called: a process of the only node stands by.

    Attributes
    ----------
    node_ports : tuple of (dict of Port to int)
        The ports of each node.
    """

    def __init__(
        self,
        processors: Sequence[int | None],
        settings: Settings,
        workload: Workload,
        *,
        may_crash: bool = False,
    ) -> None:
        self._scale = settings.time_scale
        self._publish_s: list[float] = workload.publish_s.tolist()
        self._start_s = 0.0
        self._is_over = threading.Event()
        self._broker = threading.Thread(target=self._tell_of_changes, daemon=True)
        horizon_s, ports = settings.scenario.horizon_s, free_ports(len(processors) * len(Port))
        with ExitStack() as stack:
            self._nodes = []
            for number, processor in enumerate(processors):
                outages = outages_of(workload.fault_events, number, horizon_s)
                if may_crash:
                    outages = [ON_ORDER]
                own = {port: ports.pop() for port in Port} if outages else {}
                server = ServerWithStandbys(processor, replace(settings, ports=own), outages)
                self._nodes.append(stack.enter_context(server))
            # All load at the same time, some on the same processor.
            timeout_s = START_S * sum(node.processes for node in self._nodes)
            for node in self._nodes:
                node.await_ready(timeout_s)
            self._stack = stack.pop_all()
        self.node_ports: tuple[dict[Port, int], ...] = tuple(node.ports for node in self._nodes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_broker()
        self._stack.close()

    def start(self, start_s: float, balancer: Child | None) -> None:
        """Start the run at a time of the clock, seconds; the balancer hears which nodes are up."""
        self._start_s = start_s
        for number, node in enumerate(self._nodes):
            say_is_up: Callable[[bool], None] = _say_nothing
            if balancer is not None:
                say_is_up = partial(_say_is_up, balancer, number, node)
            say_is_up(node.is_up_first)
            node.start(start_s, say_is_up)
        if len(self._nodes) > 1:
            self._broker.start()

    def crash(self, start_s: float, length_s: float) -> None:
        """Kill the server at a time of the scenario, for so long, seconds."""
        for node in self._nodes:
            node.crash(start_s, length_s)

    def close_connections(self, message: CloseConnections) -> None:
        """Let each node close its clients' connections, each at its time, for good."""
        for node in self._nodes:
            node.close_connections(message)

    def busy_s(self) -> tuple[float, ...]:
        """Return the processor time of the bins that have ended, of each node, by the clock."""
        return tuple(node.busy_s() for node in self._nodes)

    @property
    def bin_busy_s(self) -> tuple[dict[int, float], ...]:
        """The processor time that each node used in each bin, seconds by the clock."""
        return tuple(node.bin_busy_s for node in self._nodes)

    def check(self) -> None:
        """Raise `LiveError` if a server has died that should not have."""
        for node in self._nodes:
            node.check()

    def stop(self) -> ServerReport:
        """End all nodes, and return one report of them: see `merged`."""
        self._end_broker()
        return merged([node.stop() for node in self._nodes])

    def _tell_of_changes(self) -> None:
        for version, t in enumerate(self._publish_s, start=1):
            due_s = self._start_s + t / self._scale
            if self._is_over.wait(max(0.0, due_s - time.monotonic())):
                return
            for node in self._nodes:
                node.tell(Change(version))

    def _end_broker(self) -> None:
        self._is_over.set()
        if self._broker.ident is None:
            return
        self._broker.join(_BROKER_END_S)
        if self._broker.is_alive():  # a node that is stuck does not take what it is told
            for node in self._nodes:
                node.kill()
            self._broker.join()


def _say_is_up(balancer: Child, number: int, node: ServerWithStandbys, is_up: bool) -> None:
    balancer.send(NodeState(number, is_up, node.ports))


def _say_nothing(_is_up: bool) -> None:
    """There is no balancer."""
