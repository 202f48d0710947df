"""The report: every notebook run for real, and a folder of pages to pass on.

``python -m simlib.publish.report`` (``make report``) runs each notebook in a fresh kernel, writes
the executed copy and its page to ``build/report`` with a list of all pages, and prints where they
are and the headline table: what the last cell tagged ``headline`` of each notebook shows. The
committed notebooks are not touched. It sits at the very end of the data flow and computes nothing.
"""

from __future__ import annotations

import argparse
import html
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from simlib.processes import terminable
from simlib.publish.notebook import NotebookError, execute, write
from simlib.publish.reference import write_page
from simlib.publish.render import STYLE, render, title_of

if TYPE_CHECKING:
    from nbformat import NotebookNode


@dataclass(frozen=True, slots=True)
class Entry:
    """One page of a report.

    Parameters
    ----------
    name : str
        The notebook's name without its ending.
    title : str
        Its first heading.
    page : Path
        Where the page is.
    headline : str
        The text of its headline table, or an empty text.
    """

    name: str
    title: str
    page: Path
    headline: str


def headline(notebook: NotebookNode) -> str:
    """Return what the last cell tagged ``headline`` shows, as plain text.

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


def report(notebook: str | Path, out_dir: str | Path, *, timeout_s: float = 600) -> Entry:
    """Run one notebook and write its executed copy and its page.

    Parameters
    ----------
    notebook : str or Path
        The notebook; it is not changed.
    out_dir : str or Path
        Where copy and page go.
    timeout_s : float
        Limit for one cell, in seconds.

    Returns
    -------
    Entry
        What the list of pages says of it.

    Raises
    ------
    NotebookError
        If a cell failed.
    """
    import nbformat
    from tqdm import tqdm

    notebook, out_dir = Path(notebook), Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    source = nbformat.read(notebook, as_version=4)
    cells = sum(cell.cell_type == "code" for cell in source.cells)
    with tqdm(total=cells, desc=notebook.stem, unit="cell", file=sys.stderr) as bar:
        executed = execute(notebook, timeout_s=timeout_s, on_cell=bar.update)
    copy = out_dir / notebook.name
    write(executed, copy)
    return Entry(
        name=notebook.stem,
        title=title_of(executed) or notebook.stem,
        page=render(copy, out_dir),
        headline=headline(executed),
    )


def write_index(entries: list[Entry], out_dir: str | Path) -> Path:
    """Write the list of pages.

    Parameters
    ----------
    entries : list of Entry
        The pages, in the order in which they are listed.
    out_dir : str or Path
        The folder of the pages.

    Returns
    -------
    Path
        ``<out_dir>/index.html``.
    """
    items = []
    for entry in entries:
        table = f"<pre>{html.escape(entry.headline)}</pre>" if entry.headline else ""
        items.append(
            f'<h2><a href="{html.escape(entry.page.name)}">{html.escape(entry.title)}</a></h2>'
            f'<div class="output">{table}</div>'
        )
    target = Path(out_dir) / "index.html"
    target.write_text(
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>simlib: report</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        "<h1>simlib: report</h1>\n"
        "<p>Each page answers one question, and opens without a network.</p>\n"
        + "\n".join(items)
        + f'\n<p><a href="{write_page(out_dir).name}">Every setting</a></p>'
        + "\n</main>\n</body>\n</html>\n",
        encoding="utf-8",
    )
    return target


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
    if not notebooks:
        print("no notebook found: run this where the folder notebooks/ is", file=sys.stderr)
        return 1
    entries: list[Entry] = []
    failed: list[NotebookError] = []
    stopped = False
    for notebook in notebooks:
        try:
            with terminable():
                entries.append(report(notebook, options.out, timeout_s=options.timeout_s))
        except NotebookError as error:
            failed.append(error)
        except KeyboardInterrupt:
            stopped = True
            break
    if entries:
        for entry in entries:
            if entry.headline:
                print(f"\n{entry.title}\n{entry.headline}")
        print(f"\nopen {write_index(entries, options.out)}")
        for entry in entries:
            print(f"     {entry.page}")
    for failure in failed:
        print(f"\nfailed: {failure}", file=sys.stderr)
    if stopped:
        print("\nstopped; the pages made so far are kept", file=sys.stderr)
        return 130
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
