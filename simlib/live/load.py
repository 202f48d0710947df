"""What a scenario asks of the lab each second, and what this machine bears: asked before a run.

The lab has a server process for each node, one process for all clients, and at times a proxy: each
can use one processor, and the nodes are taken to share theirs. How much processor time a poll or a
push takes each of them was measured once (`BUSY_S`); how fast this machine is now, and how much of
a processor a busy process gets beside other programs, is measured in the same sitting, in a third
of a second.
"""

from __future__ import annotations

import socket
import time
from typing import NamedTuple

import numpy as np

from simlib.core.protocol import HAS_SOCKET, Transport
from simlib.errors import LiveError
from simlib.live.loopback import needs_proxy
from simlib.live.messages import RolloutSettings
from simlib.scenario import Scenario, Workload, expected

BUSY_S = {
    "server": {"poll": 0.15e-3, "push": 13e-6, "heartbeat": 30e-6},
    "clients": {"poll": 80e-6, "push": 27e-6, "heartbeat": 30e-6},
    "proxy": {"poll": 0.15e-3, "push": 30e-6, "heartbeat": 30e-6},
}
"""Processor time of each process for one of each, seconds, when it never waits.

A poll that comes alone costs the server three times as much (`loopback.SERVICE_S`), since it has to
be woken for it: what is refused by these numbers is out of reach, not merely slow.
"""
ROUND_TRIP_S = 4.6e-6
"""Processor time of one round trip of `machine_now` where those costs were measured, seconds."""
MOST = 1.0
"""The part of a processor that a run may ask of a process: beyond it, it falls behind for good."""
FITS = 0.7
"""The part that a run is advised to ask."""
_CALIBRATION_S = 0.3
_BURST = 200


class Machine(NamedTuple):
    """A machine, now.

    Attributes
    ----------
    slowness : float
        How many times as long something takes as where the costs were measured.
    share : float
        The part of a processor that a process gets which never waits.
    """

    slowness: float
    share: float


def check_load(
    scenario: Scenario,
    workload: Workload,
    *,
    time_scale: float,
    rollout: RolloutSettings | None = None,
    machine: Machine | None = None,
) -> dict[str, float]:
    """Refuse a run that asks more of a process of the lab than this machine bears.

    Parameters
    ----------
    scenario : Scenario
        As `on_loopback` returned it for this time scale.
    workload : Workload
    time_scale : float
    rollout : RolloutSettings, optional
        Clients may use either of its transports: the dearer one counts for all.
    machine : Machine, optional
        Absent: it is measured.

    Returns
    -------
    dict of str to float
        ``server``, ``clients``, ``proxy``: the parts of a processor that they need, of what they
        get; ``slowness`` and ``share``: see `Machine`.

    Raises
    ------
    LiveError
        A part is above `MOST`; with the largest time scale, or number of clients, that fits.
    """
    machine = machine_now() if machine is None else machine
    transports = [int(Transport[scenario.transport.upper()])]
    if rollout is not None:
        transports = list(rollout.flag.transports)
    rates = [rates_of(scenario, workload, transport) for transport in transports]
    each = [loads_of(scenario, rate, time_scale, machine) for rate in rates]
    worst = max(range(len(each)), key=lambda one: max(each[one].values()))
    loads, rate = each[worst], rates[worst]
    most = max(loads.values())
    if most > MOST:
        raise LiveError(_refusal(workload, loads, rate, time_scale))
    return {**{name: round(load, 4) for name, load in loads.items()}, **machine._asdict()}


def rates_of(scenario: Scenario, workload: Workload, transport: int) -> dict[str, float]:
    """Return the polls, pushes and heartbeats per second of the scenario's time, at its usual pace.

    Faults, hidden tabs and the herd at the beginning are left out: they pass.
    """
    horizon_s = scenario.horizon_s
    stays_s = np.minimum(workload.end_s, horizon_s) - workload.start_s
    present = float(np.clip(stays_s, 0.0, None).sum()) / horizon_s
    rates = expected.rates_of(scenario, transport, len(workload.publish_s) / horizon_s)
    # Safety polls are left out, too: a client makes few of them.
    own = 0.0 if HAS_SOCKET[transport] else rates.polls
    return {
        "poll": present * (own + rates.asks + rates.fetches),
        "push": present * rates.pushes,
        "heartbeat": present * rates.heartbeats,
    }


def loads_of(
    scenario: Scenario, rates: dict[str, float], time_scale: float, machine: Machine
) -> dict[str, float]:
    """Return which part of what it gets of a processor each process needs."""
    per_s = time_scale * machine.slowness / machine.share
    return {
        process: sum(rates[name] * cost for name, cost in costs.items()) * per_s
        for process, costs in BUSY_S.items()
        if process != "proxy" or needs_proxy(scenario)
    }


def _refusal(
    workload: Workload, loads: dict[str, float], rates: dict[str, float], time_scale: float
) -> str:
    name = max(loads, key=lambda one: loads[one])
    fits = loads[name] / FITS
    asked = ", ".join(
        f"{rate * time_scale:,.0f} {words}/s"
        for rate, words in ((rates["poll"], "requests"), (rates["push"], "pushed messages"))
        if rate
    )
    clients = len(workload.start_s)
    if time_scale / fits >= 1.0:
        right = f"time_scale must be <= {_down(time_scale / fits)}, "
        right += f"or at most {int(clients / fits):,} clients"
    elif time_scale > 1.0:
        right = f"clients must be <= {int(clients / fits * time_scale):,}, at time_scale 1"
    else:
        right = f"clients must be <= {int(clients / fits):,}"
    return (
        f"time_scale {time_scale:g} and {clients:,} clients ask for {asked}: "
        f"{loads[name]:.2g} times what this machine bears now (the lab's {name}); {right}"
    )


def _down(value: float) -> str:
    """Return a number of two digits that is not above another.

    Examples
    --------
    >>> _down(3.99), _down(127.0)
    ('3.9', '120')
    """
    scale = 10.0 ** (1 - int(np.floor(np.log10(value))))
    return f"{np.floor(value * scale * (1 + 1e-12)) / scale:g}"


def machine_now() -> Machine:
    """Measure how fast this machine is now, by round trips between two sockets."""
    here, there = socket.socketpair()
    with here, there:
        wall_s, cpu_s, trips = time.perf_counter(), time.process_time(), 0
        while trips == 0 or time.perf_counter() - wall_s < _CALIBRATION_S:
            for _ in range(_BURST):
                here.send(b"x" * 100)
                there.recv(200)
                there.send(b"y" * 100)
                here.recv(200)
            trips += _BURST
        used_s, took_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    slowness = max(0.1, used_s / trips / ROUND_TRIP_S)
    return Machine(round(slowness, 3), round(min(1.0, max(0.05, used_s / took_s)), 3))
