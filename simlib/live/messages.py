"""What the lab's processes say to each other, in one vocabulary.

Over pipes (`ipc`) the lab sends each process its `Settings`, and gets a `Ready` back. Then it sends
`Start`, to a server that is to take over `TakeOver`, and at the end `Command.STOP`. Meanwhile

* the clients send `Progress`, a `Sample` to whoever watches, and in a rollout a `MetricsSnapshot`
  for each check, which a `ControllerReply` answers; `CloseConnections` passes through the lab to
  the server;
* a server sends `BusyTime` for each bin of the scenario's time;
* where there are several nodes, each gets a `Change` when the board changes;
* the proxy, which is the balancer, gets a `NodeState` when a node goes, or its next process is up.

At its end each process sends a report.

Over sockets, clients, proxy and server agree on what HTTP and WebSocket leave open: the close code
of a rollback, and the handshake of a connection through the proxy.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simlib.core.assignment import FlagRules
from simlib.core.client_state import Rules
from simlib.core.record import MetricsSnapshot, Record
from simlib.scenario import Scenario

# -- over pipes ----------------------------------------------------------------------------


class Port(StrEnum):
    """The server's ports, and those of the proxy before it."""

    POLL = "poll"
    PUSH = "push"


class Command(Enum):
    """A message without content."""

    STOP = auto()


class RolloutSettings(NamedTuple):
    """A rollout as the processes need it.

    `flag` says how the percentage reaches the tabs, `buckets` has each client's, `cohort_rules` are
    what the clients of the control and of the treatment cohort obey, and the first check is due at
    `due_s`, in the scenario's seconds.
    """

    flag: FlagRules
    buckets: NDArray[np.float64]
    cohort_rules: tuple[Rules, Rules]
    due_s: float


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a process of the lab is to do."""

    scenario: Scenario
    """As `on_loopback` returns it."""
    seed: int
    replication: int
    time_scale: float
    """How many times faster than the clock the scenario runs."""
    secret: str = ""
    """The key that signs the clients' tokens."""
    keep: tuple[str, ...] = ()
    """The optional tables that are kept."""
    rollout: RolloutSettings | None = None
    ports: dict[Port, int] = field(default_factory=dict)
    """For a server, the ports to open (any free ones by default); for clients, those to go to."""
    node_ports: tuple[dict[Port, int], ...] = ()
    """For the proxy, the ports of each node."""
    is_proxied: bool = False
    """Whether there is a proxy between clients and server."""
    sample_s: float | None = None
    """How long after one sample the clients make the next, seconds by the clock; None: they make
    none."""
    is_standby: bool = False
    """Whether this server waits to take over from another."""
    emulates_sends: bool = False
    """Whether a broadcast takes as long as the scenario says, instead of as long as it takes."""


class Ready(NamedTuple):
    """A process is ready; a server or proxy has opened these ports."""

    ports: dict[Port, int]


class Start(NamedTuple):
    """The run starts at this time of the clock, seconds."""

    start_s: float


class TakeOver(NamedTuple):
    """A standby opens its ports at a time of the clock; its run began at another, seconds.

    It serves clients from a time of the scenario on.
    """

    start_s: float
    opens_s: float
    serves_s: float


class Change(NamedTuple):
    """The board has changed: the number of changes so far, from the broker to each node."""

    version: int


class NodeState(NamedTuple):
    """A node of the server is up, or is not; the balancer gives new connections accordingly."""

    node: int
    is_up: bool
    ports: dict[Port, int]


class Progress(NamedTuple):
    """The clients have reached this time of the scenario, seconds."""

    t: float


class Sample(NamedTuple):
    """The figures of the clients now, for whoever watches the run."""

    snapshot: MetricsSnapshot


class ControllerReply(NamedTuple):
    """A rollout controller's reply to a snapshot: a new percentage, if any, and its next check."""

    percent: float | None
    due_s: float


class CloseConnections(NamedTuple):
    """The server is to close the connections of clients, each at its time, and to let none back."""

    closes: list[tuple[int, float]]


class BusyTime(NamedTuple):
    """The processor time that a server used in one bin of the scenario's time, seconds."""

    bin_number: int
    busy_s: float


class ServerReport(NamedTuple):
    """What a server has measured.

    How late it published each change, its processor time and the part of it that it spent waiting
    actively, seconds; the most that it held for each client, and the most memory it took, bytes;
    how often each limit of `admission` and `guards` was met.
    """

    late_s: list[float]
    cpu_s: float
    spun_s: float
    buffered_bytes: dict[int, int]
    peak_bytes: int
    refused: dict[str, int]


class ClientsReport(NamedTuple):
    """The record of a run, when the run ended, and the processor time of the clients, seconds."""

    record: Record
    end_of_run_s: float
    cpu_s: float


class ProxyReport(NamedTuple):
    """The bytes that the proxy passed and its lateness, for the provenance; its processor time."""

    provenance: dict[str, Any]
    cpu_s: float


# -- over sockets --------------------------------------------------------------------------

CLOSE_FOR_ROLLBACK = 4001
"""The close code that tells a client that it is no longer enrolled in a rollout."""
PREAMBLE = struct.Struct(">II")
"""The first bytes from the client on a connection through the proxy: its number, and the client's
own number of the attempt, by which the balancer draws a node."""


def preamble(client: int, exchange: int) -> bytes:
    """Return the first bytes that a client sends on a connection through the proxy.

    Examples
    --------
    >>> list(preamble(258, 3))
    [0, 0, 1, 2, 0, 0, 0, 3]
    """
    return PREAMBLE.pack(client, exchange)


def ready_byte(node: int) -> bytes:
    """Return the first byte from the proxy on a connection: this node has accepted.

    Node -1 stands for the proxy itself, which answers for nodes that are down.

    Examples
    --------
    >>> [list(ready_byte(node)) for node in (1, -1)]
    [[1], [255]]
    """
    return node.to_bytes(1, signed=True)


def accepted_by(first: int) -> int:
    """Return the node that a `ready_byte` names.

    Examples
    --------
    >>> [accepted_by(ready_byte(node)[0]) for node in (1, -1)]
    [1, -1]
    """
    return int.from_bytes([first], signed=True)
