"""The report: every notebook run for real, and a site of their pages to share.

``python -m simlib.publish.report`` (``make report``) runs each notebook in a fresh kernel, writes
the executed copy and its page to ``build/report`` with an index of all pages and their answers, and
prints both: an answer is what the last cell tagged ``headline`` of a notebook shows. With
``--stored`` nothing is run, and the pages show what the notebooks have stored. The committed
notebooks are not touched. It sits at the very end of the data flow and computes nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simlib.processes import terminable
from simlib.publish.notebook import NotebookError, execute_together, write
from simlib.publish.site import Entry, Site

if TYPE_CHECKING:
    from nbformat import NotebookNode

_TEXTS = ("data/reference.md", "data/trust.md")


def run(
    notebooks: Sequence[Path],
    out_dir: str | Path,
    on_done: Callable[[Entry | NotebookError], None],
    *,
    timeout_s: float = 600,
) -> None:
    """Run notebooks, as `execute_together` does, and write their executed copies.

    Parameters
    ----------
    notebooks : sequence of Path
        The notebooks, each once; they are not changed.
    out_dir : str or Path
        Where the copies go.
    on_done : callable
        Called when one has ended, with its place in the site, or why it failed.
    timeout_s : float
        Limit for one cell, in seconds.

    Raises
    ------
    KeyboardInterrupt
        If the user stopped them, or SIGTERM did.
    """
    import nbformat
    from tqdm import tqdm

    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)

    def written(notebook: Path, done: NotebookNode | NotebookError) -> None:
        on_done(done if isinstance(done, NotebookError) else _entry(notebook, done, out_dir))

    with contextlib.ExitStack() as bars:
        told = {}
        for place, notebook in enumerate(notebooks):
            cells = nbformat.read(notebook, as_version=4).cells
            total = sum(cell.cell_type == "code" for cell in cells)
            shown = {"desc": notebook.stem, "unit": "cell", "position": place, "file": sys.stderr}
            told[notebook] = bars.enter_context(tqdm(total=total, **shown)).update
        execute_together(told, written, timeout_s=timeout_s)


def _entry(notebook: Path, executed: NotebookNode, out_dir: Path) -> Entry:
    """Write a notebook's executed copy, and return its place in the site."""
    copy = out_dir / notebook.name
    write(executed, copy)
    return Entry(notebook, copy)


def main(arguments: list[str] | None = None) -> int:
    """Run notebooks for real and write pages that open offline.

    Parameters
    ----------
    arguments : list of str, optional
        The command line after the program's name; by default the real one.

    Returns
    -------
    int
        0; 1 if a notebook failed or there is none; 130 after Ctrl-C or SIGTERM. Pages made so far
        are kept.
    """
    options = _parser().parse_args(arguments)
    notebooks = options.notebooks or sorted(Path("notebooks").glob("*.ipynb"))
    notebooks = list(dict.fromkeys(notebooks))
    if not notebooks:
        print("no notebook found: run this where the folder notebooks/ is", file=sys.stderr)
        return 1
    done: list[Entry | NotebookError] = []
    stopped = False
    try:
        with terminable():
            if options.stored:
                done += [Entry(notebook, notebook) for notebook in notebooks]
            else:
                run(notebooks, options.out, done.append, timeout_s=options.timeout_s)
    except KeyboardInterrupt:
        stopped = True
    failed = [one for one in done if isinstance(one, NotebookError)]
    entries = [one for one in done if isinstance(one, Entry)]
    entries.sort(key=lambda entry: notebooks.index(entry.notebook))
    if entries:
        _write(entries, options.out, options.single)
    for failure in failed:
        print(f"\nfailed: {failure}", file=sys.stderr)
    if stopped:
        print("\nstopped; the pages made so far are kept", file=sys.stderr)
        return 130
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simlib.publish.report", description=(main.__doc__ or "").splitlines()[0]
    )
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--out", type=Path, default=Path("build/report"), metavar="FOLDER")
    parser.add_argument("--single", type=Path, metavar="FILE", help="write one file of all, too")
    parser.add_argument("--stored", action="store_true", help="show stored outputs, run nothing")
    parser.add_argument("--timeout-s", type=float, default=600, help="limit for one cell")
    return parser


def _write(entries: list[Entry], out_dir: Path, single: Path | None) -> None:
    """Write the site, with the texts of the project in this folder, and say where it is."""
    for entry in entries:
        if entry.headline:
            print(f"\n{entry.title}\n{entry.headline.replace('**', '')}")
    site = Site(entries, [path for path in map(Path, _TEXTS) if path.is_file()])
    index, *pages = site.write_folder(out_dir)
    print(f"\nopen {index}")
    for page in pages:
        print(f"     {page}")
    if single is not None:
        size = site.write_file(single).stat().st_size
        print(f"or   {single}, one file of {size / 1e6:.1f} MB that opens alone")


if __name__ == "__main__":
    sys.exit(main())
