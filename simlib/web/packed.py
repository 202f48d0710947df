"""What a page holds in few letters: LZMA, five letters for four bytes; `unpack.js` unpacks it.

A module of 534 kB takes 203 kB as gzip in base64, which browsers unpack by themselves, 122 kB as
LZMA in base64, and 115 kB so.
"""

from __future__ import annotations

import base64
import lzma

_FILTERS = [{"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "lc": 3, "lp": 0, "pb": 0}]
"""A page knows these numbers."""
_IN_PAGES = bytes.maketrans(b"<>&", b",/.")
"""Letters that mean something in HTML, and others in their place."""


def packed(content: bytes) -> str:
    """Return some bytes as text.

    Examples
    --------
    >>> len(packed(b"again and " * 1000))
    80
    """
    found = lzma.compress(content, format=lzma.FORMAT_RAW, filters=_FILTERS)
    whole = len(content).to_bytes(4, "little") + found + bytes(-len(found) % 4)
    return base64.b85encode(whole).translate(_IN_PAGES).decode()
