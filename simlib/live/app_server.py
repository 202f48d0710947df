"""The lab's server process, one for each node: a board, polled over HTTP and pushed over WebSocket.

aiohttp answers polls, and requests for streams, on one port and websockets pushes on another, in
one event loop over one state, as their documentation advises. Tokens, origins, paths and sizes are
checked as a production server should check them; `admission` limits rates, and `guards` what one
connection may cost. `lab` runs this module as ``python -m simlib.live.app_server``.

A server alone changes its board by itself. Of several nodes, each hears of a change from the
broker (`nodes`), and pushes it `hop_s` after it was made. SIGTERM ends the process at once: its
connections are cut without a closing handshake, and what it has measured is told before.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import os
import resource
import signal
import socket
import time
from bisect import bisect_right
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from http import HTTPStatus
from typing import Any

import numpy as np
import websockets
from aiohttp import web
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.typing import Origin

from simlib.core import wire
from simlib.core.answers import has_copy, keep
from simlib.core.broker import heard_s
from simlib.core.client import is_expired
from simlib.core.faults import FaultEffect, end_of_life_s, is_affected
from simlib.core.protocol import (
    Transport,
    fetches,
    has_socket,
    holds,
    is_stream,
)
from simlib.core.resync import Resume, resume_outcome
from simlib.core.server import ServerState, admits_upgrade
from simlib.core.streams import sent_as
from simlib.core.wire import Message
from simlib.live.admission import Admission, limits_of
from simlib.live.clock import ScenarioClock
from simlib.live.guards import (
    ACCEPTS_AT_ONCE,
    CLOSE_S,
    GuardedConnection,
    PollGuard,
    address_of,
    give_up_stalled,
    listening_socket,
)
from simlib.live.ipc import Parent
from simlib.live.messages import (
    CLOSE_FOR_ROLLBACK,
    BusyTime,
    Change,
    CloseConnections,
    Port,
    Ready,
    ServerReport,
    Settings,
    Start,
    TakeOver,
)
from simlib.live.send_buffers import SendBuffers
from simlib.live.streams import StreamConnection, Subscriber, tell, text_spec
from simlib.live.tokens import TokenCheck
from simlib.scenario import Workload, compile_workload, fault_windows

_LARGEST_MESSAGE = 16_384
_LONGEST_FIELD = 4096  # of a poll's head, beside a token
_MOST_FIELDS = 64
_OTHER_FILES = 100  # descriptors for what are no connections
_Waiter = asyncio.Future[int]
"""A request that is held: it is answered with the version that is set here."""
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
        self.clock = ScenarioClock(settings.time_scale)
        workload = compile_workload(self.scenario, settings.seed, settings.replication)
        self.rules = workload.rules
        self.server_rules = workload.server
        if settings.rollout is not None:
            flag = settings.rollout.flag
            drops_copy = any(has_socket(each) or holds(each) for each in flag.transports)
            self.server_rules = workload.server._replace(drops_copy=drops_copy)
        self.upgrades = ServerState()  # only its count of upgrades is used
        self.check = TokenCheck(settings.secret, self.spec, len(workload.start_s))
        self.message = _change_message(settings)
        self.admission = _admission(settings, workload)
        self.push_path = wire.upgrade_request(self.spec, "").split(b" ")[1].decode()
        streams = [each for each in _transports(settings) if is_stream(each)]
        self.by_stream = bool(streams)
        transport = streams[0] if streams else int(Transport.WEBSOCKET)
        self.text_spec = text_spec(self.spec, self.by_stream)
        sending, message = workload.server.sending, Message(sent_as(transport, self.message))
        self.send_buffers = SendBuffers(sending, self.text_spec, message)
        self.fault_events = workload.fault_events
        self.resets = [
            fault_event
            for fault_event in self.fault_events
            if fault_event.effect == FaultEffect.RESET
        ]
        self.publish_s: list[float] = workload.publish_s.tolist()
        self.heard_s = heard_s(workload.server, self.publish_s)
        self.session_s: list[float] = workload.start_s.tolist()
        is_told = any(has_socket(each) or holds(each) for each in _transports(settings))
        self.has_pushes = is_told or settings.rollout is not None
        self.held: dict[_Waiter, int] = {}  # requests, with the versions that they name
        self.hold_s = workload.rules.hold_s / settings.time_scale
        self.has_broker = self.scenario.server.nodes > 1
        self.heard: asyncio.Queue[int] = asyncio.Queue()  # the changes that the broker tells of
        self.emulates_sends = settings.emulates_sends
        self.broadcasts: asyncio.Queue[tuple[int, list[Subscriber | _Waiter]]] = asyncio.Queue()
        self.version = 0
        self.kept_from = 0
        self.subscribers: set[Subscriber] = set()
        self.numbers: dict[Subscriber, int] = {}
        self.connections: dict[int, Subscriber] = {}
        self.streams: dict[asyncio.BaseTransport, StreamConnection] = {}
        self.transports: dict[tuple[int, Port], asyncio.BaseTransport] = {}
        self.known: set[int] = set()  # the clients to which this process has sent a change
        self.disconnected_s: dict[int, float] = {}
        self.denied: set[int] = set()  # the clients that are no longer enrolled in a rollout
        self.closing: set[asyncio.Task[None]] = set()
        self.used_s = time.process_time()  # before the run
        self.spun_s = 0.0
        self.late_s: list[float] = []
        self._body = (-1, b"")
        self.copy = ServerState()  # only what it says of the copy for polls is used

    @property
    def board_version(self) -> int:
        """The number of changes so far. All nodes read one board: polls see a change at once."""
        if self.has_broker:
            return bisect_right(self.publish_s, self.clock.now_s())
        return self.version

    def shown_version(self) -> int:
        """Return up to which change a poll is shown the board now: of the copy, if there is one."""
        rules, now = self.server_rules, self.clock.now_s()
        if has_copy(rules, self.copy, self.heard_s, now):
            return self.copy.copy_version
        version = self.board_version
        keep(rules, self.copy, version, now)
        return version

    def snapshot_body(self, version: int) -> bytes:
        """Return the whole board as JSON; it is made once for each version."""
        if self._body[0] != version:
            self._body = (version, wire.poll_body(self.spec, version))
        return self._body[1]

    # -- polls -----------------------------------------------------------------------------

    async def handle_poll(self, request: web.Request) -> web.Response:
        """Answer one poll: 200 with the board, 304 if the client has it, 401 without token.

        Who asks too often is told when to come again (429), and has to open another connection.
        """
        number = self._client_of(request)
        if number is None:
            return self._failure(request, HTTPStatus.UNAUTHORIZED)
        now = asyncio.get_running_loop().time()
        if not self.admission.admits(number, now):
            return _too_many(self.admission.wait_s(number, now))
        if request.transport is not None:
            self.transports[number, Port.POLL] = request.transport
        if "since" in request.query:
            return await self.hold(request.query["since"])
        version = self.shown_version()
        headers = wire.poll_response_headers(self.spec, version)
        if "ETag" in headers and request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=304, headers=headers)
        body = self.snapshot_body(version)
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def hold(self, since: str) -> web.Response:
        """Answer a request when there is more than the version that it names: 200, or 204: nothing.

        It is answered 400 if it names none, and 503 at the connection cap.
        """
        if not (len(since) == wire.VERSION_DIGITS and since.isascii() and since.isdigit()):
            return web.Response(status=HTTPStatus.BAD_REQUEST)
        seen, version = int(since), self.version
        if version <= seen:
            if len(self.held) + len(self.connections) >= self.server_rules.max_connections:
                headers = wire.poll_response_headers(self.spec)
                return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, headers=headers)
            version = await self._next_version(seen)
        if version == seen:
            return web.Response(status=204, headers=wire.held_reply_headers(self.spec, 0))
        body = self.snapshot_body(version)
        if self.spec.push == "delta":
            body = wire.changes_body(self.spec, seen, version)
        headers = wire.held_reply_headers(self.spec, len(body))
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def _next_version(self, seen: int) -> int:
        """Wait for the next change, whose number is returned; `seen` if none comes in time."""
        loop = asyncio.get_running_loop()
        waiter: _Waiter = loop.create_future()
        self.held[waiter] = seen
        timer = loop.call_later(self.hold_s, self._let_go, waiter, seen)
        try:
            return await waiter
        finally:
            timer.cancel()
            self.held.pop(waiter, None)

    def _let_go(self, waiter: _Waiter, version: int) -> None:
        """Let a request that is held be answered."""
        if not waiter.done():
            waiter.set_result(version)

    def _take_held(self, version: int) -> list[_Waiter]:
        """Return the requests that a change answers, in the order of holding: held no longer."""
        waiters = [waiter for waiter, seen in self.held.items() if version > seen]
        for waiter in waiters:
            del self.held[waiter]
        return waiters

    def tell_held(self, version: int) -> None:
        """Let the requests be answered that are held until a change."""
        for waiter in self._take_held(version):
            self._let_go(waiter, version)

    async def handle_other(self, request: web.Request) -> web.Response:
        """Answer a request that is none for the board: 405 on its path, else 404."""
        is_poll_path = request.rel_url.raw_path == self.spec.poll_path
        status = HTTPStatus.METHOD_NOT_ALLOWED if is_poll_path else HTTPStatus.NOT_FOUND
        return self._failure(request, status)

    def _client_of(self, request: web.Request) -> int | None:
        """Return the client whose valid token a request carries, in its one Authorization field."""
        values = request.headers.getall("Authorization", [])
        return self.check.of_header(values[0]) if len(values) == 1 else None

    def _failure(self, request: web.Request, status: HTTPStatus) -> web.Response:
        """Answer a request that cannot be put down to a user."""
        address, now = address_of(request.transport), asyncio.get_running_loop().time()
        if not self.admission.bears_failure(address, now):
            return _too_many(self.admission.failures.wait_s(address, now))
        return web.Response(status=status)

    # -- streams ---------------------------------------------------------------------------

    async def handle_stream(self, request: web.Request) -> web.StreamResponse:
        """Serve one stream of server-sent events from its request to its end."""
        cookies = request.headers.getall("Cookie", [])
        number = self.check.of_cookies(cookies[0]) if len(cookies) == 1 else None
        seen = self._seen_by(request)
        if number is None or seen is None:
            return self._failure(request, HTTPStatus.UNAUTHORIZED)
        now = asyncio.get_running_loop().time()
        if not self.admission.admits(number, now):
            return _too_many(self.admission.wait_s(number, now))
        headers, rules = {"Server": self.spec.server}, self.server_rules
        is_full = len(self.streams) >= rules.max_connections
        if is_full or not admits_upgrade(self.upgrades, rules, self.clock.now_s()):
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, headers=headers)
        if is_expired(self.rules, self.session_s[number], self.clock.now_s()):
            return web.Response(status=HTTPStatus.UNAUTHORIZED, headers=headers)
        response = web.StreamResponse(headers=wire.stream_response_headers(self.spec))
        transport = request.transport
        if transport is None or not self.admission.takes_socket(number):
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, headers=headers)
        stream = self.streams[transport] = StreamConnection(transport)
        try:
            await response.prepare(request)
            self._subscribe(stream, number, seen)
            heartbeat, scale = self.scenario.heartbeat, self.clock.time_scale
            has_comments = heartbeat.direction == "server"
            await stream.write_comments(heartbeat.interval_s / scale if has_comments else math.inf)
        finally:
            self.streams.pop(transport, None)
            if stream not in self.numbers:
                self.admission.gives_back_socket(number)  # it has gone before it subscribed
            self._forget(stream)
        return response

    def _seen_by(self, request: web.Request) -> int | None:
        """Return what the client of a stream has seen: its last event, or what its page had."""
        said = request.headers.get("Last-Event-ID") or request.query.get("seen") or "0"
        is_version = said.isascii() and said.isdigit() and len(said) <= wire.VERSION_DIGITS
        return int(said) if is_version else None

    def end_stream(self, transport: asyncio.BaseTransport) -> None:
        """A connection to the poll port has ended: so has the stream on it, if there is one."""
        stream = self.streams.get(transport)
        if stream is not None:
            stream.has_ended.set()

    # -- pushes ----------------------------------------------------------------------------

    def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse an upgrade elsewhere, without one Host, beyond the connection cap, or the rate.

        Where clients have streams, no WebSocket is let in: all subscribers are of one kind.
        """
        if request.path != self.push_path or self.by_stream:
            return connection.respond(HTTPStatus.NOT_FOUND, "Not Found\n")
        if len(request.headers.get_all("Host")) != 1:
            return connection.respond(HTTPStatus.BAD_REQUEST, "Bad Request\n")
        server, most = connection.server, self.server_rules.max_connections
        # `connections` is made anew at each call: it is asked for only where it can be too many.
        is_full = len(server.all_connections) >= most and len(server.connections) >= most
        if is_full or not admits_upgrade(self.upgrades, self.server_rules, self.clock.now_s()):
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, wire.REFUSED_TEXT)
        return None

    def limit_failures(
        self, connection: ServerConnection, _request: Request, response: Response
    ) -> Response | None:
        """Tell an address whose upgrades fail too often when to come again."""
        is_admitted = response.status_code == HTTPStatus.SWITCHING_PROTOCOLS
        if is_admitted or response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            return None
        address, now = address_of(connection.transport), asyncio.get_running_loop().time()
        if self.admission.bears_failure(address, now):
            return None
        refusal = connection.respond(HTTPStatus.TOO_MANY_REQUESTS, "Too Many Requests\n")
        wait_s = self.admission.failures.wait_s(address, now)
        refusal.headers["Retry-After"] = str(math.ceil(wait_s))
        return refusal

    async def handle_push(self, connection: ServerConnection) -> None:
        """Serve one WebSocket from its upgrade to its end."""
        try:
            await self._authenticate_and_serve(connection)
        except (websockets.ConnectionClosed, TimeoutError):
            pass  # the client has gone, or has never sent its token
        finally:
            self._forget(connection)

    def _forget(self, connection: Subscriber) -> None:
        """A connection has ended: nothing is pushed on it any more."""
        self.subscribers.discard(connection)
        number = self.numbers.pop(connection, None)
        if number is not None:
            self.admission.gives_back_socket(number)
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
        message = await asyncio.wait_for(connection.recv(), timeout_s)
        identity = self.check.of_message(message)
        now = asyncio.get_running_loop().time()
        if identity is None:
            address = address_of(connection.transport)
            if self.admission.bears_failure(address, now):
                await connection.send(wire.auth_refused_text(spec))
            else:
                await connection.close(CloseCode.POLICY_VIOLATION)
            return
        number, seen = identity
        if not self.admission.admits(number, now):
            await connection.close(CloseCode.POLICY_VIOLATION)
            return
        # A JWT's own expiry has whole seconds, too few for a run in scaled time.
        if is_expired(self.rules, self.session_s[number], self.clock.now_s()):
            await connection.send(wire.auth_refused_text(spec))
            return
        if number in self.denied:
            await connection.close(CLOSE_FOR_ROLLBACK)
            return
        if not self.admission.takes_socket(number):
            await connection.close(CloseCode.POLICY_VIOLATION)
            return
        self._subscribe(connection, number, seen)
        await self._await_end(connection)

    async def _await_end(self, connection: ServerConnection) -> None:
        """Send heartbeats, if they are texts; close if the client sends what is not expected."""
        spec = self.spec
        ping, pong = wire.heartbeat_texts(spec)
        if ping and self.scenario.heartbeat.direction == "server":
            await self._send_heartbeats(connection, ping, pong)
        else:
            async for _ in connection:
                break  # nothing else is expected of a client
        await connection.close(CloseCode.POLICY_VIOLATION)

    def _subscribe(self, connection: Subscriber, number: int, seen: int) -> None:
        """Send a client what it missed, and every change from now on.

        Nothing is awaited here: a change that came in between would reach nobody.
        """
        spec, latest = self.text_spec, self.version
        self.numbers[connection] = number  # with it, what the client has taken is given back
        self.transports[number, Port.PUSH] = connection.transport
        outcome = self._resume_outcome(number, seen)
        # The id of a stream's first event is what the client has with it.
        has = latest if outcome < Resume.SNAPSHOT else seen
        tell([connection], wire.ready_text(spec, latest, lost=outcome == Resume.LOST), has)
        if outcome == Resume.SNAPSHOT:
            tell([connection], wire.snapshot_text(spec, latest), latest)
        elif outcome == Resume.REPLAY:
            for version in range(seen + 1, latest + 1):
                tell([connection], wire.push_text(spec, version), version)
        if outcome >= Resume.SNAPSHOT:
            self.known.add(number)
        self.subscribers.add(connection)
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

    def begin(self, start_s: float, serves_s: float = -math.inf) -> None:
        """Take the board as it is now, in a run that began at `start_s` by the clock.

        Changes are kept from when it has clients, at `serves_s` of the scenario or now.
        """
        self.clock.start_s = start_s
        now_s = self.clock.now_s()
        self.version = bisect_right(self.heard_s, now_s)
        self.kept_from = bisect_right(self.heard_s, max(now_s, serves_s))

    async def publish_changes(self) -> None:
        """Change the board at the intended times, and push each change to the subscribers."""
        loop = asyncio.get_running_loop()
        async for version in self._next_changes():
            due_s = self.clock.to_clock(self.heard_s[version - 1])
            early_s = _SPIN_S if self.has_pushes else 0.0
            await asyncio.sleep(max(0.0, due_s - loop.time() - early_s))
            spin_s = loop.time()
            while loop.time() < due_s:
                await asyncio.sleep(0)
            self.spun_s += loop.time() - spin_s
            self.late_s.append(loop.time() - due_s)
            self.version = version
            if self.emulates_sends:
                in_order = [one for one in self.numbers if one in self.subscribers]
                self.broadcasts.put_nowait((version, [*in_order, *self._take_held(version)]))
                continue
            self.tell_held(version)
            if self.subscribers:
                self.send_buffers.send(self.subscribers, version)
                self.known.update(self.numbers.values())

    async def _next_changes(self) -> AsyncIterator[int]:
        """Yield the coming changes in order; where there is a broker, each when it tells of it."""
        heard = self.version
        for version in range(self.version + 1, len(self.publish_s) + 1):
            while self.has_broker and heard < version:
                heard = max(heard, await self.heard.get())
            yield version

    async def emulate_broadcasts(self) -> None:
        """Send each broadcast to one client after the other, as slowly as the scenario says.

        The order is that of subscribing, or of holding, as in the simulation, and a broadcast waits
        for the one before it. Nothing else waits for a broadcast.
        """
        rules, free_s = self.server_rules, 0.0
        while True:
            version, listeners = await self.broadcasts.get()
            if not listeners:
                continue
            due_s = self.heard_s[version - 1]
            start_s = max(free_s, due_s) + rules.fan_out_s
            for place, listener in enumerate(listeners, start=1):
                free_s = start_s + place * rules.send_s
                await self.clock.sleep_until(free_s)
                if isinstance(listener, asyncio.Future):
                    self._let_go(listener, version)
                elif listener in self.subscribers:
                    self.send_buffers.send([listener], version)
                    self.known.add(self.numbers[listener])

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
            if isinstance(connection, ServerConnection):
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
        self.used_s = time.process_time()
        jobs = [
            self.publish_changes(),
            self.reset_connections(),
            self.send_buffers.send_serially(),
            self.emulate_broadcasts(),
            self.report_busy_time(parent),
        ]
        tasks = [asyncio.create_task(job) for job in jobs]
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.end_at_once, parent)
        while isinstance(message := await inbox.get(), CloseConnections | Change):
            if isinstance(message, Change):
                self.heard.put_nowait(message.version)
            else:
                tasks.append(asyncio.create_task(self.close_for_rollback(message.closes)))
        for task in tasks:
            task.cancel()
        parent.send(self.report())

    def end_at_once(self, parent: Parent) -> None:
        """Report and end; the kernel ends the connections, behind what it was given to send."""
        parent.send(self.report())
        os._exit(0)

    def report(self) -> ServerReport:
        """Return what this server has measured."""
        return ServerReport(
            late_s=self.late_s,
            cpu_s=time.process_time() - self.used_s,
            spun_s=self.spun_s,
            buffered_bytes=self.send_buffers.most_bytes,
            peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            refused=dict(self.admission.refused),
        )


