"""Tables in Parquet files that are recognised when they are read back.

Every file carries a text about its table, a digest of that text, and in the text a digest of the
table. So a file that was cut off, altered or mixed up with another is refused; what is read is what
was written, whatever Parquet itself makes of damage. Runs and stores of runs are kept in this way.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simlib.errors import RunFileError, shown

if TYPE_CHECKING:
    import pyarrow as pa

_ABOUT = b"simlib.about"
_DIGEST = b"simlib.about.sha256"


def digest(table: pa.Table) -> str:
    """Return a digest of a table's columns: their names, types, order and values.

    Parameters
    ----------
    table : pyarrow.Table

    Returns
    -------
    str
        64 hexadecimal digits. It does not depend on how the rows are cut into chunks.
    """
    import pyarrow.types as kinds

    found = hashlib.sha256()
    for place, name in enumerate(table.column_names):
        column = table.column(place).combine_chunks()
        found.update(repr((name, len(column))).encode())
        is_whole = column.null_count == 0
        if is_whole and (kinds.is_integer(column.type) or kinds.is_floating(column.type)):
            found.update(str(column.type).encode())
            found.update(_bytes_of(column))
        elif is_whole and kinds.is_string(column.type):
            # A column of a million labels has a few different ones.
            labels = column.dictionary_encode()
            found.update(repr(labels.dictionary.to_pylist()).encode())
            found.update(_bytes_of(labels.indices))
        else:  # Parquet renames what is inside of nested types, so only the values count
            found.update(repr(column.to_pylist()).encode())
    return found.hexdigest()


def _bytes_of(column: Any) -> memoryview:
    return np.ascontiguousarray(column.to_numpy(zero_copy_only=False)).data


def as_path(path: Any) -> Path:
    """Return what a caller gives as the path of a run or a store.

    Raises
    ------
    RunFileError
        It is no path, or none that a system could have.
    """
    if not isinstance(path, str | Path) or not str(path) or "\0" in str(path):
        raise RunFileError(f"{shown(path)}: must be a path")
    return Path(path)


def write(table: pa.Table, target: Any, about: dict[str, Any]) -> None:
    """Write a table and what is to be known about it.

    Parameters
    ----------
    table : pyarrow.Table
    target : Path or file object
    about : dict
        What JSON can express. It should contain the `digest` of the table.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    from pyarrow import parquet

    text = json.dumps(about).encode()
    mark = {_ABOUT: text, _DIGEST: hashlib.sha256(text).hexdigest().encode()}
    parquet.write_table(table.replace_schema_metadata(mark), target)


def read(file: Path) -> tuple[pa.Table, dict[str, Any]]:
    """Return the table of a file that `write` wrote, and what is to be known about it.

    The caller compares `digest` with the digest that the file contains.

    Parameters
    ----------
    file : Path

    Raises
    ------
    RunFileError
        The file is none of simlib's, or was damaged.
    """
    from pyarrow import parquet

    try:
        if not file.is_file():
            raise OSError("must be a regular file")
        with parquet.ParquetFile(file) as source:
            table = source.read()
        table.validate(full=True)  # such as texts that are none, which Parquet itself reads
        metadata = table.schema.metadata or {}
        text = metadata.get(_ABOUT, b"")
        is_ours = metadata.get(_DIGEST) == hashlib.sha256(text).hexdigest().encode()
        about = json.loads(text) if is_ours else None
    except Exception as error:  # a reader of damaged files may run into anything
        what = " ".join(str(error).split()) or type(error).__name__
        raise RunFileError(f"{file}: not written by simlib ({what[:200]})") from None
    if not isinstance(about, dict):
        rule = "damaged, or written by another program or an older simlib"
        raise RunFileError(f"{file}: not as simlib wrote it: {rule}")
    return table, about
