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
from numba.core.typed_passes import NativeLowering

_USED = ("_finalize_final_module", "_finalize_dynamic_globals", "_optimize_final_module")
"""What a library of code must have, so that it can end earlier than numba has it."""


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
        if not self.is_optimised:
            library._optimize_final_module = lambda: None
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
            (self.lowering if one is NativeLowering else one, text) for one, text in pipeline.passes
        ]
        pipeline.finalize()
        return [pipeline]


class StageCompiler(RuleCompiler):
    """The same, and not optimised either."""

    lowering = _StageLowering


class CalledCompiler(RuleCompiler):
    """The same for what is called in the loop, not inlined into it."""

    lowering = _CalledLowering
