"""Named tuples that compiled code passes by reference.

Numba passes a tuple by value: each number, and each of the seven words of an array, is an argument
of its own. A loop's world has hundreds, which every stage and rule would hand on, and the compiler
would spend much of its time on that. So a loop keeps its world's parts in its own frame,
and hands on where they are. Attributes read the same.
"""

from __future__ import annotations

import hashlib
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    infer_getattr,
    lower_builtin,
    lower_getattr_generic,
    models,
    register_model,
    type_callable,
)


def by_reference(value: Any) -> Any:
    """Return a named tuple that has references in place of its members that are named tuples.

    It is for the outermost compiled function only, which hands it to a function that is `called`:
    what they refer to is in its frame, and nobody may change it. Interpreted code gets the tuple
    back.
    """
    return value


class Reference(types.Type):
    """Where a named tuple is."""

    def __init__(self, target: Any) -> None:
        self.target = target
        digest = hashlib.sha256(str(target).encode()).hexdigest()
        super().__init__(name=f"Reference({target.instance_class.__name__} {digest[:16]})")

    def member(self, name: str) -> tuple[int, Any]:
        """Return a member's place, and its type as code reads it."""
        place = self.target.fields.index(name)
        return place, _read_as(self.target.types[place])


def _read_as(kind: Any) -> Any:
    return Reference(kind) if isinstance(kind, types.BaseNamedTuple) else kind


@register_model(Reference)
class _ReferenceModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Reference) -> None:
        target = manager.lookup(kind.target).get_value_type()
        super().__init__(manager, kind, target.as_pointer())


@infer_getattr
class _Members(AttributeTemplate):
    key = Reference

    def generic_resolve(self, kind: Any, name: str) -> Any:  # type: ignore[override]
        return kind.member(name)[1] if name in kind.target.fields else None


@lower_getattr_generic(Reference)
def _read_member(_context: Any, builder: Any, kind: Reference, pointer: Any, name: str) -> Any:
    place, read_as = kind.member(name)
    member = cgutils.gep_inbounds(builder, pointer, 0, place)
    return member if isinstance(read_as, Reference) else _read(builder, member)


def _read(builder: Any, place: Any) -> Any:
    """Read what stays as it is while a loop runs: then LLVM need not read it again after a write.

    That must be said of each number; LLVM would forget it of a struct.
    """
    kind = place.type.pointee
    if isinstance(kind, (ir.LiteralStructType, ir.ArrayType)):
        value = ir.Constant(kind, ir.Undefined)
        for index in range(len(kind)):
            part = _read(builder, cgutils.gep_inbounds(builder, place, 0, index))
            value = builder.insert_value(value, part, index)
        return value
    value = builder.load(place)
    value.set_metadata("invariant.load", builder.module.add_metadata([]))
    return value


def _referring(target: Any) -> types.NamedTuple:
    return types.NamedTuple(map(_read_as, target.types), target.instance_class)


@type_callable(by_reference)
def _type_of_references(_context: Any) -> Any:
    def typed(value: Any) -> Any:
        return _referring(value)

    return typed


@lower_builtin(by_reference, types.BaseNamedTuple)
def _keep_in_frame(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    members = cgutils.unpack_tuple(builder, args[0])
    kept = [
        cgutils.alloca_once_value(builder, member) if isinstance(kind, Reference) else member
        for member, kind in zip(members, signature.return_type.types, strict=True)
    ]
    return context.make_tuple(builder, signature.return_type, kept)
