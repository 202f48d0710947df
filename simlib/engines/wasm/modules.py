"""Loops as WebAssembly modules: made by a process of its own, once, and kept beside compiled code.

``python -m simlib.engines.wasm`` makes those of all copies of the loop. A module imports its memory
(``env.__linear_memory``) and the address of its stack's end (``env.__stack_pointer``). It exports
``run``, ``finish``, ``lay_out``, ``tally`` and, of the general copy, ``set_percentage`` and
``has_room``: each takes the address of a block
(see `block`) and returns 0, or another number after an error. All blocks begin with the words of
the run's world; their names stand in the module itself, in a custom section. A number or two
follow, as the functions have them.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np

from simlib.engines.compiled import simulation
from simlib.engines.compiled.compiling import FUNCTIONS, alone, compiling_bar
from simlib.engines.compiled.numba_support import digest_of, settled
from simlib.engines.compiled.variants import Variant
from simlib.engines.warm import example_of, follow
from simlib.engines.wasm import block, kernels, object_file, target, warned
from simlib.run import sentences

_WORDS = "simlib.words"
"""The custom section with the names of a world's words."""
_OWN: tuple[ModuleType, ...] = (
    block,
    kernels,
    object_file,
    sentences,
    target,
    warned,
    sys.modules[__name__],
)
_OPTIONS: Any = {
    "_nrt": False,
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
_ROOT = """
define linkonce_odr double @sqrt(double %x) alwaysinline {
  %root = call double @llvm.sqrt.f64(double %x)
  ret double %root
}
declare double @llvm.sqrt.f64(double)
"""
"""The C library's one function that the rules need: here it is an instruction."""


class Module(NamedTuple):
    """A module, and the names of the words of the world that each function is given first."""

    code: bytes
    words: tuple[str, ...]


def module_of(copy: Variant, *, progress: bool = True) -> Module:
    """Return a copy of the loop as a module; it takes a minute or two unless it is kept.

    Parameters
    ----------
    copy : Variant
    progress : bool, optional
        A progress bar on stderr, while it is made.

    Raises
    ------
    subprocess.CalledProcessError
        If it could not be made; why stands on stderr.
    """
    path = path_of(copy)
    with alone(path.parent, f"page-{copy.label}"):
        if not path.exists():
            _have_made(copy, progress)
    code = path.read_bytes()
    return Module(code, tuple(json.loads(object_file.custom_section(code, _WORDS))))


def path_of(copy: Variant) -> Path:
    """Return where a copy's module is kept; the name changes with all that it is made from."""
    digest = hashlib.sha256(
        digest_of((*simulation.MODULES, *_OWN), **simulation.names_of(copy)).encode()
    )
    digest.update(f"{numba.__version__} {llvmlite.__version__}".encode())
    folder = simulation.loops_of(copy).folder or "."
    return Path(folder) / f"page-{copy.label}-{digest.hexdigest()[:16]}.wasm"


def _have_made(copy: Variant, progress: bool) -> None:
    command = [sys.executable, "-m", "simlib.engines.wasm", copy.label]
    bar = compiling_bar(FUNCTIONS[copy], is_on=progress)
    with bar as shown, subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            follow(process, shown)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def keep(copy: Variant, context: Any) -> None:
    """Make a module and keep it.

    Parameters
    ----------
    copy : Variant
    context
        What `target.compile_for_pages` has returned, in this process.
    """
    path = path_of(copy)
    path.parent.mkdir(parents=True, exist_ok=True)
    half_made = path.with_suffix(f".{os.getpid()}")
    half_made.write_bytes(make(copy, context))
    half_made.replace(path)


def make(copy: Variant, context: Any) -> bytes:
    """Return a copy of the loop as a module's code; see `keep`."""
    # LLVM takes longer for one long function in WebAssembly than for several.
    run, finish, set_percentage, lay_out, tally, warn, has_room = settled(
        (*simulation.FUNCTIONS, kernels.lay_out, kernels.tally, warned.warn, kernels.has_room),
        (*simulation.MODULES, kernels, warned),
        True,
        **simulation.names_of(copy),
    )
    world = example_of(copy).world
    table, numbers, marks = np.zeros((1, 1)), np.zeros(1), np.zeros(1, np.int8)
    called: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "run": (run, (world, 0.0)),
        "finish": (finish, (world, 0.0)),
        "lay_out": (lay_out, (world, *(0.0,) * 7)),
        "tally": (tally, (world, 0.0, 0, table, table, numbers)),
        "warn": (warn, (world, 0.0, numbers, marks)),
    }
    if copy.is_general:
        called["set_percentage"] = set_percentage, (world, 0.0, 0.0)
        called["has_room"] = has_room, (world,)
    whole = llvm.parse_assembly(_ROOT)
    whole.triple, whole.data_layout = target.TRIPLE, context.codegen()._data_layout
    for name, (function, arguments) in called.items():
        kinds = tuple(map(numba.typeof, arguments))
        compiled: Any = numba.njit(**_OPTIONS)(function)
        compiled.compile(kinds)
        found = compiled.overloads[kinds]
        whole.link_in(found.library._final_module.clone())
        whole.link_in(llvm.parse_assembly(str(block.calling(context, found.fndesc, name))))
    _optimise(whole, context, tuple(called))
    emitted = context.codegen()._tm.emit_object(whole)
    words = json.dumps(list(block.words_of(numba.typeof(world), "")))
    return object_file.module_of(emitted, tuple(called), {_WORDS: words.encode()})


def _optimise(whole: Any, context: Any, exported: tuple[str, ...]) -> None:
    """Drop what nobody outside calls, if nothing inside does."""
    for each in (*whole.functions, *whole.global_variables):
        if not each.is_declaration and each.name not in exported:
            each.linkage = llvm.Linkage.internal
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    passes = llvm.create_pass_builder(context.codegen()._tm, options)
    passes.getModulePassManager().run(whole, passes)
