"""A site of notebooks: a page each, an index with their answers, and what they are read with.

The index has a card for each notebook: its question, its computed answer, and one of its figures.
Beside the notebooks stand pages of the settings and of the public names, made from the code, and
of texts in Markdown: those that are given, and whatever these or a notebook link to. The site is a
folder, in which plotly.js lies once, or one file that opens alone.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from simlib.publish import interface, reference
from simlib.publish.documents import document, prose, title_of_text
from simlib.publish.frame import (
    EXPLORER_NAME,
    PLOTLY_NAME,
    Link,
    Page,
    explorer_js,
    framed,
    plotly_js,
    turning,
    write,
)
from simlib.publish.links import INDEX, Places, linked_texts
from simlib.publish.plots import first_good, picture_html
from simlib.publish.render import notebook_page, title_of

if TYPE_CHECKING:
    from nbformat import NotebookNode

SETTINGS = "settings"
_TITLE = "simlib: report"
_NOTE = "Made by simlib. Nothing here is loaded from anywhere else."


@dataclass(frozen=True)
class Entry:
    """One notebook of a site.

    Parameters
    ----------
    notebook : Path
        The notebook.
    copy : Path
        Its executed copy; the notebook itself, where its stored outputs are shown.
    """

    notebook: Path
    copy: Path

    @cached_property
    def executed(self) -> NotebookNode:
        """What the copy holds."""
        import nbformat

        return nbformat.read(self.copy, as_version=4)

    @property
    def name(self) -> str:
        """The name of its page."""
        return self.copy.stem

    @property
    def title(self) -> str:
        """Its question: its first heading."""
        return title_of(self.executed) or self.name

    @property
    def headline(self) -> str:
        """Its answer, in Markdown, or an empty text."""
        return headline(self.executed)


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


@dataclass(frozen=True)
class Site:
    """Notebooks and texts that are shown together.

    Parameters
    ----------
    entries : sequence of Entry
        The notebooks, in the order in which they are read.
    texts : sequence of Path, optional
        Files in Markdown. What is linked to from a notebook or from one of them comes of itself.
    """

    entries: Sequence[Entry]
    texts: Sequence[Path] = ()

    def write_folder(self, out_dir: str | Path) -> list[Path]:
        """Write a page a file, with plotly.js beside them, and with what explorers need.

        Parameters
        ----------
        out_dir : str or Path

        Returns
        -------
        list of Path
            The index, and the pages of the notebooks.
        """
        out_dir = Path(out_dir)
        places = Places(self._pages)
        pages = self._made(places)
        if any(page.has_figures for page in pages):
            write(out_dir / PLOTLY_NAME, plotly_js())
        if any(page.has_explorers for page in pages):
            write(out_dir / EXPLORER_NAME, explorer_js())
        for page in pages:
            text = framed([page], menu=self._menu(places), beside=True, note=_NOTE)
            write(out_dir / f"{page.name}.html", text)
        return [out_dir / f"{name}.html" for name in (INDEX, *(one.name for one in self.entries))]

    def write_file(self, target: str | Path) -> Path:
        """Write all pages as one file that needs no other, and return where it is.

        Parameters
        ----------
        target : str or Path
        """
        places = Places(self._pages, is_one_file=True)
        menu = self._menu(places)
        return write(Path(target), framed(self._made(places), menu=menu, note=_NOTE))

    @cached_property
    def _documents(self) -> dict[Path, str]:
        """The texts that have pages, and the names of these."""
        taken = {INDEX, SETTINGS, interface.NAME, *(entry.name for entry in self.entries)}
        waiting = [path.resolve() for path in self.texts]
        for entry in self.entries:
            for cell in entry.executed.cells:
                if cell.cell_type == "markdown":
                    waiting += linked_texts(cell.source, entry.notebook.parent)
        found: dict[Path, str] = {}
        while waiting:
            path = waiting.pop(0)
            if path in found:
                continue
            if _is_of_settings(path):
                found[path] = SETTINGS
                continue
            # Two texts may have one name, in different folders.
            name = path.stem
            while name.lower() in taken:
                name = f"{path.parent.name}-{name}" if name == path.stem else f"{name}-"
            taken.add(name.lower())
            found[path] = name
            waiting += linked_texts(path.read_text(encoding="utf-8"), path.parent)
        return found

    @cached_property
    def _pages(self) -> dict[Path, str]:
        notebooks = {entry.notebook.resolve(): entry.name for entry in self.entries}
        return {**notebooks, **self._documents}

    def _menu(self, places: Places) -> list[Link]:
        texts = [
            Link(places.address(self._documents[path.resolve()]), _title_of(path))
            for path in self.texts
            if not _is_of_settings(path)
        ]
        return [
            Link(places.address(INDEX), "All pages"),
            Link(places.address(SETTINGS), "Settings"),
            Link(places.address(interface.NAME), "Public names"),
            *texts,
        ]

    def _made(self, places: Places) -> list[Page]:
        """Return all pages, the index first."""
        pages = [self._index(places)]
        links = [Link(places.address(entry.name), entry.title) for entry in self.entries]
        around = zip([None, *links], [*links[1:], None], strict=False)
        for entry, (before, after) in zip(self.entries, around, strict=False):
            page = notebook_page(entry.copy, places, folder=entry.notebook.parent)
            pages.append(page._replace(body=page.body + turning(before, after)))
        settings = reference.html_page(lambda path: places.identity(SETTINGS, path))
        pages.append(Page(SETTINGS, "Settings", settings))
        pages.append(interface.interface(places))
        pages += [
            document(path, name, places)
            for path, name in self._documents.items()
            if name != SETTINGS
        ]
        return pages

    def _index(self, places: Places) -> Page:
        cards = "\n".join(_card(entry, places) for entry in self.entries)
        body = (
            f"<h1>{_TITLE}</h1>\n"
            "<p>Each page answers one question. The answers are computed, and the figures are "
            "drawn from what the notebooks have stored.</p>\n"
            f'<div class="cards">{cards}</div>'
        )
        return Page(INDEX, _TITLE, body)


def _card(entry: Entry, places: Places) -> str:
    """Return a notebook's card: its question, its answer, and its first good figure."""
    figure = first_good(entry.executed)
    identity = places.identity(INDEX, f"{entry.name}-picture")
    picture = picture_html(identity, figure) if figure is not None else ""
    address = html.escape(places.address(entry.name))
    answer = entry.headline.partition("\n\n")[0]  # what follows it is its reasons
    return (
        f'<section class="card"><h2><a href="{address}">{html.escape(entry.title)}</a></h2>'
        f"{prose(html.escape(answer, quote=False))}{picture}</section>"
    )


def _is_of_settings(path: Path) -> bool:
    """Say whether a text is the page of settings, which is made from the code anew."""
    return path.name == "settings.md" and path.read_text(encoding="utf-8").startswith("# Settings")


def _title_of(path: Path) -> str:
    return title_of_text(path.read_text(encoding="utf-8")) or path.stem