async def run(parent: Parent) -> None:
    """Serve until the lab stops this process, or is gone.

    The first server opens its ports and then waits for the start. A standby is told when the run
    starts and when to open them.
    """
    settings: Settings = parent.receive()
    inbox: asyncio.Queue[Any] = asyncio.Queue()
    parent.watch(asyncio.get_running_loop(), inbox)
    app = AppServer(settings)
    if settings.is_standby:
        parent.send(Ready({}))
        order: TakeOver = await inbox.get()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(order.opens_s):
                while isinstance(message := await inbox.get(), Change):
                    app.heard.put_nowait(message.version)
            parent.send(app.report())  # the run is over before this server's turn
            return
        app.begin(order.start_s, order.serves_s)
    async with AsyncExitStack() as stack:
        ports = await _serve(app, settings.ports, stack)
        gc.freeze()  # what is there to stay is not looked through again and again
        parent.send(Ready(ports))
        if not settings.is_standby:
            start: Start = await inbox.get()
            app.begin(start.start_s)
        await app.run(parent, inbox)


def _admission(settings: Settings, workload: Workload) -> Admission:
    """Return the limits of a scenario's users and addresses, not yet used."""
    scenario, scale = settings.scenario, settings.time_scale
    rollout = settings.rollout
    waits_s = [activity.every_s / 2.0 for activity in (scenario.drag, scenario.hidden) if activity]
    asks = any(fetches(each) or holds(each) for each in _transports(settings))
    if asks and len(workload.publish_s):
        # The most changes that clients are told of in one second of the clock, and ask again.
        ends = np.searchsorted(workload.publish_s, workload.publish_s + scale, side="right")
        waits_s.append(scale / int((ends - np.arange(len(ends))).max()))
    limits = limits_of(
        [workload.rules, *(rollout.cohort_rules if rollout is not None else ())],
        clients=len(workload.start_s),
        other_waits_s=waits_s,
        path_losses=len(fault_windows(scenario, ["path_loss"])),
        time_scale=scale,
        tabs_per_user=scenario.tabs_per_user,
    )
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = math.inf if descriptors == resource.RLIM_INFINITY else descriptors - _OTHER_FILES
    return Admission(limits, most)


