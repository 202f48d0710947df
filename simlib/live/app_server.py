"""The lab's server process: one board, polled over HTTP and pushed over WebSocket.

aiohttp answers polls on one port and websockets pushes on another, in one event loop over one
state, as their documentation advises. Tokens, origins and message sizes are checked as a production
server should check them. `lab` runs this module as ``python -m simlib.live.app_server``.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import resource
import socket
import time
from bisect import bisect_right
from http import HTTPStatus
from typing import Any

import websockets
from aiohttp import web
from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.http11 import Request, Response
from websockets.typing import Origin

from simlib.core import wire
from simlib.core.client import is_expired
from simlib.core.faults import FaultEffect, end_of_life_s, is_affected
from simlib.core.protocol import SOCKET_TRANSPORTS, Transport, fetches
from simlib.core.resync import Resume, resume_outcome
from simlib.core.server import admits_upgrade, new_server
from simlib.core.wire import Message
from simlib.live.clock import ScenarioClock
from simlib.live.ipc import Parent
from simlib.live.messages import (
    CLOSE_FOR_ROLLBACK,
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
from simlib.live.send_buffers import SendBuffers
from simlib.live.tokens import client_of
from simlib.scenario import compile_workload

_LARGEST_MESSAGE = 16_384
_SPIN_S = 1.5e-3  # epoll counts in milliseconds: sleep to just before, then watch the clock


class AppServer:
    """The board's state, and the handlers of the poll and the push endpoint.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self.scenario = settings.scenario
        self.spec = self.scenario.wire_spec()
        self.secret = settings.secret
        self.clock = ScenarioClock(settings.time_scale)
        workload = compile_workload(self.scenario, settings.seed, settings.replication)
        self.rules = workload.rules
        self.server_rules = workload.server
        self.admission = new_server(1)  # only its count of upgrades is used
        self.message = _change_message(settings)
        self.send_buffers = SendBuffers(workload.server.sending, self.spec, self.message)
        self.fault_events = workload.fault_events
        self.resets = [
            fault_event
            for fault_event in self.fault_events
            if fault_event.effect == FaultEffect.RESET
        ]
        self.publish_s: list[float] = workload.publish_s.tolist()
        self.session_s: list[float] = workload.start_s.tolist()
        has_sockets = self.scenario.transport in SOCKET_TRANSPORTS
        self.has_pushes = has_sockets or settings.rollout is not None
        self.version = 0
        self.kept_from = 0
        self.subscribers: set[ServerConnection] = set()
        self.numbers: dict[ServerConnection, int] = {}
        self.connections: dict[int, ServerConnection] = {}
        self.transports: dict[tuple[int, Port], asyncio.BaseTransport] = {}
        self.known: set[int] = set()  # the clients to which this process has sent a change
        self.disconnected_s: dict[int, float] = {}
        self.denied: set[int] = set()  # the clients that are no longer enrolled in a rollout
        self.closing: set[asyncio.Task[None]] = set()
        self.spun_s = 0.0
        self.late_s: list[float] = []
        self._body = (-1, b"")

    def snapshot_body(self) -> bytes:
        """Return the whole board as JSON; it is made once for each version."""
        if self._body[0] != self.version:
            self._body = (self.version, wire.poll_body(self.spec, self.version))
        return self._body[1]

    # -- polls -----------------------------------------------------------------------------

    async def handle_poll(self, request: web.Request) -> web.Response:
        """Answer one poll: 200 with the board, 304 if the client has it, 401 without token."""
        number = client_of(self.secret, request.headers.get("Authorization", ""))
        if number is None:
            return web.Response(status=401)
        if request.transport is not None:
            self.transports[number, Port.POLL] = request.transport
        headers = wire.poll_response_headers(self.spec, self.version)
        if "ETag" in headers and request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=304, headers=headers)
        body = self.snapshot_body()
        return web.Response(body=body, content_type="application/json", headers=headers)

    # -- pushes ----------------------------------------------------------------------------

    def admit(self, connection: ServerConnection, _request: Request) -> Response | None:
        """Refuse an upgrade beyond the connection cap, or the rate."""
        is_full = len(connection.server.connections) >= self.server_rules.max_connections
        if is_full or not admits_upgrade(self.admission, self.server_rules, self.clock.now_s()):
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, wire.REFUSED_TEXT)
        return None

    async def handle_push(self, connection: ServerConnection) -> None:
        """Serve one WebSocket from its upgrade to its end."""
        try:
            await self._authenticate_and_serve(connection)
        except (websockets.ConnectionClosed, TimeoutError):
            pass  # the client has gone, or has never sent its token
        finally:
            self.subscribers.discard(connection)
            number = self.numbers.pop(connection, None)
            if number is not None:
                self.disconnected_s[number] = self.clock.now_s()
                if self.connections.get(number) is connection:
                    del self.connections[number]
            self.send_buffers.remove(connection)

    async def _authenticate_and_serve(self, connection: ServerConnection) -> None:
        spec = self.spec
        hello = wire.hello_text(spec)
        if hello:
            await connection.send(hello)
        timeout_s = self.scenario.websocket.open_timeout_s / self.clock.time_scale
        token = str(await asyncio.wait_for(connection.recv(), timeout_s))
        number = client_of(self.secret, token)
        # A JWT's own expiry has whole seconds, too few for a run in scaled time.
        if number is None or is_expired(self.rules, self.session_s[number], self.clock.now_s()):
            await connection.send(wire.auth_refused_text(spec))
            return
        if number in self.denied:
            await connection.close(CLOSE_FOR_ROLLBACK)
            return
        self._subscribe(connection, number, wire.version_of(token) if spec.resumes else 0)
        ping, pong = wire.heartbeat_texts(spec)
        if ping and self.scenario.heartbeat.direction == "server":
            await self._send_heartbeats(connection, ping, pong)
        else:
            async for _ in connection:
                break  # nothing else is expected of a client
        await connection.close(1008)

    def _subscribe(self, connection: ServerConnection, number: int, seen: int) -> None:
        """Send a client what it missed, and every change from now on.

        Nothing is awaited here: a change that came in between would reach nobody.
        """
        spec = self.spec
        self.transports[number, Port.PUSH] = connection.transport
        outcome = self._resume_outcome(number, seen)
        broadcast([connection], wire.ready_text(spec, self.version, lost=outcome == Resume.LOST))
        if outcome == Resume.SNAPSHOT:
            broadcast([connection], wire.snapshot_text(spec, self.version))
        elif outcome == Resume.REPLAY:
            for version in range(seen + 1, self.version + 1):
                broadcast([connection], wire.push_text(spec, version))
        if outcome >= Resume.SNAPSHOT:
            self.known.add(number)
        self.subscribers.add(connection)
        self.numbers[connection] = number
        self.connections[number] = connection
        self.send_buffers.add(connection, number)
        seed, replication = self.rules.seed, self.rules.replication
        end_s = end_of_life_s(self.fault_events, seed, replication, number, self.clock.now_s())
        if end_s < math.inf:
            loop = asyncio.get_running_loop()
            loop.call_at(self.clock.to_clock(end_s), connection.transport.abort)

    def _resume_outcome(self, number: int, seen: int) -> int:
        """Return how a client that is let in now gets what it has missed."""
        if self.message == Message.NOTICE:
            return Resume.NOTHING + 0  # it fetches that
        now = self.clock.now_s()
        away_s = now - self.disconnected_s.get(number, now)
        has_session = number in self.known
        return resume_outcome(
            self.rules.resync, seen, self.version, self.kept_from, has_session, away_s
        )

    async def _send_heartbeats(self, connection: ServerConnection, ping: str, pong: str) -> None:
        """Send heartbeats as texts, for envelopes that have their own."""
        interval_s = self.scenario.heartbeat.interval_s / self.clock.time_scale
        timeout_s = self.scenario.heartbeat.timeout_s / self.clock.time_scale
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await connection.recv()
                return  # nothing is expected of a client between the pings
            await connection.send(ping)
            if pong and await asyncio.wait_for(connection.recv(), timeout_s) != pong:
                return

    # -- the run ---------------------------------------------------------------------------

    def begin(self, start_s: float) -> None:
        """Take the board as it is now, in a run that began at `start_s` by the clock."""
        self.clock.start_s = start_s
        self.version = self.kept_from = bisect_right(self.publish_s, self.clock.now_s())

    async def publish_changes(self) -> None:
        """Change the board at the intended times, and push each change to the subscribers."""
        loop = asyncio.get_running_loop()
        first = self.version
        for version, t in enumerate(self.publish_s[first:], start=first + 1):
            due_s = self.clock.to_clock(t)
            early_s = _SPIN_S if self.has_pushes else 0.0
            await asyncio.sleep(max(0.0, due_s - loop.time() - early_s))
            spin_s = loop.time()
            while loop.time() < due_s:
                await asyncio.sleep(0)
            self.spun_s += loop.time() - spin_s
            self.late_s.append(loop.time() - due_s)
            self.version = version
            if self.subscribers:
                self.send_buffers.send(self.subscribers, version)
                self.known.update(self.numbers.values())

    async def reset_connections(self) -> None:
        """Abort the connections that the scenario's resets affect, when they do."""
        seed, replication = self.rules.seed, self.rules.replication
        for fault_event in self.resets:
            if fault_event.t < self.clock.now_s():
                continue  # this server has taken over since
            await self.clock.sleep_until(fault_event.t)
            for (number, port), transport in list(self.transports.items()):
                if is_affected(
                    seed, replication, number, fault_event.fault, fault_event.low, fault_event.high
                ):
                    assert isinstance(transport, asyncio.WriteTransport)
                    transport.abort()
                    del self.transports[number, port]

    async def close_for_rollback(self, closes: list[tuple[int, float]]) -> None:
        """Close clients' connections, each at its time, and refuse these clients from then on."""
        for number, t in sorted(closes, key=lambda close: close[1]):
            await self.clock.sleep_until(t)
            self.denied.add(number)
            connection = self.connections.get(number)
            if connection is not None:
                self.subscribers.discard(connection)
                task = asyncio.create_task(connection.close(CLOSE_FOR_ROLLBACK))
                self.closing.add(task)
                task.add_done_callback(self.closing.discard)

    async def report_busy_time(self, parent: Parent) -> None:
        """Report the processor time of each bin as it ends, so that a killed server's is known."""
        bin_s = self.scenario.bin_s
        index = max(0, int(self.clock.now_s() / bin_s))
        await self.clock.sleep_until(0.0)
        before_s = time.process_time() - self.spun_s
        while True:
            index += 1
            await self.clock.sleep_until(index * bin_s)
            used_s = time.process_time() - self.spun_s
            parent.send(BusyTime(index - 1, used_s - before_s))
            before_s = used_s

    async def run(self, parent: Parent, inbox: asyncio.Queue[Any]) -> None:
        """Carry out the run until the lab stops it, and report."""
        before_s = time.process_time()
        jobs = [
            self.publish_changes(),
            self.reset_connections(),
            self.send_buffers.send_serially(),
            self.report_busy_time(parent),
        ]
        tasks = [asyncio.create_task(job) for job in jobs]
        while isinstance(message := await inbox.get(), CloseConnections):
            tasks.append(asyncio.create_task(self.close_for_rollback(message.closes)))
        for task in tasks:
            task.cancel()
        if message is Command.STOP:
            parent.send(
                ServerReport(
                    late_s=self.late_s,
                    cpu_s=time.process_time() - before_s,
                    spun_s=self.spun_s,
                    buffered_bytes=self.send_buffers.most_bytes,
                    peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                )
            )


