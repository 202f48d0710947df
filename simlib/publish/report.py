"""The report: every notebook run for real, and a folder of pages to pass on.

``python -m simlib.publish.report`` (``make report``) runs each notebook in a fresh kernel, writes
the executed copy and its page to ``build/report`` with a list of all pages and their answers, and
prints both: an answer is what the last cell tagged ``headline`` of a notebook shows. The committed
notebooks are not touched. It sits at the very end of the data flow and computes nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import html
import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from simlib.processes import terminable
from simlib.publish.notebook import NotebookError, execute_together, write
from simlib.publish.reference import write_page
from simlib.publish.render import INDEX_NAME, STYLE, render, title_of

if TYPE_CHECKING:
    from nbformat import NotebookNode


@dataclass(frozen=True, slots=True)
class Entry:
    """One notebook of a report.

    Parameters
    ----------
    notebook : Path
        The notebook.
    copy : Path
        Its executed copy.
    title : str
        Its first heading.
    headline : str
        Its answer, in Markdown, or an empty text.
    """

    notebook: Path
    copy: Path
    title: str
    headline: str


def headline(notebook: NotebookNode) -> str:
    """Return what the last cell tagged ``headline`` shows, as text or Markdown.

    Parameters
    ----------
    notebook : NotebookNode
        An executed notebook.

    Returns
    -------
    str
        The text, or an empty one if no cell carries the tag.
    """
    for cell in reversed(notebook.cells):
        if "headline" in cell.metadata.get("tags", []):
            texts = []
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                # The plain text of a `Markdown` object is only its address.
                text = output.get("text") or data.get("text/markdown") or data.get("text/plain")
                texts.append((text or "").rstrip())
            return "\n".join(filter(None, texts))
    return ""


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
        Called when one has ended, with what the list of pages says of it, or why it failed.
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
    """Write a notebook's executed copy, and return what the list of pages says of it."""
    copy = out_dir / notebook.name
    write(executed, copy)
    title = title_of(executed) or notebook.stem
    return Entry(notebook, copy, title, headline(executed))


def write_pages(entries: list[Entry], out_dir: str | Path) -> list[Path]:
    """Write the pages, each with links to the list of pages and to the next one, and the list.

    Parameters
    ----------
    entries : list of Entry
        The notebooks, in the order in which they are listed.
    out_dir : str or Path
        The folder of the pages.

    Returns
    -------
    list of Path
        The list of pages, ``<out_dir>/index.html``, and the pages.
    """
    from nbconvert.filters import markdown2html

    names = [entry.copy.stem for entry in entries]
    titles = [(entry.copy.stem, entry.title) for entry in entries]
    pages, items = [], []
    for entry, following in itertools.zip_longest(entries, titles[1:]):
        folder = entry.notebook.parent
        page = render(entry.copy, out_dir, folder=folder, pages=names, following=following)
        pages.append(page)
        items.append(
            f'<h2><a href="{html.escape(page.name)}">{html.escape(entry.title)}</a></h2>'
            f'<div class="output answer">{markdown2html(html.escape(entry.headline))}</div>'
        )
    target = Path(out_dir) / INDEX_NAME
    target.write_text(
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>simlib: report</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        "<h1>simlib: report</h1>\n"
        "<p>Each page answers one question, is one file, and opens without a network.</p>\n"
        + "\n".join(items)
        + f'\n<p><a href="{write_page(out_dir).name}">Every setting</a></p>'
        + "\n</main>\n</body>\n</html>\n",
        encoding="utf-8",
    )
    return [target, *pages]


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
    parser = argparse.ArgumentParser(
        prog="python -m simlib.publish.report", description=(main.__doc__ or "").splitlines()[0]
    )
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--out", type=Path, default=Path("build/report"), metavar="FOLDER")
    parser.add_argument("--timeout-s", type=float, default=600, help="limit for one cell")
    options = parser.parse_args(arguments)
    notebooks = options.notebooks or sorted(Path("notebooks").glob("*.ipynb"))
    notebooks = list(dict.fromkeys(notebooks))
    if not notebooks:
        print("no notebook found: run this where the folder notebooks/ is", file=sys.stderr)
        return 1
    done: list[Entry | NotebookError] = []
    stopped = False
    try:
        with terminable():
            run(notebooks, options.out, done.append, timeout_s=options.timeout_s)
    except KeyboardInterrupt:
        stopped = True
    failed = [one for one in done if isinstance(one, NotebookError)]
    entries = [one for one in done if isinstance(one, Entry)]
    entries.sort(key=lambda entry: notebooks.index(entry.notebook))
    if entries:
        for entry in entries:
            if entry.headline:
                print(f"\n{entry.title}\n{entry.headline.replace('**', '')}")
        index, *pages = write_pages(entries, options.out)
        print(f"\nopen {index}")
        for page in pages:
            print(f"     {page}")
    for failure in failed:
        print(f"\nfailed: {failure}", file=sys.stderr)
    if stopped:
        print("\nstopped; the pages made so far are kept", file=sys.stderr)
        return 130
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
