"""How numba compiles functions that are only inlined: it stops at LLVM's code.

By default numba makes machine code of every function that it compiles. Here nothing ever calls that
code, and making it takes a third of the time of a first compilation. Rules are optimised on their
own, once for all loops; stages are optimised within the loop, as each is called from one place.

Everything used here except `CompilerBase` is internal to numba, and may change with a new version.
"""

from __future__ import annotations

from typing import Any

from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering


@register_pass(mutates_CFG=True, analysis_only=False)
class _RuleLowering(NativeLowering):
    """Lowers a function to LLVM's code, optimises that, and makes no machine code of it."""

    _name = "rule_lowering"
    is_optimised = True

    def run_pass(self, state: Any) -> bool:
        name = state.func_id.func_qualname
        library = state.library = state.targetctx.codegen().create_library(name)

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
