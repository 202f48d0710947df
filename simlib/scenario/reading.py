"""Text files that a user names: only regular files are read, and none beyond a size.

A device or a pipe would be read for ever, and some parsers take minutes and gigabytes for a file of
some megabytes. So every reader of scenarios, plans, traces and lists of users reads through here.
"""

from __future__ import annotations

from pathlib import Path

from simlib.errors import ScenarioError

MOST_BYTES = 2**18
"""The largest file of settings."""
MOST_DATA_BYTES = 2**30
"""The largest file of data: a trace of changes, or a list of users."""


def read_text(path: Path, what: str, most_bytes: int, *, label: str | None = None) -> str:
    r"""Return the text of a file; its lines end in ``\n``, and it begins without a mark.

    Parameters
    ----------
    path : Path
    what : str
        What the file should be, for the error's text, such as ``TOML file``.
    most_bytes : int
        The size beyond which it is not read.
    label : str, optional
        What errors call it; absent: its name.

    Raises
    ------
    ScenarioError
        There is no such file, it is not a regular file or too large, or it is not UTF-8.
    """
    label = label or path.name or str(path)
    try:
        if path.exists() and not path.is_file():
            raise ScenarioError(label, str(path), "must be a regular file")
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except FileNotFoundError:
        raise ScenarioError(label, str(path), f"must be an existing {what}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, ScenarioError):
            raise
        rule = f"must be a file that can be read ({error})"
        raise ScenarioError(label, str(path), rule) from None
    if len(data) > most_bytes:
        raise ScenarioError(label, str(path), f"must have at most {most_bytes} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ScenarioError(label, str(path), f"must be UTF-8 text ({error})") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
