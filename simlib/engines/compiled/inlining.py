"""How numba compiles what is only ever inlined: up to LLVM's code, and no further.

Numba makes machine code of every function that it meets, which nothing here ever calls: a third of
the time of a first compilation. Rules are optimised by themselves, once for all loops; the stages
of the loop in the loop, since each is called from one place.

Everything here but `CompilerBase` is numba's own business, and may change with its next version.
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
