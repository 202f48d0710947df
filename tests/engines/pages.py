"""Runs in a WebAssembly machine that is no browser: what a page does, by wasmtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import wasmtime

from simlib.engines.compiled import loop
from simlib.engines.compiled.simulation import Simulation
from simlib.engines.compiled.variants import Variant
from simlib.engines.wasm.block import WORD_BYTES
from simlib.engines.wasm.image import PAGE_BYTES, STACK_END, Image, Place, image_of, word
from simlib.engines.wasm.modules import module_of


class CannotGoOn(Exception):
    """A run needs more memory than its image has for it, or has to begin anew."""


class Page:
    """A module, for as many runs as are wanted.

    Parameters
    ----------
    copy : Variant
    """

    def __init__(self, copy: Variant) -> None:
        self._found = module_of(copy, progress=False)
        self._engine = wasmtime.Engine()
        self._module = wasmtime.Module(self._engine, self._found.code)

    def run(self, simulation: Simulation, until_s: float, slices: int) -> dict[str, Any]:
        """Return the arrays of a run's world at its end, by name."""
        running = self.begin(image_of(simulation.world, self._found.words))
        running.simulate(until_s, slices)
        return {name: running.array(place) for name, place in running.image.places.items()}

    def begin(self, image: Image) -> Running:
        """Return a run that is laid out in a memory of its own."""
        return Running(self._engine, self._module, image)


class Running:
    """A run in a memory.

    Attributes
    ----------
    image : Image
    """

    def __init__(self, engine: Any, module: Any, image: Image) -> None:
        self.image, self._store, self._steps = image, wasmtime.Store(engine), 0
        limits = wasmtime.Limits(-(-image.end // PAGE_BYTES), None)
        self._memory = wasmtime.Memory(self._store, wasmtime.MemoryType(limits))
        kind = wasmtime.GlobalType(wasmtime.ValType.i32(), mutable=True)
        stack = wasmtime.Global(self._store, kind, wasmtime.Val.i32(STACK_END))
        given = {"__linear_memory": self._memory, "__stack_pointer": stack}
        imports = [given[each.name] for each in module.imports]
        self._exports = wasmtime.Instance(self._store, module, imports).exports(self._store)
        self.write(dict(image.segments))

    def write(self, pieces: dict[int, bytes]) -> None:
        """Write what stands at some addresses."""
        for address, content in pieces.items():
            self._memory.write(self._store, content, address)

    def call(self, name: str, *given: float) -> int:
        """Call a function of the module, which is given numbers."""
        at = self.image.block + WORD_BYTES * self.image.words
        self._memory.write(self._store, b"".join(map(word, given)), at)
        assert self._exports[name](self._store, self.image.block) == 0
        return self._number(at + WORD_BYTES * len(given))

    def simulate(
        self, until_s: float, slices: int, changes: Sequence[tuple[float, float]] = ()
    ) -> None:
        """Run up to the end, in some slices, and set percentages at their times."""
        left = list(changes)
        for number in range(1, slices + 1):
            end_s = until_s * number / slices
            while left and left[0][0] < end_s:
                t, percent = left.pop(0)
                if t > 0.0:
                    self._run(t)
                while not self.call("has_room"):
                    self.make_room()
                self.call("set_percentage", percent, t)
            self._run(end_s)
        self.make_room()
        self.call("finish", until_s)

    def _run(self, until_s: float) -> None:
        while (done := self.call("run", until_s)) == loop.NEEDS_ROOM:
            self.make_room()
        if done == loop.MUST_NOT_FOLD:
            raise CannotGoOn
        assert done == loop.FINISHED

    def make_room(self) -> None:
        """Let what grows grow by a step."""
        self._steps += 1
        if self._steps > self.image.most_steps:
            raise CannotGoOn
        for address, by in self.image.steps:
            raised = self._number(address) + by
            self._memory.write(self._store, raised.to_bytes(WORD_BYTES, "little"), address)

    def array(self, place: Place) -> Any:
        """Return what stands in an array's place."""
        if 0 in place.shape:
            return np.zeros(place.shape, place.dtype)
        reach = (length - 1 for length in place.shape)
        span = sum(far * stride for far, stride in zip(reach, place.strides, strict=True))
        end = place.address + span + place.dtype.itemsize
        content = self._memory.read(self._store, place.address, end)
        return np.ndarray(place.shape, place.dtype, content, 0, place.strides)

    def _number(self, address: int) -> int:
        content = self._memory.read(self._store, address, address + WORD_BYTES)
        return int.from_bytes(content, "little", signed=True)
