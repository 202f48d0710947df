"""Make the modules of all copies of the loop, or, for a parent that waits, of those named."""

from __future__ import annotations

import sys


def _make(labels: list[str]) -> None:
    from simlib.engines.wasm.target import compile_for_pages

    context = compile_for_pages()  # before anything else is imported that compiles

    from simlib.engines.compiled.variants import COPIES
    from simlib.engines.warm import telling_parent
    from simlib.engines.wasm.modules import keep

    copies = {copy.label: copy for copy in COPIES}
    if unknown := [label for label in labels if label not in copies]:
        sys.exit(f"{', '.join(unknown)}: must be among {', '.join(copies)}")
    with telling_parent():
        for label in labels:
            keep(copies[label], context)


def _make_all() -> None:
    from simlib.engines.compiled.variants import COPIES
    from simlib.engines.wasm.modules import module_of

    for copy in COPIES:
        module_of(copy, progress=sys.stderr.isatty())  # a log needs no bar


if __name__ == "__main__":
    try:
        if sys.argv[1:]:
            _make(sys.argv[1:])
        else:
            _make_all()
    except KeyboardInterrupt:
        sys.exit(130)
