"""How the rules of `core` become machine code: the place that knows numba.

The rules are plain Python: numba compiles the same functions where compiled code calls them
(`numba.extending.register_jitable`). A few functions have a second body here (an `@overload`),
because compiled code cannot execute the first one, or does in one step what takes Python many.
Tests compare each second body with the first.

Nothing that is compiled here allocates, so reference counting is switched off: it would cost more
than the rules. Functions are inlined into the loop that calls them, except those that are long and
rare, or needed in many places (`seldom`, `_CALLED_RULES`).
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from importlib import import_module
from pkgutil import iter_modules
from types import FunctionType, ModuleType
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload, register_jitable

from simlib import core
from simlib.core import client_state, connection, draws, elementary, record, server
from simlib.engines.compiled import event_list, inlining, references
from simlib.engines.compiled.inlining import CalledCompiler, RuleCompiler, StageCompiler

RULES: tuple[ModuleType, ...] = (
    *(import_module(f"{core.__name__}.{found.name}") for found in iter_modules(core.__path__)),
    event_list,
)
"""The modules that hold rules: all of `core`, so that no new one can be forgotten."""

_INLINED: Any = {
    "pipeline_class": RuleCompiler,
    "_nrt": False,
    "forceinline": True,
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
_STAGE: Any = {**_INLINED, "pipeline_class": StageCompiler}
_CALLED: Any = {**_INLINED, "pipeline_class": CalledCompiler}
_LOOP: Any = {
    "_nrt": False,
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
    "no_cfunc_wrapper": True,
}
_WORD = ir.IntType(64)
_PARTS: dict[Any, tuple[Any, Any]] = {}
"""The parts of loops, and how each is compiled: for the general loop, and for others."""
_intrinsic: Any = intrinsic  # its type hints describe calls from Python, which nobody makes


def inlined(function: Any) -> Any:
    """Mark a function as a part of loops: `loops` compiles it into each that calls it."""
    _PARTS[function] = _STAGE, _STAGE
    return function


def called(function: Any) -> Any:
    """Mark a function as a part of loops that is compiled once in each, and called, not inlined."""
    _PARTS[function] = _CALLED, _CALLED
    return function


def seldom(function: Any) -> Any:
    """Mark a function as a part of loops that the general one calls and others have inlined.

    It is for what is long and seldom happens, above all if several places need it: what LLVM takes
    for a function grows faster than its length. A call costs some nanoseconds. Loops of one
    transport have few such parts.
    """
    _PARTS[function] = _CALLED, _STAGE
    return function


def loops(
    functions: tuple[Any, ...], modules: tuple[ModuleType, ...] = (), **names: Any
) -> list[Any]:
    """Return functions compiled, with some names settled in them and in the parts they call.

    The code is kept on disk; numba looks for changes in the function's own file alone, so all
    sources are a part of its name.

    Parameters
    ----------
    functions : tuple of functions
    modules : tuple of modules
        Where the parts are that they call.
    **names
        Names of those modules, and what they stand for in these copies.
    """
    digest = digest_of(modules, **names)
    copies = settled(functions, modules, bool(names.get("GENERAL", True)), **names)
    for copy in copies:
        copy.__qualname__ = f"{copy.__name__}_{digest[:16]}"
    return [njit(**_LOOP)(copy) for copy in copies]


def digest_of(modules: tuple[ModuleType, ...], **names: Any) -> str:
    """Return a digest of all that the code of a loop is made from: its sources, and `names`."""
    digest = hashlib.sha256(repr(sorted(names.items())).encode())
    for module in (*RULES, *modules, inlining, references, sys.modules[__name__]):
        digest.update(inspect.getsource(module).encode())
    return digest.hexdigest()


def settled(
    functions: tuple[Any, ...], modules: tuple[ModuleType, ...], calls_seldom: bool, **names: Any
) -> list[FunctionType]:
    """Return copies of functions, and of the parts that they call, with some names settled.

    The optimiser drops the branches on a settled name that are not taken. What is `seldom` is
    called if `calls_seldom`, and inlined if not; what the others are, `loops` says.
    """
    spaces: dict[str, dict[str, Any]] = {
        module.__name__: {**vars(module), **names} for module in modules
    }
    copies = {}
    for function in (*_PARTS, *functions):
        space = spaces.get(function.__module__)
        if space is None and function in functions:
            space = spaces[function.__module__] = {**function.__globals__, **names}
        if space is not None:
            copies[function] = FunctionType(
                function.__code__, space, function.__name__, function.__defaults__
            )
    for space in spaces.values():
        for name, value in space.items():
            if isinstance(value, FunctionType) and value in copies:
                space[name] = copies[value]
    for function, (in_general, in_others) in _PARTS.items():
        if function in copies:
            options = in_general if calls_seldom else in_others
            register_jitable(**options)(copies[function])
    return [copies[function] for function in functions]


def is_kept(function: Any) -> bool:
    """Say whether one of `loops` is on disk, compiled for a processor like this one.

    What says so is internal to numba; where it looks otherwise inside, the answer is no.
    """
    try:
        index = function._cache._cache_file._load_index()
        here = function.targetctx.codegen().magic_tuple()
        return any(key[1] == here for key in index)
    except AttributeError:
        return False


@_intrinsic
def _bits(typing_context: Any, x: Any) -> Any:
    """The bits of a float64 as an int64."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], _WORD)

    return types.int64(types.float64), generate


