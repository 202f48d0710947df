"""The lab's server process: one board, polled over HTTP and pushed over WebSocket.

aiohttp answers polls on one port and websockets pushes on another, in one event loop over one
state, as their documentation advises. Tokens, origins and message sizes are checked as
a production server should. Run by `lab`, as ``python -m simlib.live.app_server``.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import time
from bisect import bisect_right
from http import HTTPStatus
from typing import Any

import websockets
from aiohttp import web
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.http11 import Request, Response
from websockets.typing import Origin

from simlib.core import wire
from simlib.core.client import is_expired
from simlib.core.faults import FaultEffect, is_affected
from simlib.core.resync import Resume, resume_outcome
from simlib.core.server import admits_upgrade, new_server
from simlib.live.ipc import Parent
from simlib.live.send_buffers import SendBuffers
from simlib.live.tokens import client_of
from simlib.scenario import Scenario, compile_workload

_LARGEST_MESSAGE = 16_384
POLL_INSTEAD = 4001
"""The close code that tells a client that it is no longer enrolled in a rollout."""
_SPIN_S = 1.5e-3  # epoll counts in milliseconds: sleep to just before, then watch the clock


class AppServer:
    """The state, and everything that the two front doors need to show it."""

    def __init__(self, scenario: Scenario, seed: int, replication: int, settings: Any) -> None:
        self.scenario = scenario
        self.spec = scenario.wire_spec()
        self.secret: str = settings["secret"]
        self.time_scale: float = settings["time_scale"]
        workload = compile_workload(scenario, seed, replication)
        self.rules = workload.rules
        self.server_rules = workload.server
        self.admission = new_server(1)  # counts upgrades, and nothing else
        self.send_buffers = SendBuffers(workload.server.sending, self.spec)
        self.resets = [
            fault_event
            for fault_event in workload.fault_events
            if fault_event.effect == FaultEffect.RESET
        ]
        self.publish_s: list[float] = workload.publish_s.tolist()
        self.session_s: list[float] = workload.start_s.tolist()
        self.kept_from = 0
        self.numbers: dict[ServerConnection, int] = {}
        self.sockets: dict[int, ServerConnection] = {}
        self.is_rollout: bool = settings["rollout"] is not None
        self.barred: set[int] = set()  # who is no longer to be pushed to
        self.told: set[int] = set()  # whom this process has sent something
        self.closing: set[asyncio.Task[None]] = set()
        self.left_s: dict[int, float] = {}  # when it lost sight of them
        self.links: dict[tuple[int, str], asyncio.BaseTransport] = {}
        self.version = 0
        self.subscribers: set[ServerConnection] = set()
        self.start_s = 0.0
        self.spun_s = 0.0
        self.late_s: list[float] = []
        self._body = (-1, b"")

    def body(self) -> bytes:
        """The whole board as JSON, made once a version."""
        if self._body[0] != self.version:
            self._body = (self.version, wire.poll_body(self.spec, self.version))
        return self._body[1]

    def now_s(self) -> float:
        """Return the scenario's time."""
        return (asyncio.get_running_loop().time() - self.start_s) * self.time_scale

    def resume_outcome(self, number: int, seen: int) -> int:
        """Return how a client that is let in now gets what it has missed."""
        now = self.now_s()
        away_s = now - self.left_s.get(number, now)
        has_session = number in self.told
        return resume_outcome(
            self.rules.resync, seen, self.version, self.kept_from, has_session, away_s
        )

    # -- HTTP ------------------------------------------------------------------------------

    async def poll(self, request: web.Request) -> web.Response:
        """Answer one poll: 200 with the board, 304 if the client has it, 401 without token."""
        number = client_of(self.secret, request.headers.get("Authorization", ""))
        if number is None:
            return web.Response(status=401)
        if request.transport is not None:
            self.links[number, "poll"] = request.transport
        headers = wire.poll_response_headers(self.spec, self.version)
        if "ETag" in headers and request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=304, headers=headers)
        return web.Response(body=self.body(), content_type="application/json", headers=headers)

    # -- WebSocket -------------------------------------------------------------------------

    def admit(self, connection: ServerConnection, _request: Request) -> Response | None:
        """Refuse an upgrade beyond the connection cap, or the rate."""
        is_full = len(connection.server.connections) >= self.server_rules.max_connections
        if is_full or not admits_upgrade(self.admission, self.server_rules, self.now_s()):
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, wire.REFUSED_TEXT)
        return None

    async def push(self, connection: ServerConnection) -> None:
        """One WebSocket from its upgrade to its end."""
        try:
            await self._converse(connection)
        except (websockets.ConnectionClosed, TimeoutError):
            pass  # the client has gone, or never showed its token
        finally:
            self.subscribers.discard(connection)
            number = self.numbers.pop(connection, None)
            if number is not None:
                self.left_s[number] = self.now_s()
                if self.sockets.get(number) is connection:
                    del self.sockets[number]
            self.send_buffers.close(connection)

    async def _converse(self, connection: ServerConnection) -> None:
        spec = self.spec
        hello = wire.hello_text(spec)
        if hello:
            await connection.send(hello)
        timeout_s = self.scenario.websocket.open_timeout_s / self.time_scale
        token = await asyncio.wait_for(connection.recv(), timeout_s)
        number = client_of(self.secret, str(token))
        # A JWT's own expiry has whole seconds, too few for a run in scaled time.
        if number is None or is_expired(self.rules, self.session_s[number], self.now_s()):
            await connection.send(wire.auth_refused_text(spec))
            return
        if number in self.barred:
            await connection.close(POLL_INSTEAD)
            return
        self.links[number, "push"] = connection.transport
        # No await from here to the last line: a change in between would be sent to nobody.
        seen = wire.version_of(str(token)) if spec.resumes else 0
        outcome = self.resume_outcome(number, seen)
        broadcast([connection], wire.ready_text(spec, self.version, lost=outcome == Resume.LOST))
        if outcome == Resume.SNAPSHOT:
            broadcast([connection], wire.snapshot_text(spec, self.version))
        elif outcome == Resume.REPLAY:
            for version in range(seen + 1, self.version + 1):
                broadcast([connection], wire.push_text(spec, version))
        if outcome >= Resume.SNAPSHOT:
            self.told.add(number)
        self.subscribers.add(connection)
        self.numbers[connection] = number
        self.sockets[number] = connection
        self.send_buffers.open(connection, number)
        ping, pong = wire.heartbeat_texts(spec)
        if ping and self.scenario.heartbeat.direction == "server":
            await self._beat(connection, ping, pong)
        else:
            async for _ in connection:
                break  # nothing else is expected of a client
        await connection.close(1008)

    async def bar(self, closes: list[tuple[int, float]]) -> None:
        """Close the connections of clients, each when it is time, and let none of them in again."""
        loop = asyncio.get_running_loop()
        for number, t in sorted(closes, key=lambda close: close[1]):
            await asyncio.sleep(max(0.0, self.start_s + t / self.time_scale - loop.time()))
            self.barred.add(number)
            connection = self.sockets.get(number)
            if connection is not None:
                self.subscribers.discard(connection)
                self.closing.add(task := loop.create_task(connection.close(POLL_INSTEAD)))
                task.add_done_callback(self.closing.discard)

    async def _beat(self, connection: ServerConnection, ping: str, pong: str) -> None:
        """Heartbeats as texts, for envelopes that have their own."""
        interval_s = self.scenario.heartbeat.interval_s / self.time_scale
        timeout_s = self.scenario.heartbeat.timeout_s / self.time_scale
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await connection.recv()
                return  # nothing is expected of a client between the pings
            await connection.send(ping)
            if pong and await asyncio.wait_for(connection.recv(), timeout_s) != pong:
                return

    # -- time ------------------------------------------------------------------------------

    def begin(self, start_s: float) -> None:
        """Start from the board as it is, also in the middle of a run: `start_s` was its start."""
        self.start_s = start_s
        passed_s = (asyncio.get_running_loop().time() - start_s) * self.time_scale
        self.version = self.kept_from = bisect_right(self.publish_s, passed_s)

    async def publish(self) -> None:
        """Change the board at the intended times, and tell whoever listens."""
        loop = asyncio.get_running_loop()
        pushes = self.scenario.transport == "websocket" or self.is_rollout
        first = self.version
        for version, t in enumerate(self.publish_s[first:], start=first + 1):
            due_s = self.start_s + t / self.time_scale
            await asyncio.sleep(max(0.0, due_s - loop.time() - (_SPIN_S if pushes else 0.0)))
            spin_s = loop.time()
            while loop.time() < due_s:
                await asyncio.sleep(0)
            self.spun_s += loop.time() - spin_s
            self.late_s.append(loop.time() - due_s)
            self.version = version
            if self.subscribers:
                self.send_buffers.send(self.subscribers, version)
                self.told.update(self.numbers.values())

    async def reset_connections(self) -> None:
        """Cut connections off when and for whom the scenario says so."""
        loop = asyncio.get_running_loop()
        for fault_event in self.resets:
            due_s = self.start_s + fault_event.t / self.time_scale
            if due_s < loop.time():
                continue  # before this server's time
            await asyncio.sleep(due_s - loop.time())
            for (number, door), link in list(self.links.items()):
                seed, replication = self.rules.seed, self.rules.replication
                if is_affected(
                    seed, replication, number, fault_event.fault, fault_event.low, fault_event.high
                ):
                    assert isinstance(link, asyncio.WriteTransport)
                    link.abort()
                    del self.links[number, door]

    async def keep_time(self, parent: Parent) -> None:
        """Tell the processor time of each bin as it ends: who is killed has told it."""
        loop = asyncio.get_running_loop()
        step_s = self.scenario.bin_s / self.time_scale
        index = max(0, int((loop.time() - self.start_s) / step_s))
        await asyncio.sleep(self.start_s - loop.time())
        before_s = time.process_time() - self.spun_s
        while True:
            index += 1
            await asyncio.sleep(max(0.0, self.start_s + index * step_s - loop.time()))
            used_s = time.process_time() - self.spun_s
            parent.send({"bin": index - 1, "busy_s": used_s - before_s})
            before_s = used_s


