"""A run laid out in the memory of a page, ready to begin.

First comes what a module has for itself: its data and its stack. Then come the world's arrays, one
after the other, and the block that says where they are (`block`). Arrays that grow while a loop
runs have the room for it after them, so that to grow is to say so in the block: what is there is 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simlib.engines.compiled.event_list import CHUNK, longer, rows_of
from simlib.engines.compiled.state import LOGS
from simlib.engines.compiled.turn import World
from simlib.engines.wasm.block import WORD_BYTES

STACK_END = 1 << 16
"""Where a module's stack begins, growing downwards; arrays begin here, growing upwards."""
PAGE_BYTES = 1 << 16
_LINE = 64
_STEPS = 7
"""So many steps an array may grow, each as long as it is at first."""
_STRETCHES = 64
"""For how many stretches of events there is room in the row of a client behind a proxy."""
_BACKLOGS = 4
"""For how many connections a client there is room in the backlog of each node."""
MOST_PERCENTAGES = 64
"""So many times a rollout may set its percentage in a page."""
_ARGUMENTS = 32
"""Words after the world's: what else a function is given, its result, an error."""


class Place(NamedTuple):
    """Where an array is in the memory: its address, and what numpy says of it."""

    address: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Step(NamedTuple):
    """By how much a number in the memory is raised when arrays grow by a step; 8 bytes long."""

    address: int
    by: int


class Image(NamedTuple):
    """A run in the memory of a page.

    `segments` are addresses, and what is written there; the rest is 0. `block` is the address of
    the block, `words` how many the world has: the numbers that a function is given come after
    them. `steps` are what is raised when a loop asks for room, `most_steps` times at most, and once
    before the end of a run is written down; `end` is where the memory ends. `places` are the
    world's arrays by name.
    """

    segments: tuple[tuple[int, bytes], ...]
    block: int
    words: int
    steps: tuple[Step, ...]
    most_steps: int
    end: int
    places: dict[str, Place]


def image_of(
    world: World, words: tuple[str, ...], beside: Mapping[str, NDArray[Any]] | None = None
) -> Image:
    """Return a run's image.

    Parameters
    ----------
    world : World
        Of a `Simulation` that has not begun, of the copy of the loop that the module is made of.
    words : tuple of str
        The names that the module has for them, in order.
    beside : mapping of str to ndarray, optional
        Other arrays, which get a place too.

    Raises
    ------
    ValueError
        If the module was made for a world of another shape.
    """
    memory, world = _Memory(), with_room(world)
    values: list[Any] = []
    places = {}
    for name, value in leaves(world):
        if isinstance(value, np.ndarray):
            place = memory.place(value, _may_grow(name))
            places[name] = place
            values += words_of_array(place)
        else:
            values.append(0 if value is None else value)
    if len(values) != len(words):
        raise ValueError(f"the module takes {len(words)} words, and the run has {len(values)}")
    for name, array in (beside or {}).items():
        places[name] = memory.place(array, may_grow=False)
    block = memory.reserve(WORD_BYTES * (len(words) + _ARGUMENTS))
    memory.segments.append((block, b"".join(map(word, values))))
    at = {name: block + WORD_BYTES * number for number, name in enumerate(words)}
    steps = tuple(_steps(world, at, places))
    return Image(tuple(memory.segments), block, len(words), steps, _STEPS, memory.end, places)


def words_of_array(place: Place) -> list[int]:
    """Return the words by which a function is given an array, see `block.words_of`."""
    items = math.prod(place.shape)
    return [0, 0, items, place.dtype.itemsize, place.address, *place.shape, *place.strides]


def with_room(world: World) -> World:
    """Lengthen at once what a page cannot lengthen, and what is short beside the clients."""
    arrays, record, clients = world.arrays, world.record, len(world.arrays.rows)
    servers, stretches = arrays.servers, arrays.stretches
    length = max(servers.accepts_s.shape[1], _BACKLOGS * clients)
    servers = servers._replace(accepts_s=np.zeros((len(servers.state), length)))
    more = rows_of((len(stretches), _STRETCHES), stretches.dtype)
    more[:, : stretches.shape[1]] = stretches
    logs = {
        log: (longer(table, max(0, clients - len(table))), filled)
        for log in LOGS
        for table, filled in [getattr(record, log)]
    }
    percents = longer(arrays.percents, MOST_PERCENTAGES)
    arrays = arrays._replace(servers=servers, stretches=more, percents=percents)
    return world._replace(arrays=arrays, record=record._replace(**logs))


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the arrays and numbers of a tuple, by their names, as `block.words_of` has them."""
    if isinstance(value, tuple):
        names = getattr(value, "_fields", range(len(value)))
        for part, each in zip(names, value, strict=True):
            yield from leaves(each, f"{name}.{part}".lstrip("."))
    else:
        yield name, value


def word(value: Any) -> bytes:
    """Return a number as a word of the block."""
    if isinstance(value, (float, np.floating)):
        return np.float64(value).tobytes()
    return int(value).to_bytes(WORD_BYTES, "little", signed=True)


def _may_grow(name: str) -> bool:
    room, _, table = name.partition(".")
    is_log = room == "record" and table.removesuffix(".0") in LOGS
    return is_log or name in ("q.pool", "q.link", "q.heap")


def _steps(world: World, at: dict[str, int], places: dict[str, Place]) -> Iterator[Step]:
    """Yield what is raised by a step: the lengths of arrays, and how many chunks are spare."""
    links = len(world.q.link)
    by_step = {"q.pool": links * CHUNK, "q.link": links, "q.heap": links * CHUNK}
    for log in LOGS:
        by_step[f"record.{log}.0"] = len(getattr(world.record, log)[0])
    for name, by in by_step.items():
        yield Step(at[f"{name}.nitems"], by)
        yield Step(at[f"{name}.shape.0"], by)
    hand = places["q.hand"]
    fields: Any = hand.dtype.fields
    yield Step(hand.address + int(fields["spare"][1]), links)


class _Memory:
    """Arrays one after the other; views of one array share its place."""

    def __init__(self) -> None:
        self.segments: list[tuple[int, bytes]] = []
        self.end = STACK_END
        self._placed: dict[int, tuple[NDArray[Any], int]] = {}

    def reserve(self, n: int, before: int = 0) -> int:
        """Take some bytes, `before` so many after the beginning of a line."""
        address = -(-self.end // _LINE) * _LINE + before
        self.end = address + n
        return address

    def place(self, array: NDArray[Any], may_grow: bool) -> Place:
        """Write an array down, or the one that it is a view of, unless that is done."""
        owner = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        start = owner.ctypes.data
        if id(owner) not in self._placed:
            room = owner.nbytes * (1 + _STEPS * may_grow)
            address = self.reserve(room, start % _LINE)
            self._placed[id(owner)] = owner, address
            written = owner.tobytes()
            if written := written.rstrip(b"\0"):
                self.segments.append((address, written))
        address = self._placed[id(owner)][1] + array.ctypes.data - start
        return Place(address, array.dtype, array.shape, array.strides)
