"""Make the modules of the copies of the loop that are named, or of all."""

from __future__ import annotations

import sys

from simlib.engines.wasm.target import compile_for_pages

if __name__ == "__main__":
    context = compile_for_pages()  # before anything else is imported that compiles

    from simlib.engines.compiled.compiling import counted_compiling
    from simlib.engines.compiled.variants import COPIES
    from simlib.engines.wasm.modules import keep, path_of

    def count_one() -> None:
        """Write a byte for each function, which whoever waits for them counts."""
        sys.stdout.write(".")
        sys.stdout.flush()

    asked = sys.argv[1:] or [copy.label for copy in COPIES]
    for one in COPIES:
        if one.label in asked and not path_of(one).exists():
            with counted_compiling(count_one):
                keep(one, context)
