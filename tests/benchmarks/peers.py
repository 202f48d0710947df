"""How the compiled engine compares with other discrete-event engines.

``python tests/benchmarks/peers.py [REPEATS [CLIENTS]]`` runs two workloads that any such engine can
state (5 repeats and 100,000 clients by default) and prints a row for each engine; `run.py` may
merge the rows of `peers` into its table.

- pollers: clients start at a uniform phase of 30 s; each asks, waits for a first-in first-out
  station of 8 workers (exponential service, 2 ms), and asks again 30 s after the answer; 60 s.
- storm: all connect at once to one worker that takes 1 ms; who would wait longer than 4 s is
  refused at once and comes back after U(0, min(30, 2**k)) s; until everybody is connected.

The peers are SimPy and salabim, a process for each client (salabim in its form with ``yield`` and
with its monitors off), and cimba, a Python front end to an engine in C. A process of cimba has a
stack of its own, too much for 100,000, so its clients are bare events of the C engine with compiled
callbacks, and their state rides in the event: the least that this engine can do. All peers use the
same recursion for the station, on when each worker is free (a heap in the Python engines).

The peers do less for each request than ours. They count requests and nothing else; ours also opens
connections (TCP, and the upgrade and its authentication in the storm), books bytes, time bins and
every client's counts, draws addressed numbers, and among the pollers 12 changes a minute pass
through the ledger and the histogram of delays. So that the engines themselves can be compared,
"event list" is ours without the rules: its event list, its station, its addressed draws.

A request is a poll or an attempt to connect; engines draw different numbers, so their counts must
agree within `TOLERANCE`. Time is the processor's, for the run only: without imports, compilation
and setting out the clients. A ratio is that of the cost per request to the compiled engine's of the
same round; every run has a fresh process, in which the same run was made before.
"""

from __future__ import annotations

import json
import math
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from heapq import heapreplace
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

if TYPE_CHECKING:  # compiled code is given these modules
    from simlib.core import draws, reconnect
    from simlib.core import server as servers
    from simlib.engines.compiled import event_list as events

WORKLOADS = ("pollers", "storm")
POLLS = True
"""Which workload `turns` serves."""
INTERVAL_S, POLL_S, HORIZON_S = 30.0, 2e-3, 60.0
HANDSHAKE_S, SHED_WAIT_S, BASE_S, CAP_S = 1e-3, 4.0, 1.0, 30.0
WORKERS = {"pollers": 8, "storm": 1}
TOLERANCE = 0.03

Run = Callable[[int], tuple[int, int, float]]
"""Simulates so many clients: requests, clients that got connected, processor seconds."""


def timed(work: Callable[[], object]) -> float:
    """The processor seconds that something takes."""
    start_s = time.process_time()
    work()
    return time.process_time() - start_s


def compiled(workload: str) -> Run:
    """Ours, with all its rules; the jobs and trips that the peers do not have take no time."""
    import simlib as sl
    from simlib.core.record import Count
    from simlib.engines.compiled.simulation import Simulation
    from simlib.scenario import compile_workload, new_record

    others = ("accept_s", "authenticate_s", "fan_out_s", "send_s", "heartbeat_s")
    board = sl.Scenario(
        horizon_s=HORIZON_S,
        ramp_s=INTERVAL_S,
        updates={"rate_per_s": 0.2},
        polling={"interval_s": INTERVAL_S},
        network={"rtt_s": 0.0, "tls": False},
        websocket={"resync": "none"},
        heartbeat={"direction": "none"},
        reconnect={"base_s": BASE_S, "cap_s": CAP_S},
        server={
            **dict.fromkeys(others, 0.0),
            "workers": WORKERS[workload],
            "poll_s": POLL_S,
            "handshake_s": HANDSHAKE_S,
            "max_connections": 100_000_000,
            "backlog": 100_000_000,
        },
    )
    if workload == "pollers":
        board = board.replace({"server.service": "exponential"})
    else:
        rush = {"updates.rate_per_s": 1e-6, "server.shed_wait_s": SHED_WAIT_S}
        board = board.replace({"transport": "websocket", "ramp_s": 0.0, **rush})

    def run(clients: int) -> tuple[int, int, float]:
        # A storm has passed when all are served and the last have come back: two back-offs.
        passed_s = clients * HANDSHAKE_S + 2.0 * CAP_S
        horizon_s = HORIZON_S if workload == "pollers" else passed_s
        case = board.replace(clients=clients, horizon_s=horizon_s)
        arrays = compile_workload(case, 1, 0)
        record = new_record(case, arrays)
        simulation = Simulation(arrays, record)
        cpu_s = timed(lambda: simulation.run_until(horizon_s))
        simulation.finish()
        counts = record.bins[0].sum(axis=0)
        requests = int(counts[Count.POLLS] + counts[Count.ATTEMPTS])
        return requests, int(counts[Count.CONNECTIONS]), cpu_s

    return run


