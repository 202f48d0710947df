"""What one job of each kind costs the lab's server, and what a client costs the lab.

``python tests/benchmarks/loopback.py`` runs the lab with nothing but polls, or nothing but pushes
to few and to many clients, and divides processor time by jobs; the difference of two sizes tells
a broadcast's fixed cost from its cost per send. What a held request costs is measured in this
process: its answer and the check of the next one follow each other so closely in the lab that only
their sum could be told there. Writes ``data/measured/loopback.csv``; the
constants of ``simlib/live/loopback.py`` are these, rounded.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import socket
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pandas as pd

import simlib as sl
from simlib.core import wire
from simlib.live.app_server import AppServer, _serve
from simlib.live.loopback import SERVICE_S
from simlib.live.messages import Port, Settings
from simlib.live.tokens import make_token

ROOT = Path(__file__).parents[2]
RUNS = 2
BASE = sl.Scenario(
    clients=200,
    horizon_s=9.0,
    ramp_s=2.0,
    bin_s=0.5,
    updates={"rate_per_s": 0.01},
    heartbeat={"direction": "none"},
    polling={"interval_s": 1.0},
)
PUSH = BASE.replace({"transport": "websocket", "websocket.resync": "none"})
HERD = PUSH.replace({"clients": 500, "reconnect": {"policy": "fixed", "base_s": 2.0, "cap_s": 2.0}})


def measure(scenario: sl.Scenario, replication: int = 0) -> tuple[sl.Run, float, float]:
    """A run, and the processor time of server and clients, seconds."""
    run = sl.measure(scenario, replication=replication, progress=False)
    cpu = run.provenance["cpu"]
    busy = run.frame("timeline")
    busy_s = float((busy["utilisation"] * busy["width_s"])[busy["t_s"] >= 3.0].sum())
    return run, busy_s, cpu["other_cores"]


def idle_s() -> float:
    """Processor time of a server that has nothing to do, over the bins that count."""
    return float(np.median([measure(PUSH.replace(clients=1))[1] for _ in range(RUNS)]))


def after_ramp(run: sl.Run, column: str) -> int:
    """A count over the bins that count."""
    timeline = run.frame("timeline")
    return int(timeline[column][timeline["t_s"] >= 3.0].sum())


def proxy_rtt_s() -> tuple[float, float]:
    """What the proxy adds to a lone round trip, seconds, and what others used meanwhile, cores."""
    fault = {"kind": "path_loss", "start_s": 8.9, "length_s": 0.1}
    alone = PUSH.replace({"clients": 1, "ramp_s": 0.0, "updates.rate_per_s": 10.0})
    medians_s: list[float] = []
    others = []
    for faults in ([], [fault]):
        runs = [measure(alone.replace(faults=faults), replication) for replication in range(RUNS)]
        medians_s.append(float(np.median([run.latency_quantiles(0.5) for run, _, _ in runs])))
        others += [other for _, _, other in runs]
    return 2.0 * (medians_s[1] - medians_s[0]), max(others)


async def held_s(clients: int, changes: int = 40) -> tuple[float, float]:
    """Processor time of the check of a request, and of the answer once it was held, seconds."""
    board = BASE.replace({"transport": "long_polling", "long_polling.timeout_s": 100.0})
    scenario = sl.on_loopback(board.replace(clients=clients))
    secret = secrets.token_hex(32)
    app = AppServer(
        Settings(scenario=scenario, seed=1, replication=0, time_scale=1.0, secret=secret)
    )
    app.clock.start_s = asyncio.get_running_loop().time()
    app.admission.admits = lambda *_: True  # all ask as fast as they can
    tokens = [make_token(secret, number, app.spec.token_bytes) for number in range(clients)]
    checks_s, answers_s = [], []
    async with AsyncExitStack() as stack:
        ports = await _serve(app, {}, stack)
        sockets = [
            stack.enter_context(socket.create_connection(("127.0.0.1", ports[Port.POLL])))
            for _ in range(clients)
        ]
        for version in range(1, changes + 1):
            for connection, token in zip(sockets, tokens, strict=True):
                connection.sendall(wire.held_request(app.spec, token, version - 1))
            before_s = time.process_time()
            while len(app.held) < clients:
                await asyncio.sleep(0)
            held_since_s = time.process_time()
            app.version = version
            app.tell_held(version)
            for _ in range(10):  # more turns of the loop than an answer takes
                await asyncio.sleep(0)
            checks_s.append(held_since_s - before_s)
            answers_s.append(time.process_time() - held_since_s)
            assert all(each.recv(4096).startswith(b"HTTP/1.1 200") for each in sockets)
    return float(np.median(checks_s)) / clients, float(np.median(answers_s)) / clients


def fetch_s(clients: int, idle: float) -> tuple[float, float]:
    """Processor time of a fetch after a hint, seconds, and what others used, cores."""
    board = PUSH.replace({"transport": "notify", "clients": clients, "updates.rate_per_s": 1.0})
    costs, others = [], []
    for replication in range(RUNS):
        run, busy_s, other = measure(board, replication)
        fetches = after_ramp(run, "polls")
        hints_s = fetches / clients * (SERVICE_S["fan_out_s"] + clients * SERVICE_S["send_s"])
        costs.append((busy_s - idle - hints_s) / fetches)
        others.append(other)
    return float(np.median(costs)), max(others)


def main() -> pd.DataFrame:
    """Measure every kind of job."""
    rows = []
    idle = idle_s()
    rows.append(("PROXY_RTT_S", *proxy_rtt_s()))

    for clients in (50, 200):
        costs, others = [], []
        for _ in range(RUNS):
            run, busy_s, other = measure(BASE.replace(clients=clients))
            costs.append((busy_s - idle) / after_ramp(run, "polls"))
            others.append(other)
        rows.append((f"poll_s, {clients} polls/s", np.median(costs), max(others)))

    rows += [(f"FETCH_S, {clients} clients", *fetch_s(clients, idle)) for clients in (50, 200)]

    sends: dict[int, float] = {}
    for clients in (50, 200, 1000):
        costs = []
        for _ in range(RUNS):
            scenario = PUSH.replace({"clients": clients, "updates.rate_per_s": 10.0})
            run, busy_s, other = measure(scenario)
            broadcasts = after_ramp(run, "messages") / clients
            costs.append((busy_s - idle) / broadcasts)
            others.append(other)
            deliveries = run.latency_quantiles([0.0, 0.5, 0.95, 1.0])
            rows.append((f"latency p50, {clients} clients", deliveries[1], other))
            rows.append((f"latency p95, {clients} clients", deliveries[2], other))
            share = (
                run.provenance["cpu"]["client_cores"]
                * BASE.horizon_s
                / run.frame("clients")["messages"].sum()
            )
            rows.append((f"client, per push, {clients} clients", share, other))
        sends[clients] = float(np.median(costs))
    send_s = (sends[1000] - sends[200]) / 800
    rows.append(("send_s", send_s, max(others)))
    rows.append(("fan_out_s", sends[200] - 200 * send_s, max(others)))

    for clients in (50, 200):
        check_s, answer_s = asyncio.run(held_s(clients))
        rows += [(f"HELD_CHECK_S, {clients} clients", check_s, math.nan)]
        rows += [(f"HELD_SEND_S, {clients} clients", answer_s, math.nan)]

    opened = PUSH.replace(sessions={"arrivals_per_s": 100.0, "length_s": 0.5, "length": "constant"})
    costs = []
    for _ in range(RUNS):
        run, busy_s, other = measure(opened.replace(clients=0, ramp_s=0.0))
        costs.append((busy_s - idle) / after_ramp(run, "connections"))
    rows.append(("a lone connection, opened and closed", np.median(costs), other))

    reset = {"kind": "reset", "start_s": 4.0}
    costs = []
    for replication in range(RUNS):
        run, _, other = measure(HERD.replace(faults=[reset]), replication)
        again_s = run.frame("connections").query("opened_s > 4")["opened_s"]
        costs.append((again_s.max() - 4.0 - HERD.reconnect.base_s) / len(again_s))
    rows.append(("accept_s + handshake_s + authenticate_s, in a herd", np.median(costs), other))
    return pd.DataFrame(rows, columns=["what", "seconds", "other_cores"])


if __name__ == "__main__":
    table = main()
    table = table.groupby("what", sort=False).median().reset_index()
    table.to_csv(ROOT / "data/measured/loopback.csv", index=False, float_format="%.3g")
    sys.stdout.write(table.to_string(index=False) + "\n")