async def run(parent: Parent) -> None:
    """Serve until the lab stops this process, or is gone.

    The first server opens its ports and then waits for the start. A standby is told when the run
    starts and when to open them.
    """
    settings: Settings = parent.receive()
    app = AppServer(settings)
    runner = await _poll_runner(app)
    if settings.is_standby:
        parent.send(Ready({}))
        order: TakeOver = parent.receive()
        await asyncio.sleep(max(0.0, order.opens_s - asyncio.get_running_loop().time()))
        app.begin(order.start_s)
    poll_port, backlog = settings.ports.get(Port.POLL, 0), settings.scenario.server.backlog
    await web.TCPSite(runner, "127.0.0.1", poll_port, backlog=backlog).start()
    inbox: asyncio.Queue[Any] = asyncio.Queue()
    async with _push_server(app, settings.ports.get(Port.PUSH, 0)) as server:
        listener = server.sockets[0]
        _limit_socket_buffer(app, listener)
        ports = {Port.POLL: runner.addresses[0][1], Port.PUSH: listener.getsockname()[1]}
        parent.send(Ready(ports))
        parent.watch(asyncio.get_running_loop(), inbox)
        if not settings.is_standby:
            start: Start | None = await inbox.get()
            if start is None:
                return
            app.begin(start.start_s)
        await app.run(parent, inbox)
    await runner.cleanup()