class Station:
    """The Python peers' server, and their clients' journeys: what SimPy and salabim both run."""

    def __init__(self, workload: str) -> None:
        self.free_s = [0.0] * WORKERS[workload]
        self.requests = self.connected = 0
        self.draws = random.Random(1)
        self.journey = self.poller if workload == "pollers" else self.comer

    def takes(self, now: float, service_s: float) -> float:
        """How long a request that comes `now` waits and is served, seconds."""
        end_s = max(now, self.free_s[0]) + service_s
        heapreplace(self.free_s, end_s)
        return end_s - now

    def poller(self, now: Callable[[], float], hold: Callable[[float], Any]) -> Iterator[Any]:
        """Ask, wait for the answer and for the interval, for ever."""
        yield hold(self.draws.uniform(0.0, INTERVAL_S))
        while True:
            self.requests += 1
            yield hold(self.takes(now(), self.draws.expovariate(1.0 / POLL_S)))
            yield hold(INTERVAL_S)

    def comer(self, now: Callable[[], float], hold: Callable[[float], Any]) -> Iterator[Any]:
        """Try to connect, stay away when refused, until it works."""
        for k in count():
            self.requests += 1
            if self.free_s[0] - now() <= SHED_WAIT_S:
                break
            yield hold(self.draws.uniform(0.0, min(CAP_S, BASE_S * 2.0**k)))
        yield hold(self.takes(now(), HANDSHAKE_S))
        self.connected += 1


def simpy(workload: str) -> Run:
    """A process for each client."""
    environment: Any = import_module("simpy").Environment

    def run(clients: int) -> tuple[int, int, float]:
        env, station = environment(), Station(workload)
        for _ in range(clients):
            env.process(station.journey(lambda: env.now, env.timeout))
        cpu_s = timed(lambda: env.run(until=HORIZON_S if workload == "pollers" else None))
        return station.requests, station.connected, cpu_s

    return run


def salabim(workload: str) -> Run:
    """A component for each client."""
    sim: Any = import_module("salabim")
    sim.yieldless(False)
    component: Any = sim.Component

    class Client(component):  # type: ignore[misc]  # salabim ships no types
        def process(self, station: Station) -> Iterator[Any]:
            yield from station.journey(self.env.now, self.hold)

    def run(clients: int) -> tuple[int, int, float]:
        env, station = sim.Environment(trace=False), Station(workload)
        for _ in range(clients):
            client = Client(env=env, station=station)
            client.status.monitor(False)
            client.mode.monitor(False)
        cpu_s = timed(lambda: env.run(**({"till": HORIZON_S} if workload == "pollers" else {})))
        return station.requests, station.connected, cpu_s

    return run


