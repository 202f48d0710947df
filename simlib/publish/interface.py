"""The page of public names: each with its signature and what its docstring says, from the code."""

from __future__ import annotations

import html
import inspect
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

from simlib.publish.frame import Page
from simlib.publish.links import Places

NAME = "api"
_ABOUT = (
    "<code>import simlib as sl</code>, and each is there as <code>sl.name</code>. Made from the "
    "code; what a name does in full is unfolded below it."
)


def interface(places: Places) -> Page:
    """Return the page of all public names, in the order of the alphabet.

    Parameters
    ----------
    places : Places
        Where the pages are.
    """
    # This page is of the package's face, so it is the one module below that looks at it.
    package = import_module(__name__.partition(".")[0])
    parts = [
        "<h1>Public names</h1>",
        f"<p>{_ABOUT}</p>",
    ]
    for name in sorted(package.__all__, key=str.lower):
        parts += _entry(f"sl.{name}", getattr(package, name), places, level=2)
    return Page(NAME, "Public names", "\n".join(parts))


def _entry(name: str, value: Any, places: Places, *, level: int) -> Iterator[str]:
    identity = html.escape(places.identity(NAME, name))
    # What a constant says is what its type says of all its kind.
    has_own = isinstance(value, ModuleType) or callable(value)
    words = (has_own and inspect.getdoc(value)) or ""
    first, _, rest = words.partition("\n\n")
    yield f'<h{level} id="{identity}"><code>{html.escape(name)}</code></h{level}>'
    signature = _signature(value)
    if signature:
        shown = f"{name.rpartition('.')[2]}{signature}"
        yield f"<p><code>{html.escape(shown)}</code></p>"
    if first:
        yield f"<p>{html.escape(' '.join(first.split()))}</p>"
    if rest:
        summary = f"<summary>more on {html.escape(name)}</summary>"
        yield f'<details class="text">{summary}<pre>{html.escape(rest)}</pre></details>'
    if isinstance(value, ModuleType):
        for inner in sorted(getattr(value, "__all__", ())):
            yield from _entry(f"{name}.{inner}", getattr(value, inner), places, level=3)


def _signature(value: Any) -> str:
    """Return how something is called, without types; empty for what is not, or has too many."""
    if isinstance(value, ModuleType) or not callable(value):
        return ""
    if inspect.isclass(value) and issubclass(value, Exception):
        return ""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    given = [
        one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()
    ]
    bare = signature.replace(parameters=given, return_annotation=inspect.Signature.empty)
    return str(bare)
