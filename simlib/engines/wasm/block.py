"""How a page calls a loop: its arguments stand in a block of memory, a word of 8 bytes each.

Numba hands a loop each number of its arguments by itself, and each word of an array. In the block
they stand in that order. What a loop returns is in the word after them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llvmlite import ir
from numba import types

WORD_BYTES = 8
_WORD, _BYTE = ir.IntType(64), ir.IntType(8)


def words_of(kind: Any, name: str) -> Iterator[str]:
    """Yield the names of an argument's words, such as ``rules.interval_s`` of one without a name.

    An array has ``data``, which is an address, ``shape.0``, ``strides.0`` and so on.
    """
    for part, part_kind in _parts_of(kind):
        yield from words_of(part_kind, f"{name}.{part}".lstrip(".")) if part else (name,)


def _parts_of(kind: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(kind, types.BaseTuple):
        parts: Any = kind
        names = getattr(parts, "fields", map(str, range(len(parts.types))))
        yield from zip(names, parts.types, strict=True)
    elif isinstance(kind, types.Array):
        for part in ("meminfo", "parent", "nitems", "itemsize", "data"):
            yield part, types.intp
        for part in ("shape", "strides"):
            yield part, types.UniTuple(types.intp, kind.ndim)
    else:
        yield "", kind


def calling(context: Any, description: Any, name: str) -> Any:
    """Return a module with a function that calls a compiled one with the words of a block.

    Parameters
    ----------
    context : numba's
    description : of the function, numba's
    name : str
        Of the new function: it takes a block's address, and returns 0, or numba's code of an error.
    """
    module = context.create_module(f"block of {name}")
    kind = context.call_conv.get_function_type(description.restype, description.argtypes)
    callee = ir.Function(module, kind, description.llvm_func_name)
    caller = ir.Function(module, ir.FunctionType(ir.IntType(32), [_BYTE.as_pointer()]), name)
    builder = ir.IRBuilder(caller.append_basic_block())

    def word(place: int, as_kind: Any) -> Any:
        at = builder.gep(caller.args[0], [ir.IntType(32)(WORD_BYTES * place)])
        return builder.bitcast(at, as_kind.as_pointer())

    result, error, *given = kind.args
    places = [word(len(given) + k, each.pointee) for k, each in enumerate((result, error))]
    values = [builder.load(word(place, each)) for place, each in enumerate(given)]
    builder.ret(builder.call(callee, [*places, *values]))
    return module
