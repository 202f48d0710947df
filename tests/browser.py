"""Look at rendered pages in a real browser without a network: are the figures really drawn?

Used by the tests of `simlib.publish.render`. By hand, for pages that `make report` wrote::

    .venv/bin/python tests/browser.py build/report/*.html
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from bs4 import BeautifulSoup, Tag
from PIL import Image

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
WIDTH, HEIGHT = 1200, 9000
LIMIT_S = 90

Colour = tuple[int, int, int]


@dataclass
class Drawing:
    """One figure as the browser drew it: how many marks, and in which opaque colours."""

    name: str
    marks: int
    colours: set[Colour] = field(default_factory=set)


def run(page: Path, folder: Path, *what: str) -> str:
    """Open a page in headless Chromium, with every host name unknown and a profile of its own."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            [
                CHROMIUM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
                "--hide-scrollbars",
                "--force-device-scale-factor=1",
                "--force-color-profile=srgb",
                "--host-resolver-rules=MAP * ~NOTFOUND",
                f"--user-data-dir={profile}",
                f"--window-size={WIDTH},{HEIGHT}",
                "--virtual-time-budget=10000",
                *what,
                page.resolve().as_uri(),
            ],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=LIMIT_S,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{CHROMIUM}: {done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout.decode()


def look(page: Path, folder: Path) -> tuple[list[Drawing], np.ndarray]:
    """Return what a page shows.

    Returns
    -------
    list of Drawing
        What was drawn of each figure, in the order of the page.
    ndarray of uint8, shape (rows, columns, 3)
        A picture of the page: red, green, blue.
    """
    target = folder / f"{page.stem}.png"
    content = run(page, folder, "--dump-dom", f"--screenshot={target}")
    with Image.open(target) as picture:
        return _drawings(content), np.asarray(picture.convert("RGB"))


def _drawings(content: str) -> list[Drawing]:
    soup = BeautifulSoup(content, "html.parser")
    found = []
    for box in soup.select("div.figure"):
        # plotly.js keeps the marks of each kind of trace in a layer of its own; heat maps and
        # images are drawn as pictures.
        marks = box.select(".mlayer path, .mlayer circle, .mlayer image, .pielayer path")
        found.append(
            Drawing(str(box.get("id")), len(marks), {c for m in marks for c in _colours(m)})
        )
    return found


def _colours(mark: Tag) -> Iterator[Colour]:
    style = str(mark.get("style", ""))
    settings = dict(map(str.strip, part.split(":", 1)) for part in style.split(";") if ":" in part)
    for kind in ("stroke", "fill"):
        match = re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", settings.get(kind, ""))
        opacities = (settings.get("opacity", "1"), settings.get(f"{kind}-opacity", "1"))
        # A mark that lets the paper shine through has another colour on the screen.
        if match and all(float(opacity) == 1 for opacity in opacities):
            red, green, blue = map(int, match.groups())
            # White outlines and grey helpers are everywhere on a page and prove nothing.
            if max(red, green, blue) - min(red, green, blue) > 30:
                yield red, green, blue


def pixels_by_colour(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the colours of a picture, shape (colours, 3), and how many pixels have each."""
    places = (256**2, 256, 1)
    counts = np.bincount((picture @ np.array(places)).ravel())
    found = np.flatnonzero(counts)
    return np.stack([found // place % 256 for place in places], axis=1), counts[found]


def pixels_like(
    pixels: tuple[np.ndarray, np.ndarray], colour: Colour, *, tolerance: int = 12
) -> int:
    """Count the pixels that have about this colour."""
    colours, counts = pixels
    near = np.abs(colours - np.array(colour)) <= tolerance
    return int(counts[near.all(axis=1)].sum())


def problems(page: Path, folder: Path, *, figures: int | None = None) -> list[str]:
    """Say what is wrong with a page in a browser; an empty list means that all is drawn."""
    drawn, picture = look(page, folder)
    found = []
    if figures is not None and len(drawn) != figures:
        found.append(f"{page.name}: {figures} figures stored, {len(drawn)} in the page")
    pixels = pixels_by_colour(picture)
    for figure in drawn:
        where = f"{page.name}: {figure.name}"
        if not figure.marks:
            found.append(f"{where}: no trace drawn")
        elif figure.colours:
            most = max(pixels_like(pixels, colour) for colour in figure.colours)
            if most < 20:
                found.append(f"{where}: {figure.marks} marks, but only {most} coloured pixels")
    return found


def main(pages: list[str]) -> int:
    """Check pages by hand."""
    if CHROMIUM is None:
        print("no Chromium here", file=sys.stderr)
        return 1
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for page in map(Path, pages):
            found = problems(page, Path(folder))
            bad += len(found)
            print("\n".join(found) if found else f"{page}: all figures drawn")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
