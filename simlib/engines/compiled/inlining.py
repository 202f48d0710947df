"""How numba compiles the parts of loops: it stops at LLVM's code.

By default numba makes machine code of every function that it compiles. Here nothing ever calls that
code, as a loop has its parts inlined, or a copy of its own that it calls, and making it takes a
third of the time of a first compilation. Rules are optimised on their own, once for all loops;
stages and parts that are called are optimised within the loop.

Everything used here except `CompilerBase` is internal to numba, and may change with a new version.
Where numba's inside looks otherwise, functions are compiled as numba does it: that takes longer,
and gives the same.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower
from numba.core.typed_passes import InlineOverloads, NativeLowering, NopythonRewrites
from numba.core.untyped_passes import InlineClosureLikes, WithLifting

_USED = (
    "_finalize_final_module",
    "_finalize_dynamic_globals",
    "_optimize_final_module",
    "_optimize_functions",
    "_final_module",
)
"""What a library of code must have, so that it can end earlier than numba has it."""
_OF_NO_USE = (WithLifting, InlineClosureLikes, InlineOverloads, NopythonRewrites)
"""Passes over a function for what parts do not have: `with`, comprehensions, and arithmetic on
whole arrays; LLVM does what is inlined."""


_LONGEST = 200
"""Up to how many blocks of LLVM's code a rule is optimised on its own. Longer ones are made of
such, and stand in one place or two: to optimise them at each rule on the way would be for nothing,
and what has grown by it is worse to begin with."""


def _blocks_of(library: Any) -> int:
    return sum(1 for function in library._final_module.functions for _ in function.blocks)


@register_pass(mutates_CFG=True, analysis_only=False)
class _RuleLowering(NativeLowering):
    """Lowers a function to LLVM's code, optimises that, and makes no machine code of it."""

    _name = "rule_lowering"
    is_optimised = True

    def run_pass(self, state: Any) -> bool:
        name = state.func_id.func_qualname
        library = state.targetctx.codegen().create_library(name)
        if not all(hasattr(library, used) for used in _USED):
            return bool(super().run_pass(state))
        state.library = library

        def finalize() -> None:
            library._finalize_dynamic_globals()
            library._finalized = True

        library._finalize_final_module = finalize
        if self.is_optimised:
            # Function by function first, as numba has it, would be twice.
            layout = state.targetctx.codegen()._data_layout
            library._optimize_functions = lambda module: setattr(module, "data_layout", layout)
        optimise = library._optimize_final_module

        def optimise_if_short() -> None:
            if self.is_optimised and _blocks_of(library) <= _LONGEST:
                optimise()

        library._optimize_final_module = optimise_if_short
        state.flags.no_compile = True
        super().run_pass(state)
        # Numba finds a function by its callable: each gets one of its own, which is never called.
        callable_: Any = [].append
        state.targetctx.insert_user_function(callable_, state["cr"].fndesc, [library])
        state["cr"] = state["cr"]._replace(cfunc=callable_)
        return True


@register_pass(mutates_CFG=True, analysis_only=False)
class _StageLowering(_RuleLowering):
    _name = "stage_lowering"
    is_optimised = False


class _CalledLower(Lower):
    def extract_function_arguments(self) -> Any:
        # What is in a frame may be read at any time (`references`), so it has to be there before.
        self.function.attributes.add("noinline")
        for argument in self.call_conv.get_arguments(self.function):
            kind = argument.type
            if isinstance(kind, ir.PointerType) and isinstance(kind.pointee, ir.LiteralStructType):
                size = self.context.get_abi_sizeof(kind.pointee)
                argument.attributes.dereferenceable = size
                argument.attributes.align = 8
                argument.add_attribute("noalias")
        return super().extract_function_arguments()


@register_pass(mutates_CFG=True, analysis_only=False)
class _CalledLowering(_StageLowering):
    _name = "called_lowering"
    lowering_class = _CalledLower

    def run_pass(self, state: Any) -> bool:
        # Not sooner: numba compiles what a function calls anew for each set of the caller's flags.
        state.flags.forceinline = False
        return super().run_pass(state)


class RuleCompiler(CompilerBase):
    """Numba's own pipeline, without machine code at its end."""

    lowering: Any = _RuleLowering

    def define_pipelines(self) -> list[Any]:
        """Return the one pipeline that there is."""
        pipeline = DefaultPassBuilder.define_nopython_pipeline(self.state)
        pipeline.passes = [
            (self.lowering if one is NativeLowering else one, text)
            for one, text in pipeline.passes
            if one not in _OF_NO_USE
        ]
        pipeline.finalize()
        return [pipeline]


class StageCompiler(RuleCompiler):
    """The same, and not optimised either."""

    lowering = _StageLowering


class CalledCompiler(RuleCompiler):
    """The same for what is called in the loop, not inlined into it."""

    lowering = _CalledLowering
