"""Links in pages: to the page of a notebook or a text, or to a file that the page then holds.

None leads to a file that is not there for somebody who got the pages: what has a page is linked to
by that, a small file of data is in the link itself, and a notebook without a page is its words.
"""

from __future__ import annotations

import base64
import html
import mimetypes
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from simlib.errors import SimlibError

MOST_LINKED_BYTES = 200_000
INDEX = "index"

# Addresses on this machine alone: no scheme.
_LINK = re.compile(r'<a href="(?![a-z][a-z0-9+.-]*:|//)([^"]+)"([^>]*)>(.*?)</a>', re.DOTALL)
_HEADING = re.compile(r'(<h[1-6]\b[^>]*?\bid=")([^"]+)"')


class RenderError(SimlibError):
    """A notebook or a text holds something that a page without a network cannot show."""


@dataclass(frozen=True)
class Places:
    """Where pages are.

    Parameters
    ----------
    pages : mapping of Path to str, optional
        The names of pages, by the files that they show.
    is_one_file : bool, optional
        Whether all pages are in one file.

    Examples
    --------
    >>> Places().address("trust", "tests"), Places(is_one_file=True).address("trust", "tests")
    ('trust.html#tests', '#trust/tests')
    """

    pages: Mapping[Path, str] = field(default_factory=dict)
    is_one_file: bool = False

    def address(self, name: str, part: str = "") -> str:
        """Return the address of a page, or of a part of it."""
        if self.is_one_file:
            return f"#{self.identity(name, part)}" if part else f"#{name}"
        return f"{name}.html#{part}" if part else f"{name}.html"

    def identity(self, name: str, part: str) -> str:
        """Return what a part of a page is called: no other in the same file may be so, too."""
        return f"{name}/{part}" if self.is_one_file else part

    def lead(self, body: str, name: str, source: Path, folder: Path) -> str:
        """Return a page's HTML with its headings and links as they have to be here.

        Parameters
        ----------
        body : str
            HTML, of which links are local addresses as in its source.
        name : str
            The page.
        source, folder : Path
            The file that it shows, for errors, and where its links lead from.

        Returns
        -------
        str

        Raises
        ------
        RenderError
            A link leads to no file, or to one that is too large to be held.
        """
        seen: Counter[str] = Counter()

        def named(heading: re.Match[str]) -> str:
            before, part = heading.groups()
            # A heading that comes again has a number, as GitHub gives it.
            again = f"-{seen[part]}" if seen[part] else ""
            seen[part] += 1
            return f'{before}{self.identity(name, part + again)}"'

        body = _HEADING.sub(named, body)
        return _LINK.sub(lambda link: self._led(link, name, source, folder), body)

    def _led(self, link: re.Match[str], name: str, source: Path, folder: Path) -> str:
        address, rest, words = link.groups()
        file, _, part = html.unescape(address).partition("#")
        if not file:
            address = self.address(name, part) if self.is_one_file else f"#{part}"
            return f'<a href="{html.escape(address)}"{rest}>{words}</a>'
        path = folder / file
        page = self.pages.get(path.resolve())
        if page is not None:
            return f'<a href="{html.escape(self.address(page, part))}"{rest}>{words}</a>'
        if path.suffix == ".ipynb" or (path.is_dir() and self.pages):
            return words
        if source.suffix == ".md" and path.is_file() and path.stat().st_size > MOST_LINKED_BYTES:
            return words  # the text names the file for those who have the project
        return _holding(path, address, rest, words, source)


def _holding(path: Path, address: str, rest: str, words: str, source: Path) -> str:
    """Return a link that holds the file to which it led."""
    if not path.is_file() or path.stat().st_size > MOST_LINKED_BYTES:
        rule = f"must be links to files of at most {MOST_LINKED_BYTES:,} bytes"
        raise RenderError(f"{source}: {rule}, got {address!r}")
    kind = mimetypes.guess_type(path.name)[0] or "text/plain"
    data = base64.b64encode(path.read_bytes()).decode()
    name = html.escape(path.name)
    return f'<a download="{name}" href="data:{kind};base64,{data}"{rest}>{words}</a>'


def linked_texts(source: str, folder: Path) -> list[Path]:
    """Return the Markdown files to which a text in Markdown links, as far as they are there."""
    targets = re.findall(r"\]\(([^)\s#]+\.md)(?:#[^)]*)?\)", source)
    found = [(folder / target).resolve() for target in targets if "://" not in target]
    return [path for path in dict.fromkeys(found) if path.is_file()]
