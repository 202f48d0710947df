"""Texts in Markdown as pages, such as what the library can do, and how far to trust it."""

from __future__ import annotations

import re
from pathlib import Path

from simlib.publish.frame import Page
from simlib.publish.links import Places

_HEADING = re.compile(r'(<h[1-6][^>]*?) id="[^"]*"([^>]*>)(.*?)(</h[1-6]>)', re.DOTALL)
_ANCHOR = re.compile(r'<a class="anchor-link".*?</a>', re.DOTALL)


def prose(source: str) -> str:
    """Return Markdown as HTML, with wide tables in a box of their own, and anchors as GitHub's.

    Parameters
    ----------
    source : str
        Markdown.

    Returns
    -------
    str

    Examples
    --------
    >>> prose("## Public *names*")
    '<h2 id="public-names">Public <em>names</em></h2>'
    """
    from nbconvert.filters import markdown2html

    page = _ANCHOR.sub("", str(markdown2html(source)))
    page = _HEADING.sub(lambda m: f'{m[1]} id="{slug(m[3])}"{m[2]}{m[3]}{m[4]}', page)
    return page.replace("<table>", '<div class="output"><table>').replace(
        "</table>", "</table></div>"
    )


def slug(heading: str) -> str:
    """Return the anchor of a heading, as GitHub makes it.

    Examples
    --------
    >>> slug("At a prompt, and in a <em>build</em>")
    'at-a-prompt-and-in-a-build'
    """
    words = re.sub(r"<[^>]*>|&[a-z]+;", "", heading).lower().strip()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def document(path: Path, name: str, places: Places) -> Page:
    """Return the page of a Markdown file.

    Parameters
    ----------
    path : Path
        The file; its links lead from its folder.
    name : str
        The page's name.
    places : Places
        Where the other pages are.
    """
    source = path.read_text(encoding="utf-8")
    body = places.lead(f'<section class="prose">{prose(source)}</section>', name, path, path.parent)
    return Page(name, title_of_text(source) or path.stem, body)


def title_of_text(source: str) -> str:
    """Return the first heading of a text in Markdown, without marks; empty if it has none."""
    heading = re.search(r"^#\s+(.+)$", source, re.MULTILINE)
    return re.sub(r"[*_`]", "", heading[1]).strip() if heading else ""