def _change_message(settings: Settings) -> Message:
    """Return as which message the subscribers of a run hear of a change: all as the same."""
    transports = {int(Transport[settings.scenario.transport.upper()])}
    if settings.rollout is not None:
        transports = set(settings.rollout.flag.transports)
    return Message.NOTICE if any(map(fetches, transports)) else Message.PUSH


async def _poll_runner(app: AppServer) -> web.AppRunner:
    """Return the HTTP server of the poll endpoint, which listens to no port yet."""
    routes = web.Application(client_max_size=_LARGEST_MESSAGE)
    routes.router.add_get(app.spec.poll_path, app.handle_poll)
    keep_alive_s = app.scenario.server.keep_alive_s / app.clock.time_scale
    runner = web.AppRunner(routes, access_log=None, keepalive_timeout=keep_alive_s)
    await runner.setup()
    return runner


def _push_server(app: AppServer, port: int) -> Server:
    """Return the WebSocket server of the push endpoint, which listens once it is entered."""
    scenario, heartbeat = app.scenario, app.scenario.heartbeat
    has_pings = scenario.wire.envelope == "native" and heartbeat.direction == "server"
    return serve(
        app.handle_push,
        "127.0.0.1",
        port,
        process_request=app.admit,
        origins=[Origin(f"https://{app.spec.host}"), None],
        backlog=scenario.server.backlog,
        compression=None,
        max_size=_LARGEST_MESSAGE,
        write_limit=app.send_buffers.write_limit,
        ping_interval=heartbeat.interval_s / app.clock.time_scale if has_pings else None,
        ping_timeout=heartbeat.timeout_s / app.clock.time_scale if has_pings else None,
        close_timeout=1.0,
        server_header=app.spec.server,
    )


def _limit_socket_buffer(app: AppServer, listener: socket.socket) -> None:
    """Give the kernel as much room for a slow client as the scenario does.

    Linux would hold 4 MB. It doubles the size that it is asked for, and fills half of that with
    what is not payload; the rest of the scenario's ``socket_bytes`` is in the proxy.
    """
    if any(fault.kind == "bandwidth" for fault in app.scenario.faults):
        half_bytes = app.scenario.server.socket_bytes // 2
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, half_bytes)


if __name__ == "__main__":
    asyncio.run(run(Parent()))