def cimba(workload: str) -> Run:
    """Events of the C engine: (callback, subject, object), here (address, refusals, state)."""
    numba: Any = import_module("numba")
    register: Any = import_module("cimba.engine.symbols").register
    draw: Any = import_module("cimba.engine.random_symbols")
    uniform, exponential = draw.random_uniform, draw.random_exponential
    whole, real, address = numba.types.int64, numba.types.float64, numba.types.intp
    nothing, truth = numba.types.void, numba.types.uint8

    def native(name: str, result: Any, *arguments: Any) -> Any:
        register(name)
        return numba.types.ExternalFunction(name, result(*arguments))

    clock = native("cmb_time", real)
    schedule = native("cmb_event_schedule", whole, address, address, address, real, whole)
    seed = native("cmb_random_initialize", nothing, whole)
    begin = native("cmb_event_queue_initialize", nothing, real)
    execute = native("cmb_event_execute_next", truth)
    end = native("cmb_event_queue_terminate", nothing)
    workers, polls = WORKERS[workload], workload == "pollers"
    # The addresses of the two callbacks and of the state itself, what is counted, the workers.
    columns = [(name, "i8") for name in ("ask", "answer", "here", "requests", "connected")]
    layout = np.dtype([*columns, ("free_s", "f8", (workers,))])

    def ask(refusals: Any, states: Any) -> None:
        state = numba.carray(states, 1)[0]
        state.requests += 1
        worker = 0
        for other in range(1, workers):
            if state.free_s[other] < state.free_s[worker]:
                worker = other
        if polls or state.free_s[worker] - clock() <= SHED_WAIT_S:
            service_s = exponential(POLL_S) if polls else HANDSHAKE_S
            state.free_s[worker] = max(clock(), state.free_s[worker]) + service_s
            schedule(state.answer, refusals, state.here, state.free_s[worker], 0)
        else:
            delay_s = uniform(0.0, min(CAP_S, BASE_S * 2.0**refusals))
            schedule(state.ask, refusals + 1, state.here, clock() + delay_s, 0)

    def answer(refusals: Any, states: Any) -> None:
        state = numba.carray(states, 1)[0]
        if polls:
            schedule(state.ask, refusals, state.here, clock() + INTERVAL_S, 0)
        else:
            state.connected += 1

    def set_out(clients: Any, first: Any, here: Any) -> None:
        seed(1)
        begin(0.0)
        for _ in range(clients):
            schedule(first, 0, here, uniform(0.0, INTERVAL_S) if polls else 0.0, 0)

    def run_until(horizon_s: Any) -> None:
        while clock() < horizon_s and execute() != 0:
            pass
        end()

    signature = nothing(address, numba.types.CPointer(numba.from_dtype(layout)))
    callbacks = [numba.cfunc(signature)(callback) for callback in (ask, answer)]
    setting_out, running = numba.njit(set_out), numba.njit(run_until)

    def run(clients: int) -> tuple[int, int, float]:
        state = np.zeros(1, layout)
        state["ask"], state["answer"] = (callback.address for callback in callbacks)
        state["here"] = state.ctypes.data
        setting_out(clients, callbacks[0].address, state.ctypes.data)
        cpu_s = timed(lambda: running(HORIZON_S if polls else math.inf))
        return int(state["requests"][0]), int(state["connected"][0]), cpu_s

    return run


def turns(q: Any, server: Any, counts: Any, tries: Any, horizon_s: float) -> None:
    """Let everything before `horizon_s` happen; modules and settings are given by `bare`."""
    while True:
        source = events.next_source(q)
        now = q.head_t[source]
        if now >= horizon_s:
            return
        if source == events.WHEEL and q.hand[0].open == 0:
            events.turn(q)
            continue
        client = q.head_word[source] & events.CLIENT_MASK
        is_answer = events.take(q, source) == 1
        if is_answer and POLLS:
            events.schedule(q, 0, now + INTERVAL_S, client, 0)
        elif is_answer:
            counts[1] += 1
        else:
            counts[0] += 1
            k = tries[client]
            tries[client] += 1
            if POLLS:
                service_s = draws.exponential(draws.uniform(1, 0, client, 0, k), POLL_S)
                done_s = servers.admit(server.free_s, now, service_s) + service_s
                events.schedule(q, events.WHEEL, done_s, client, 1)
            elif servers.wait_s(server.free_s, now) <= SHED_WAIT_S:
                done_s = servers.admit(server.free_s, now, HANDSHAKE_S) + HANDSHAKE_S
                events.schedule(q, 0, done_s, client, 1)
            else:
                u = draws.uniform(1, 0, client, 0, k)
                delay_s = u * reconnect.doubled_s(BASE_S, k, CAP_S)
                events.schedule(q, events.WHEEL, now + delay_s, client, 0)