@_intrinsic
def _of_bits(typing_context: Any, word: Any) -> Any:
    """The float64 whose bits an int64 holds."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), generate


@_intrinsic
def _fetch_ahead(typing_context: Any, array: Any, row: Any) -> Any:
    """Tell the processor that a row of an array will be wanted soon."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, args[0])
        pointer, number, flag = ir.IntType(8).as_pointer(), ir.IntType(64), ir.IntType(32)
        stride = builder.extract_value(view.strides, 0)
        place = builder.add(builder.ptrtoint(view.data, number), builder.mul(args[1], stride))
        kind = ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag])
        fetch = builder.module.declare_intrinsic("llvm.prefetch", (pointer,), kind)
        builder.call(fetch, [builder.inttoptr(place, pointer), flag(1), flag(3), flag(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


@_intrinsic
def _wide_product(typing_context: Any, a: Any, b: Any) -> Any:
    """High and low word of the product of two words, which most processors have in one step."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        is_wide = not builder.module.triple.startswith("wasm")
        product = (_in_one_step if is_wide else _of_halves)(builder, *args)
        return context.make_tuple(builder, signature.return_type, product)

    return types.UniTuple(types.int64, 2)(types.int64, types.int64), generate


def _in_one_step(builder: Any, a: Any, b: Any) -> tuple[Any, Any]:
    wide = ir.IntType(128)
    product = builder.mul(builder.zext(a, wide), builder.zext(b, wide))
    return builder.trunc(builder.lshr(product, wide(64)), _WORD), builder.trunc(product, _WORD)


def _of_halves(builder: Any, a: Any, b: Any) -> tuple[Any, Any]:
    half, mask = _WORD(32), _WORD(2**32 - 1)
    (a_low, a_high), (b_low, b_high) = (
        (builder.and_(word, mask), builder.lshr(word, half)) for word in (a, b)
    )
    low, high = builder.mul(a_low, b_low), builder.mul(a_high, b_high)
    crossed = builder.mul(a_low, b_high), builder.mul(a_high, b_low)
    middle = builder.lshr(low, half)
    for each in crossed:
        middle = builder.add(middle, builder.and_(each, mask))
        high = builder.add(high, builder.lshr(each, half))
    high = builder.add(high, builder.lshr(middle, half))
    return high, builder.or_(builder.and_(low, mask), builder.shl(middle, half))


@overload(client_state.refuse, jit_options=_INLINED)
def _refuse_body(client: Any, event: Any) -> Any:
    def body(client: Any, event: Any) -> Any:
        raise ValueError("a client was fed an event that its state does not know")

    return body


@overload(server.grow_backlog, jit_options=_INLINED)
def _grow_backlog_body(server: Any) -> Any:
    def body(server: Any) -> Any:
        raise ValueError("the backlog has outgrown its ring")

    return body


@overload(draws._multiply, jit_options=_INLINED)
def _multiply_body(a: Any, b: Any) -> Any:
    def body(a: Any, b: Any) -> Any:
        return _wide_product(a, (b[0] << 32) | b[1])

    return body


@overload(elementary.take_apart, jit_options=_INLINED)
def _take_apart_body(x: Any) -> Any:
    def body(x: Any) -> Any:
        # Subnormal numbers have no exponent of their own.
        is_small = x < 2.0**-1022
        word = _bits(x * 2.0**54 if is_small else x)
        exponent = (word >> 52) - (1022 + 54 if is_small else 1022)
        return _of_bits((word & (2**52 - 1)) | (1022 << 52)), exponent

    return body


@overload(elementary.power_of_two, jit_options=_INLINED)
def _power_of_two_body(k: Any) -> Any:
    def body(k: Any) -> Any:
        return _of_bits((k + 1023) << 52)

    return body


@overload(record.bucket_of, jit_options=_INLINED)
def _bucket_of_body(latency_s: Any) -> Any:
    # 128 buckets to the octave: the exponent and the first 7 bits of the mantissa.
    shift = 52 - (record.BUCKETS_PER_OCTAVE.bit_length() - 1)
    before = (1023 + record.FIRST_OCTAVE) * record.BUCKETS_PER_OCTAVE - 1
    last = record.OCTAVES * record.BUCKETS_PER_OCTAVE

    def body(latency_s: Any) -> Any:
        bucket = (_bits(latency_s) >> shift) - before
        return 0 if bucket < 1 else last if bucket > last else bucket

    return body


@overload(record.keep_row, jit_options=_INLINED)
def _keep_row_body(log: Any, row: Any) -> Any:
    names = log[0].dtype.fields

    def connection(log: Any, row: Any) -> Any:
        place = log[0][log[1][0]]
        log[1][0] += 1
        place.client, place.opened_s, place.closed_s = row[0], row[1], row[2]
        place.cause, place.transport, place.cohort, place.node = row[3], row[4], row[5], row[6]

    def exposure(log: Any, row: Any) -> Any:
        place = log[0][log[1][0]]
        log[1][0] += 1
        place.client, place.cohort, place.from_s, place.to_s = row

    def delivery(log: Any, row: Any) -> Any:
        place = log[0][log[1][0]]
        log[1][0] += 1
        place.client, place.version, place.published_s, place.applied_s = row

    def event(log: Any, row: Any) -> Any:
        place = log[0][log[1][0]]
        log[1][0] += 1
        place.t_s, place.client, place.event, place.state, place.actions = row

    if "cause" in names:
        return connection
    if "from_s" in names:
        return exposure
    return delivery if "version" in names else event


@overload(record.rows_left, jit_options=_INLINED)
def _rows_left_body(log: Any) -> Any:
    def body(log: Any) -> Any:
        return len(log[0]) - log[1][0]

    return body


def fetch_ahead(array: Any, row: int) -> None:
    """Tell the processor that a row of an array will be wanted soon."""


@overload(fetch_ahead, jit_options=_INLINED)
def _fetch_ahead_body(array: Any, row: Any) -> Any:
    def body(array: Any, row: Any) -> Any:
        _fetch_ahead(array, row)

    return body


_OWN = {
    "refuse",
    "grow_backlog",
    "_multiply",
    "take_apart",
    "power_of_two",
    "bucket_of",
    "keep_row",
    "rows_left",
}
_CALLED_RULES = {connection.transmit, connection.try_send, event_list.schedule_seldom}
for _module in RULES:
    for _name, _rule in vars(_module).items():
        is_its_own = isinstance(_rule, FunctionType) and _rule.__module__ == _module.__name__
        if is_its_own and _name not in _OWN:
            register_jitable(**(_CALLED if _rule in _CALLED_RULES else _INLINED))(_rule)
