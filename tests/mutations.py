"""Mutated inputs, by the thousand: nothing may be wrong in silence, nothing may fail rawly.

``python -m tests.mutations`` mutates saved runs, scenarios, plans and the arguments of `replace`,
from seeds, and prints how each kind ended, the longest time and the most memory. It is run by hand;
the tests take a few of each kind. Whatever is mutated, the outcome is the same result as before, a
valid other one, or an error of simlib's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

import simlib as sl

Tables = dict[str, pa.Table]

# -- saved runs -----------------------------------------------------------------------------------

BOARD = sl.Scenario(updates={"rate_per_s": 0.5}, clients=8, horizon_s=130.0, ramp_s=5.0, bin_s=10.0)
PLAN = sl.Plan(
    flag={"propagation": "pushed"},
    stages=[{"percent": 50, "bake_s": 60}, {"percent": 100, "bake_s": 60}],
)
OPTIONAL = ("deliveries", "events", "exposures")


def saved_runs(folder: Path) -> dict[str, Path]:
    """Save small runs of each kind below a folder, and return where they are."""
    kept = ("deliveries", "events")
    push = BOARD.replace(transport="websocket")
    runs = {
        "polling": sl.simulate(BOARD, progress=False),
        "again": sl.simulate(BOARD, seed=2, progress=False),
        "kept": sl.simulate(push, keep=kept, progress=False),
        "rollout": sl.roll_out(PLAN, BOARD, engine="simpy", keep=kept, progress=False).run,
    }
    return {name: run.save(folder / name) for name, run in runs.items()}


def copy_of(folder: Path, target: Path) -> Path:
    """Copy a saved run."""
    return shutil.copytree(folder, target)


def _file(folder: Path, dice: random.Random) -> Path:
    return dice.choice(sorted(folder.glob("*.parquet")))


def _flip(folder: Path, dice: random.Random, _: dict[str, Path]) -> None:
    file = _file(folder, dice)
    data = bytearray(file.read_bytes())
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    file.write_bytes(data)


def _bytes(folder: Path, dice: random.Random, _: dict[str, Path]) -> None:
    file = _file(folder, dice)
    data = bytearray(file.read_bytes())
    start = dice.randrange(len(data))
    for place in range(start, min(len(data), start + dice.randint(1, 100))):
        data[place] = dice.randrange(256)
    file.write_bytes(data)


def _cut(folder: Path, dice: random.Random, _: dict[str, Path]) -> None:
    file = _file(folder, dice)
    data = file.read_bytes()
    start, end = sorted((dice.randrange(len(data)), dice.randrange(len(data))))
    file.write_bytes(dice.choice([data[:start], data[end:], data[:start] + data[end:]]))


def _other_file(folder: Path, dice: random.Random, _: dict[str, Path]) -> None:
    file = _file(folder, dice)
    file.unlink()
    what = dice.choice(["", "text", "folder", "gone", "loop", "other.parquet"])
    if what == "folder":
        file.mkdir()
    elif what == "loop":
        file.symlink_to(file)
    elif what == "other.parquet":
        parquet.write_table(pa.table({"a": [1, 2]}), file)
    elif what != "gone":
        file.write_text(what)


def _rows(folder: Path, dice: random.Random, _: dict[str, Path]) -> None:
    file = _file(folder, dice)
    table = _read(file)
    rows = list(range(len(table)))
    for _ in range(dice.randint(1, 3)):
        if not rows:
            break
        place = dice.randrange(len(rows))
        change = dice.choice(["drop", "double", "swap"])
        if change == "drop":
            del rows[place]
        elif change == "double":
            rows.insert(place, rows[place])
        else:
            other = dice.randrange(len(rows))
            rows[place], rows[other] = rows[other], rows[place]
    _write(file, table.take(pa.array(rows, pa.int64())))


def _swap(folder: Path, dice: random.Random, saved: dict[str, Path]) -> None:
    one = _file(folder, dice)
    other = dice.choice([_file(folder, dice), _file(saved[dice.choice(sorted(saved))], dice)])
    same = saved[dice.choice(sorted(saved))] / one.name
    other = same if dice.random() < 0.3 and same.exists() else other
    data, theirs = one.read_bytes(), other.read_bytes()
    one.write_bytes(theirs)
    if other.parent == folder and dice.random() < 0.5:
        other.write_bytes(data)


def _optional(folder: Path, dice: random.Random, saved: dict[str, Path]) -> None:
    name = f"{dice.choice(OPTIONAL)}.parquet"
    if (folder / name).exists():
        (folder / name).unlink()
    else:
        source = dice.choice([path for path in saved.values() if (path / name).exists()])
        shutil.copy(source / name, folder / name)


def _columns(folder: Path, dice: random.Random, _: dict[str, Path]) -> None:
    file = _file(folder, dice)
    table = _read(file)
    place = dice.randrange(len(table.column_names))
    name, rows = table.column_names[place], len(table)
    change = dice.choice(["gone", "renamed", "twice", "moved", "text", "null", "nan", "cast"])
    if change == "gone":
        table = table.drop_columns([name])
    elif change == "renamed":
        names = list(table.column_names)
        names[place] = dice.choice([*names, "x"])
        table = table.rename_columns(names)
    elif change == "twice":
        table = table.append_column(name, table.column(place))
    elif change == "moved":
        table = table.select(dice.sample(table.column_names, len(table.column_names)))
    elif change == "cast":
        kind = dice.choice([pa.float32(), pa.int8(), pa.int64(), pa.string(), pa.float64()])
        with contextlib.suppress(pa.ArrowException):
            table = table.set_column(place, name, table.column(place).cast(kind))
    else:
        value = {"text": "many", "null": None, "nan": float("nan")}[change]
        table = table.set_column(place, name, pa.array([value] * rows))
    _write(file, table)


def _values(folder: Path, dice: random.Random, _: dict[str, Path]) -> None:
    file = _file(folder, dice)
    table = _read(file)
    place = dice.randrange(len(table.column_names))
    values = table.column(place).to_pylist()
    if values:
        row = dice.randrange(len(values))
        old = values[row]
        values[row] = "all" if isinstance(old, str) else dice.choice([0, 1, -1, old + 1])
    column = pa.array(values, table.column(place).type, from_pandas=False)
    _write(file, table.set_column(place, table.column_names[place], column))


def _provenance(folder: Path, dice: random.Random, _: dict[str, Path]) -> None:
    whole = dice.random() < 0.7
    files = sorted(folder.glob("*.parquet"))
    what = dice.choice(["seed", "engine", "replication", "versions", "scenario_hash", "scenario"])
    change = dice.choice(["value", "value", "gone", "no mark", "no text", "text"])
    for file in files if whole else [dice.choice(files)]:
        table = _read(file)
        metadata = dict(table.schema.metadata)
        about = json.loads(metadata[b"simlib.about"])
        place = about if what == "scenario" else about["provenance"]
        if change == "value":
            old = str(place[what])
            place[what] = f"{old}\nclients = 9" if what == "scenario" else 7
        elif change == "gone":
            del place[what]
        metadata[b"simlib.about"] = json.dumps(about).encode()
        if change == "text":
            metadata[b"simlib.about"] = dice.choice([b"", b"[]", b"{", b"\xff", b"null"])
        elif change.startswith("no"):
            del metadata[b"simlib.about" + (b".sha256" if change == "no mark" else b"")]
        parquet.write_table(table.replace_schema_metadata(metadata), file)


def _read(file: Path) -> pa.Table:
    with parquet.ParquetFile(file) as source:
        return source.read()


def _write(file: Path, table: pa.Table) -> None:
    """Write a changed table, with what simlib wrote about it before."""
    parquet.write_table(table, file)


OF_RUNS: dict[str, Callable[[Path, random.Random, dict[str, Path]], None]] = {
    "one bit": _flip,
    "some bytes": _bytes,
    "cut": _cut,
    "another file": _other_file,
    "rows": _rows,
    "tables swapped": _swap,
    "optional tables": _optional,
    "columns": _columns,
    "values": _values,
    "provenance": _provenance,
}
"""What is done to a saved run, by the name of the kind."""


def load_mutated(
    saved: dict[str, Path], kind: str, number: int, folder: Path
) -> tuple[str, str | None]:
    """Copy a saved run to a folder, mutate it, load it, and say how that ended."""
    dice = random.Random(f"{kind} {number}")
    source = saved[dice.choice(sorted(saved))]
    copy_of(source, folder)
    OF_RUNS[kind](folder, dice, saved)
    before = sl.Run.load(source)
    try:
        run = sl.Run.load(folder)
    except sl.RunFileError:
        return "RunFileError", None
    except Exception as error:
        return "raw error", repr(error)
    return ("equal" if _same(run, before) else "other numbers"), None


def _same(run: sl.Run, before: sl.Run) -> bool:
    names = list(before._tables)
    return (
        run.scenario == before.scenario
        and run.provenance == before.provenance
        and list(run._tables) == names
        and all(run.frame(name).equals(before.frame(name)) for name in names)
    )


def of_runs(count: int) -> Counter[tuple[str, str]]:
    """Load `count` mutated runs of all kinds in turn."""
    found: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        saved = saved_runs(folder / "saved")
        for number in range(count):
            kind = list(OF_RUNS)[number % len(OF_RUNS)]
            outcome, detail = load_mutated(saved, kind, number, folder / "mutated")
            found[kind, outcome] += 1
            if outcome not in ("equal", "RunFileError"):
                sys.stderr.write(f"{kind} {number}: {outcome} {detail}\n")
            shutil.rmtree(folder / "mutated")
    return found


def main() -> None:
    """Mutate, and print the tables of outcomes."""
    parser = argparse.ArgumentParser(description="Mutated inputs, by the thousand.")
    parser.add_argument("--runs", type=int, default=2000)
    options = parser.parse_args()
    for (kind, outcome), n in sorted(of_runs(options.runs).items()):
        sys.stdout.write(f"run files  {kind:20} {outcome:20} {n:6}\n")


if __name__ == "__main__":
    main()