def bare(workload: str) -> Run:
    """Our event list, station and addressed draws alone, in the form of cimba's events."""
    names = ("core.draws", "core.reconnect", "core.server", "engines.compiled.event_list")
    draws, reconnect, servers, events = (import_module(f"simlib.{name}") for name in names)
    loops: Any = import_module("simlib.engines.compiled.numba_support").loops
    polls = workload == "pollers"
    modules = {"draws": draws, "events": events, "reconnect": reconnect, "servers": servers}
    (running,) = loops((turns,), POLLS=polls, **modules)

    def run(clients: int) -> tuple[int, int, float]:
        q = events.new_event_list(clients, INTERVAL_S, math.inf)
        for client, u in enumerate(np.random.default_rng(1).random(clients).tolist()):
            events.schedule(q, events.WHEEL, u * INTERVAL_S if polls else 0.0, client, 0)
        state = events.rows_of(1, list(servers.SERVER_STATE.items()))
        free_s, blocked_s = np.zeros((2, WORKERS[workload]))
        server = servers.Server(free_s, blocked_s, np.zeros(1), state)
        counts, tries = np.zeros(2, np.int64), np.zeros(clients, np.int64)
        horizon_s = HORIZON_S if polls else math.inf
        cpu_s = timed(lambda: running(q, server, counts, tries, horizon_s))
        return int(counts[0]), int(counts[1]), cpu_s

    return run


ENGINES = {
    "compiled": compiled,
    "event list": bare,
    "simpy": simpy,
    "salabim": salabim,
    "cimba": cimba,
}


def one(workload: str, name: str, clients: int) -> dict[str, float]:
    """Simulate twice in this process, and time the second run.

    The first one compiles what is to be compiled and touches the memory. Some engines take theirs
    before they are timed and others meanwhile, and fresh memory may cost more than the run.
    """
    run = ENGINES[name](workload)
    run(clients)
    requests, connected, cpu_s = run(clients)
    if workload == "storm" and connected != clients:
        raise RuntimeError(f"{name}: {clients} clients must get connected, got {connected}")
    return {"requests": requests, "cpu_s": cpu_s, "ns": cpu_s / requests * 1e9}


def peers(repeats: int, clients: int = 100_000) -> list[dict[str, object]]:
    """Run both workloads in every engine in turn; a row for each, medians over the repeats."""
    ours = ("compiled", "event list")
    installed = [name for name in ENGINES if name in ours or find_spec(name)]
    cases = [(workload, name) for workload in WORKLOADS for name in installed]
    results: dict[tuple[str, str], list[dict[str, float]]] = {case: [] for case in cases}
    for case in tqdm([case for _ in range(repeats) for case in cases], desc="peers"):
        command = [sys.executable, __file__, "--one", *case, str(clients)]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        results[case].append(json.loads(out))
    rows: list[dict[str, object]] = []
    for workload, name in [(workload, name) for workload in WORKLOADS for name in ENGINES]:
        row: dict[str, object] = {"workload": workload, "engine": name, "clients": clients}
        rows.append(row)
        if name not in installed:
            row["note"] = "not installed, not measured"
            continue
        runs, full = results[workload, name], results[workload, "compiled"]
        requests, expected = runs[0]["requests"], full[0]["requests"]
        if abs(requests / expected - 1.0) > TOLERANCE:
            rule = f"must be within {TOLERANCE:.0%} of {expected}"
            raise RuntimeError(f"{workload}, {name}, requests: {rule}, got {requests}")
        row["version"] = version("simlib" if name in ours else name)
        row["requests"] = requests
        row["cpu_s"] = round(statistics.median(run["cpu_s"] for run in runs), 4)
        row["ns_per_request"] = round(statistics.median(run["ns"] for run in runs), 1)
        for other in ours:
            pairs = zip(runs, results[workload, other], strict=True)
            ratios = [run["ns"] / base["ns"] for run, base in pairs]
            key = f"ratio_to_{other.replace(' ', '_')}"
            row[key] = round(statistics.median(ratios), 2)
            row[f"{key}_range"] = [round(min(ratios), 2), round(max(ratios), 2)]
    return rows


if __name__ == "__main__":
    if "--one" in sys.argv:
        sys.stdout.write(json.dumps(one(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
    else:
        rows = peers(*map(int, sys.argv[1:] or ["5"]))
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
