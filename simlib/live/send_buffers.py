"""What the lab's server does for clients that do not take their pushes in time.

`core.sending` says what each policy is; here it is done to real connections. ``unbounded`` is
`websockets.broadcast`, ``block`` a loop that awaits each send. For the others a message goes out at
once as long as the connection's write buffer is empty: what is in it cannot be taken back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Collection

import websockets
from websockets.asyncio.server import ServerConnection, broadcast

from simlib.core import wire
from simlib.core.backpressure import Overflow, SendingRules, kept
from simlib.core.wire import Message, WireSpec


class SendBuffers:
    """What waits in the server's process, for all of its connections.

    Parameters
    ----------
    rules : SendingRules
    spec : WireSpec

    Attributes
    ----------
    most_bytes : dict of int to int
        The most that was held for each client, bytes; for those that were held up.
    """

    def __init__(self, rules: SendingRules, spec: WireSpec) -> None:
        self.rules = rules
        self.spec = spec
        self.push_bytes = int(wire.message_sizes(spec)[Message.PUSH, 1])
        self.numbers: dict[ServerConnection, int] = {}
        self.waiting: dict[ServerConnection, deque[int]] = {}
        self.most_bytes: dict[int, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns: asyncio.Queue[tuple[int, list[ServerConnection]]] = asyncio.Queue()

    @property
    def write_limit(self) -> int | tuple[int, int]:
        """What `websockets.serve` should take for a full write buffer, bytes."""
        if self.rules.overflow == Overflow.BLOCK:
            return self.rules.buffer_bytes, self.rules.buffer_bytes
        if self.rules.overflow in (Overflow.DROP_OLDEST, Overflow.COALESCE):
            return 0
        return 2**15

    def open(self, connection: ServerConnection, number: int) -> None:
        """A client's connection begins to listen."""
        self.numbers[connection] = number

    def close(self, connection: ServerConnection) -> None:
        """A connection has ended; what waited for it is gone."""
        self.numbers.pop(connection, None)
        self.waiting.pop(connection, None)

    def send(self, subscribers: Collection[ServerConnection], version: int) -> None:
        """Push a change to all listeners, as far as the policy lets it."""
        overflow = self.rules.overflow
        if overflow == Overflow.BLOCK:
            self._turns.put_nowait((version, list(subscribers)))
            return
        if overflow == Overflow.CLOSE:
            most = self.rules.buffer_bytes - self.push_bytes
            for connection in subscribers:
                if connection.transport.get_write_buffer_size() > most:
                    connection.transport.abort()
        elif overflow != Overflow.UNBOUNDED:
            behind = [connection for connection in subscribers if self._is_behind(connection)]
            for connection in behind:
                self._keep(connection, version)
            subscribers = set(subscribers).difference(behind)
        broadcast(subscribers, wire.push_text(self.spec, version))
        for connection in subscribers:
            self._note(connection)

    async def take_turns(self) -> None:
        """Send one broadcast after the other to one client after the other, waiting for each."""
        while True:
            version, subscribers = await self._turns.get()
            text = wire.push_text(self.spec, version)
            for connection in subscribers:
                with contextlib.suppress(websockets.ConnectionClosed):
                    await connection.send(text)
                self._note(connection)

    def _is_behind(self, connection: ServerConnection) -> bool:
        return connection in self.waiting or connection.transport.get_write_buffer_size() > 0

    def _keep(self, connection: ServerConnection, version: int) -> None:
        """Let a change wait for a connection, in place of others if they are too many."""
        waiting = self.waiting.get(connection)
        if waiting is None:
            waiting = self.waiting[connection] = deque()
            task = asyncio.get_running_loop().create_task(self._catch_up(connection, waiting))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        waiting.append(version)
        # What the transport has not got rid of counts too.
        held = -(-connection.transport.get_write_buffer_size() // self.push_bytes)
        while len(waiting) > max(1, kept(self.rules, len(waiting) + held, self.push_bytes) - held):
            waiting.popleft()
        self._note(connection)

    async def _catch_up(self, connection: ServerConnection, waiting: deque[int]) -> None:
        """Send what waits for a connection as its kernel takes it."""
        text_of = wire.push_text
        if self.rules.overflow == Overflow.COALESCE:
            text_of = wire.snapshot_text
        with contextlib.suppress(websockets.ConnectionClosed, OSError):
            await connection.drain()
            while waiting:
                await connection.send(text_of(self.spec, waiting.popleft()))
        if self.waiting.get(connection) is waiting:
            del self.waiting[connection]

    def _note(self, connection: ServerConnection) -> None:
        held = connection.transport.get_write_buffer_size()
        held += self.push_bytes * len(self.waiting.get(connection, ()))
        number = self.numbers.get(connection)
        if held and number is not None:
            self.most_bytes[number] = max(self.most_bytes.get(number, 0), held)
