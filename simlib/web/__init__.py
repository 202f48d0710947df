"""Pages that simulate: an explorer is a cell's output, and the same rules run in the page."""

from simlib.web.explorer import Explorer, explorer

__all__ = ["Explorer", "explorer"]
