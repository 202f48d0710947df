"""What every page has around it: its style, its script, the menu, and plotly.js or where it is.

A page of a site draws with the plotly.js that lies beside it, once for all pages. A page alone, and
a site that is one file, carry it, compressed (2 MB). Style and script stand in each page, so that
one that got lost from its folder can still be read, and says what is missing.
"""

from __future__ import annotations

import base64
import functools
import gzip
import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from simlib.figures.style import DARK

PLOTLY_NAME = "plotly.min.js"
EXPLORER_NAME = "explorer.js"

_ASSETS = Path(__file__).parent / "assets"


class Page(NamedTuple):
    """A page without what is around it.

    Attributes
    ----------
    name : str
        Its address, without an ending.
    title : str
    body : str
        HTML, with its heading.
    """

    name: str
    title: str
    body: str

    @property
    def has_figures(self) -> bool:
        """Whether plotly.js is needed."""
        return "data-figure=" in self.body or self.has_explorers

    @property
    def has_explorers(self) -> bool:
        """Whether what simulates is needed."""
        return 'class="explorer"' in self.body


class Link(NamedTuple):
    """Where a link leads, and its words."""

    address: str
    words: str


def framed(
    pages: Sequence[Page], *, menu: Iterable[Link] = (), beside: bool = False, note: str = ""
) -> str:
    """Return one HTML file that shows a page, or one of several.

    Parameters
    ----------
    pages : sequence of Page
        Of several, the first is shown until an address names another.
    menu : iterable of Link, optional
        What stands above each page.
    beside : bool, optional
        Whether plotly.js lies beside the file, and not in it.
    note : str, optional
        What stands below each page.

    Returns
    -------
    str
    """
    has_figures = any(page.has_figures for page in pages)
    has_explorers = any(page.has_explorers for page in pages)
    articles = "\n".join(
        f"<article{_named(page) if len(pages) > 1 else ''}>\n{page.body}\n</article>"
        for page in pages
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(pages[0].title)}</title>
<style>{style()}</style>
{_plotly(beside=beside) if has_figures else ""}
{_explorers(beside=beside) if has_explorers else ""}
</head>
<body>
<a class="skip" href="#content">Skip the menu</a>
{_menu(menu)}
<main id="content" tabindex="-1">
{articles}
</main>
<footer>{html.escape(note)}</footer>
<script type="application/json" id="dark-colours">{json.dumps(DARK)}</script>
<script>{(_ASSETS / "site.js").read_text(encoding="utf-8")}</script>
</body>
</html>
"""


def turning(before: Link | None, after: Link | None) -> str:
    """Return the links from a page to the one before and the one after it."""
    links = []
    if before is not None:
        links.append(_link(Link(before.address, f"← {before.words}"), 'rel="prev"'))
    if after is not None:
        links.append(_link(Link(after.address, f"{after.words} →"), 'class="next" rel="next"'))
    return f'<nav class="turn" aria-label="Pages before and after">{"".join(links)}</nav>'


def plotly_js() -> str:
    """Return the plotly.js that the installed plotly package brings."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def explorer_js() -> str:
    """Return what simulates in pages; it is compiled once, and kept."""
    from simlib.web.page import script

    return script()


@functools.cache
def style() -> str:
    """Return the style of all pages, with that of code in the light and in the dark."""
    from pygments.formatters import HtmlFormatter

    light, dark = (
        HtmlFormatter(style=name).get_style_defs(".highlight") for name in ("xcode", "github-dark")
    )
    dark = f"@media screen and (prefers-color-scheme: dark) {{ {dark} }}"
    css = (_ASSETS / "site.css").read_text(encoding="utf-8")
    return f"{light}\n{dark}\n{css}"


def write(target: Path, text: str) -> Path:
    """Write a page in one step: a reader, or an interrupt, never meets half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _named(page: Page) -> str:
    return f' id="{html.escape(page.name)}" data-title="{html.escape(page.title)}"'


def _menu(links: Iterable[Link]) -> str:
    shown = "".join(map(_link, links))
    return f'<header><nav aria-label="Site">{shown}</nav></header>' if shown else ""


def _link(link: Link, more: str = "") -> str:
    address, words = map(html.escape, link)
    return f'<a href="{address}"{" " if more else ""}{more}>{words}</a> '


def _plotly(*, beside: bool) -> str:
    if beside:
        return f'<script defer src="{PLOTLY_NAME}"></script>'
    return f'<script type="text/plain" id="plotly">{_packed_plotly()}</script>'


def _explorers(*, beside: bool) -> str:
    if beside:
        return f'<script defer src="{EXPLORER_NAME}"></script>'
    return f"<script>{explorer_js()}</script>"


@functools.cache
def _packed_plotly() -> str:
    return base64.b64encode(gzip.compress(plotly_js().encode(), 9, mtime=0)).decode()