async def run(parent: Parent) -> None:
    """Serve until the parent says stop, or is gone.

    The first server opens its ports and waits for the start. One that is to take over (``spare``
    among its settings) is told when the run starts and when to open them.
    """
    settings = parent.receive()
    scenario: Scenario = settings["scenario"]
    board = AppServer(scenario, settings["seed"], settings["replication"], settings)
    scale = board.time_scale

    app = web.Application(client_max_size=_LARGEST_MESSAGE)
    app.router.add_get(board.spec.poll_path, board.poll)
    keep_alive_s = scenario.server.keep_alive_s / scale
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=keep_alive_s)
    await runner.setup()
    if settings["spare"]:
        parent.send({"spare": True})
        order = parent.receive()
        await asyncio.sleep(max(0.0, order["opens_s"] - asyncio.get_running_loop().time()))
        board.begin(order["start_s"])
    poll_port, push_port = settings.get("poll_port", 0), settings.get("push_port", 0)
    site = web.TCPSite(runner, "127.0.0.1", poll_port, backlog=scenario.server.backlog)
    await site.start()

    beats = scenario.heartbeat
    native = scenario.wire.envelope == "native" and beats.direction == "server"
    told: asyncio.Queue[Any] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    async with serve(
        board.push,
        "127.0.0.1",
        push_port,
        process_request=board.admit,
        origins=[Origin(f"https://{board.spec.host}"), None],
        backlog=scenario.server.backlog,
        compression=None,
        max_size=_LARGEST_MESSAGE,
        write_limit=board.send_buffers.write_limit,
        ping_interval=beats.interval_s / scale if native else None,
        ping_timeout=beats.timeout_s / scale if native else None,
        close_timeout=1.0,
        server_header=board.spec.server,
    ) as sockets:
        listener = sockets.sockets[0]
        if any(fault.kind == "bandwidth" for fault in scenario.faults):
            # Linux would hold 4 MB for a client that is slow. It doubles what it is asked for, and
            # fills half of that with what is not payload; the rest of what is held, the proxy has.
            half_bytes = scenario.server.socket_bytes // 2
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, half_bytes)
        ports = (runner.addresses[0][1], listener.getsockname()[1])
        parent.send({"poll_port": ports[0], "push_port": ports[1]})
        parent.watch(loop, told)
        if not settings["spare"]:
            start_s = await told.get()
            if start_s is None:
                return
            board.begin(start_s)
        before_s = time.process_time()
        tasks = [
            loop.create_task(board.publish()),
            loop.create_task(board.reset_connections()),
            loop.create_task(board.send_buffers.take_turns()),
            loop.create_task(board.keep_time(parent)),
        ]
        while isinstance(message := await told.get(), list):
            tasks.append(loop.create_task(board.bar(message)))
        for task in tasks:
            task.cancel()
        if message is not None:
            parent.send(
                {
                    "late_s": board.late_s,
                    "cpu_s": time.process_time() - before_s,
                    "spun_s": board.spun_s,
                    "buffered_bytes": board.send_buffers.most_bytes,
                    "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                }
            )
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(run(Parent()))
