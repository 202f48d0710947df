"""The totals of finished runs, kept on disk, so that an interrupted sweep can go on.

A run is found by its inputs: the scenario's content, seed, replication, engine, and the sources of
the rules and engines. So an old result is not used after a rule has changed, and a stored result is
the one that a new run would give. Runs that finish within a second are kept in one Parquet file,
which appears whole or not at all, even if the process that writes it is killed. A thread writes it,
so that no run waits for a file.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from simlib.errors import RunFileError
from simlib.run import files

if TYPE_CHECKING:
    import pyarrow as pa

_PACKAGE = Path(__file__).parent
_SHOWS = ("cli", "figures", "publish", "theory")
"""Packages on which no result of a run depends."""
_BATCH_S = 1.0
"""For so long at most a finished run is not kept yet, seconds."""

Rows = list[dict[str, Any]]


@cache
def version() -> str:
    """Return a digest of the sources that a run's results depend on."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        if path.relative_to(_PACKAGE).parts[0] not in _SHOWS:
            digest.update(path.read_bytes())
    return digest.hexdigest()


class Store:
    """A folder of finished runs, a file for those that finished within a second of each other.

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
    ...     store.keep({"0" * 32: [{"clients": 5, "ledger": (3, 2, 0, 1, 0)}]})
    ...     store.find("0" * 32), store.find("1" * 32), len(store)
    ([{'clients': 5, 'ledger': [3, 2, 0, 1, 0]}], None, 1)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = files.as_path(path)
        self._found: dict[str, Rows] | None = None
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
        return len(self._read())

    @staticmethod
    def key(scenario_hash: str, seed: int, replication: int, engine: str) -> str:
        """Return the name under which a run is kept: 32 hexadecimal digits."""
        parts = (scenario_hash, seed, replication, engine, version())
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]

    def find(self, key: str) -> Rows | None:
        """Return the rows that were kept under a key, or None.

        The files are read when the first run is looked for.

        Raises
        ------
        RunFileError
            A file exists and cannot be read.
        """
        if self._found is None:
            self._found = self._read()
        return self._found.get(key)

    def keep(self, runs: Mapping[str, Rows]) -> None:
        """Keep the rows of finished runs by their keys, in one file.

        Raises
        ------
        RunFileError
            The file cannot be written.
        """
        import pyarrow as pa

        texts = [json.dumps(rows, default=_plain) for rows in runs.values()]
        table = pa.table({"run": list(runs), "rows": texts})
        file = self._folder / f"{_name_of(list(runs))}.parquet"
        # Arrow calls Python for each piece that it writes to a file of Python's, and once for all.
        content = pa.BufferOutputStream()
        try:
            files.write(table, content, {"digest": files.digest(table)})
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
        if self._found is not None:
            self._found.update(runs)

    @property
    def _folder(self) -> Path:
        """Where this version's runs are: nobody looks for those of another."""
        return self.path / version()[:16]

    def _read(self) -> dict[str, Rows]:
        found: dict[str, Rows] = {}
        for file in sorted(self._folder.glob("*.parquet")):
            try:
                table, about = files.read(file)
            except RunFileError as error:
                raise RunFileError(f"{error}; remove it") from None
            found.update(_runs_of(file, table, about))
        return found


def _runs_of(file: Path, table: pa.Table, about: dict[str, Any]) -> Iterator[tuple[str, Rows]]:
    """Return the runs of a file, each with its key."""
    if about != {"digest": files.digest(table)} or table.column_names != ["run", "rows"]:
        raise RunFileError(f"{file}: not as simlib wrote it, remove it")
    keys, texts = (column.to_pylist() for column in table.columns)
    if file.stem != _name_of(keys):
        raise RunFileError(f"{file}: not as simlib wrote it for these runs, remove it")
    return zip(keys, map(json.loads, texts), strict=True)


def _name_of(keys: list[str]) -> str:
    return hashlib.sha256("".join(keys).encode()).hexdigest()[:32]


def _plain(number: Any) -> Any:
    """Return one of NumPy's numbers as one of Python's, which JSON knows."""
    return number.item()


class Keeping(NamedTuple):
    """How finished tasks are kept.

    Attributes
    ----------
    store : Store
    key_of : callable
        Returns the key of a task.
    """

    store: Store
    key_of: Callable[[Any], str]

    def find(self, tasks: Mapping[Any, Any]) -> Iterator[tuple[Any, Rows]]:
        """Yield those of some tasks that the store has: their places, and their rows."""
        for place, task in tasks.items():
            rows = self.store.find(self.key_of(task))
            if rows is not None:
                yield place, rows


class Keeper:
    """Keeps runs as they finish: a thread writes those of a second in one file.

    In a ``with`` block; at its end all are written, whatever ended it.

    Parameters
    ----------
    keeping : Keeping

    Raises
    ------
    RunFileError
        By `keep`, or at the end: a file could not be written.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Keeper(Keeping(Store(folder), lambda task: task * 32)) as keeper:
    ...         keeper.keep("0", [{"clients": 5}])
    ...         keeper.keep("1", [{"clients": 6}])
    ...     Store(folder).find("1" * 32)
    [{'clients': 6}]
    """

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping
        self._runs: dict[str, Rows] = {}
        self._error: BaseException | None = None
        self._has_some, self._is_over = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._writer = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> Self:
        self._writer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: Any, _where: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._has_some.set()
        self._writer.join()
        if self._error is not None and (kind is None or issubclass(kind, KeyboardInterrupt)):
            raise self._error

    def keep(self, task: Any, rows: Rows) -> None:
        """Keep the rows of a finished task."""
        if self._error is not None:
            raise self._error
        with self._lock:
            self._runs[self._keeping.key_of(task)] = rows
        self._has_some.set()

    def _write(self) -> None:
        try:
            is_over = False
            while not is_over:
                self._has_some.wait()
                self._has_some.clear()
                is_over = self._is_over.wait(_BATCH_S)  # for others that finish meanwhile
                with self._lock:
                    runs, self._runs = self._runs, {}
                if runs:
                    self._keeping.store.keep(runs)
        except BaseException as error:
            self._error = error
