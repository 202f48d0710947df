"""Numba compiles for WebAssembly: its code generator is another one; all else is as it always is.

`compile_for_pages` changes numba in this process for good. What it compiles from then on runs in a
page, not on this processor, so a process of its own does this and nothing else.

Everything used here is internal to numba, whose version is locked; tests run what comes out.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, codegen, pythonapi
from numba.core.registry import cpu_target

TRIPLE = "wasm32-unknown-unknown"
_FEATURES = "+bulk-memory,+sign-ext,+mutable-globals,+nontrapping-fptoint"
"""What all browsers have since 2023."""
_NEVER_CALLED = 1
"""The address of a function that this processor cannot call."""


class _Library(codegen.AOTCodeLibrary):
    def get_pointer_to_function(self, name: str) -> int:  # noqa: ARG002  (numba's signature)
        self._ensure_finalized()
        return _NEVER_CALLED


class _Codegen(codegen.CPUCodegen):
    _library_class = _Library

    def _init(self, llvm_module: Any) -> None:  # noqa: ARG002  (numba's signature)
        machine = llvm.Target.from_triple(TRIPLE).create_target_machine(
            opt=3, features=_FEATURES, reloc="static", codemodel="default"
        )
        self._tm, self._tm_features = machine, _FEATURES
        self._target_data = machine.target_data
        self._data_layout = str(machine.target_data)
        self._loopvect, self._opt_level = False, 0

    def _create_empty_module(self, name: str) -> Any:
        module = ir.Module(cgutils.normalize_ir_text(name))
        module.triple = TRIPLE
        if self._data_layout:
            module.data_layout = self._data_layout
        return module

    def _add_module(self, module: Any) -> None:
        """Nothing is loaded."""

    def set_env(self, name: str, env: Any) -> None:
        """Nothing is called from Python."""


def compile_for_pages() -> Any:
    """Have numba compile for pages from now on; return its context.

    It must come before anything is compiled. An error that is raised says nothing about itself: a
    page sees that there is one, and the names of this machine's files stay here.
    """
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    python: Any = pythonapi.PythonAPI
    serialize = python.serialize_object
    python.serialize_object = lambda self, _error: serialize(self, None)
    context = cpu_target.target_context
    context._internal_codegen = _Codegen("simlib.page")
    return context