def _too_many(wait_s: float) -> web.Response:
    """Return the answer to who asks too often."""
    headers = {"Retry-After": str(math.ceil(wait_s))}
    response = web.Response(status=HTTPStatus.TOO_MANY_REQUESTS, headers=headers)
    response.force_close()
    return response


def _change_message(settings: Settings) -> Message:
    """Return as which message the subscribers of a run hear of a change: all as the same."""
    return Message.NOTICE if any(map(fetches, _transports(settings))) else Message.PUSH


def _transports(settings: Settings) -> set[int]:
    """Return the transports of a run's clients."""
    if settings.rollout is not None:
        return set(settings.rollout.flag.transports)
    return {int(Transport[settings.scenario.transport.upper()])}


async def _serve(app: AppServer, ports: dict[Port, int], stack: AsyncExitStack) -> dict[Port, int]:
    """Open the ports of both endpoints until the stack is closed, and return them."""
    scenario = app.scenario
    sockets = {port: stack.enter_context(listening_socket(ports.get(port, 0))) for port in Port}
    _limit_socket_buffer(app, sockets[Port.POLL if app.by_stream else Port.PUSH])
    rates = [fault.bytes_per_s for fault in scenario.faults if fault.bytes_per_s is not None]
    slowest = min(rates, default=math.inf) * app.clock.time_scale
    give_up_stalled(sockets[Port.POLL], slowest)
    runner = await _poll_runner(app)
    stack.push_async_callback(runner.cleanup)
    new_protocol = runner.server
    assert new_protocol is not None
    polls = await asyncio.get_running_loop().create_server(
        lambda: PollGuard(app.admission, new_protocol, app.end_stream),
        sock=sockets[Port.POLL],
        backlog=ACCEPTS_AT_ONCE,
    )
    stack.callback(polls.close)
    await stack.enter_async_context(_push_server(app, sockets[Port.PUSH]))
    for listener in sockets.values():
        listener.listen(scenario.server.backlog)  # asyncio accepts as many at once as it was told
    return {port: listener.getsockname()[1] for port, listener in sockets.items()}


