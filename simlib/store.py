"""The totals of finished runs, kept on disk, so that an interrupted sweep can go on.

A run is found by its inputs: the scenario's content, seed, replication, engine, and the sources of
the rules and engines. So an old result is not used after a rule has changed, and a stored result is
the one that a new run would give. Each run is one small Parquet file, which appears whole or not at
all, even if the process that writes it is killed.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from simlib.errors import RunFileError
from simlib.run import files

_PACKAGE = Path(__file__).parent
_SHOWS = ("figures", "publish", "theory")
"""Packages on which no result of a run depends."""


@cache
def version() -> str:
    """Return a digest of the sources that a run's results depend on."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        if path.relative_to(_PACKAGE).parts[0] not in _SHOWS:
            digest.update(path.read_bytes())
    return digest.hexdigest()


class Store:
    """A folder of finished runs.

    Parameters
    ----------
    path : str or Path
        The folder, made when the first run is kept.

    Raises
    ------
    RunFileError
        The path cannot be a folder: it exists as something else, or lies under a file.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = Store(folder)
    ...     store.keep("0" * 32, [{"clients": 5, "ledger": [3, 2, 0, 1, 0]}])
    ...     store.find("0" * 32), store.find("1" * 32), len(store)
    ([{'clients': 5, 'ledger': [3, 2, 0, 1, 0]}], None, 1)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = files.as_path(path)
        try:
            # The part of the path that exists already: the folder, or the nearest one above it.
            places = (self.path, *self.path.parents)
            there = next(place for place in places if place.exists() or place.is_symlink())
            is_folder = there.is_dir()
        except (OSError, ValueError) as error:
            raise RunFileError(f"{self.path}: cannot be a folder ({error})") from None
        if not is_folder:
            raise RunFileError(f"{self.path}: must be a folder, but {there} is none")

    def __len__(self) -> int:
        return sum(1 for _ in self.path.glob("??/*.parquet"))

    @staticmethod
    def key(scenario_hash: str, seed: int, replication: int, engine: str) -> str:
        """Return the name under which a run is kept: 32 hexadecimal digits."""
        parts = (scenario_hash, seed, replication, engine, version())
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]

    def find(self, key: str) -> list[dict[str, Any]] | None:
        """Return the rows that were kept under a key, or None.

        Raises
        ------
        RunFileError
            The file exists and cannot be read.
        """
        file = self._file(key)
        if not file.exists():
            return None
        try:
            table, about = files.read(file)
        except RunFileError as error:
            raise RunFileError(f"{error}; remove it") from None
        if about != _about(key, table):
            raise RunFileError(f"{file}: not as simlib wrote it for this run, remove it")
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows

    def keep(self, key: str, rows: list[dict[str, Any]]) -> None:
        """Keep a finished run's rows.

        Raises
        ------
        RunFileError
            The file cannot be written.
        """
        import pyarrow as pa

        file = self._file(key)
        table = pa.Table.from_pylist(rows)
        # Arrow calls Python for each piece that it writes to a file of Python's, and once for all.
        content = pa.BufferOutputStream()
        try:
            files.write(table, content, _about(key, table))
            file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.path, suffix=".part", delete=False) as part:
                try:
                    part.write(content.getvalue())
                except BaseException:
                    Path(part.name).unlink()
                    raise
            Path(part.name).replace(file)
        except OSError as error:
            raise RunFileError(f"{file}: cannot be written ({error})") from None

    def _file(self, key: str) -> Path:
        return self.path / key[:2] / f"{key}.parquet"


def kept(
    folder: Path | None,
    key: Callable[[], str],
    make: Callable[[], list[dict[str, Any]] | None],
) -> list[dict[str, Any]] | None:
    """Return the rows of a run that a store has, or else make and keep them.

    Parameters
    ----------
    folder : Path or None
        The store's; None: there is no store, and nobody asks for the key.
    key : callable
        Returns the key of the run.
    make : callable
        Runs it; None: it was interrupted, and nothing is kept.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     kept(Path(folder), lambda: "0" * 32, lambda: [{"clients": 5}])
    ...     kept(Path(folder), lambda: "0" * 32, lambda: None)
    [{'clients': 5}]
    [{'clients': 5}]
    """
    if folder is None:
        return make()
    store, name = Store(folder), key()
    rows = store.find(name)
    if rows is None:
        rows = make()
        if rows is not None:
            store.keep(name, rows)
    return rows


def _about(key: str, table: Any) -> dict[str, Any]:
    """What a file says about itself, by which it is recognised."""
    return {"key": key, "digest": files.digest(table)}