async def _poll_runner(app: AppServer) -> web.AppRunner:
    """Return the HTTP server of the poll endpoint, which listens to no port yet."""
    routes = web.Application(client_max_size=_LARGEST_MESSAGE)
    routes.router.add_get(app.spec.poll_path, app.handle_poll)
    if app.by_stream:
        routes.router.add_get(app.spec.stream_path, app.handle_stream)
    routes.router.add_route("*", "/{path:.*}", app.handle_other)
    runner = web.AppRunner(
        routes,
        access_log=None,
        keepalive_timeout=app.scenario.server.keep_alive_s / app.clock.time_scale,
        handler_cancellation=True,  # a request whose client has gone is held no longer
        max_headers=_MOST_FIELDS,
        max_field_size=_LONGEST_FIELD + app.spec.token_bytes,
        shutdown_timeout=CLOSE_S,
    )
    await runner.setup()
    return runner


def _push_server(app: AppServer, listener: socket.socket) -> Server:
    """Return the WebSocket server of the push endpoint, which listens once it is entered."""
    scenario, heartbeat = app.scenario, app.scenario.heartbeat
    has_pings = scenario.wire.envelope == "native" and heartbeat.direction == "server"
    return serve(
        app.handle_push,
        sock=listener,
        process_request=app.admit,
        process_response=app.limit_failures,
        origins=[Origin(f"https://{app.spec.host}"), None],
        backlog=ACCEPTS_AT_ONCE,
        compression=None,
        max_size=_LARGEST_MESSAGE,
        write_limit=app.send_buffers.write_limit,
        ping_interval=heartbeat.interval_s / app.clock.time_scale if has_pings else None,
        ping_timeout=heartbeat.timeout_s / app.clock.time_scale if has_pings else None,
        close_timeout=CLOSE_S,
        server_header=app.spec.server,
        create_connection=partial(GuardedConnection, admission=app.admission),  # type: ignore[arg-type]
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
