"""Mutated inputs, by the thousand: nothing may be wrong in silence, nothing may fail rawly.

``python -m tests.mutations`` mutates saved runs, scenarios, plans and the arguments of `replace`,
from seeds, and prints how each kind ended, the most processor time and the most memory. It is run
by hand; the tests take a few of each kind. Whatever is mutated, the outcome is the same result as
before, a valid other one, or an error of simlib's.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import itertools
import json
import random
import re
import shutil
import sys
import tempfile
import threading
import time
import types
from collections import Counter, OrderedDict
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

import simlib as sl
from simlib.core.protocol import Transport
from simlib.scenario.fields import Section

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


# -- values and texts -----------------------------------------------------------------------------


class _Raises:
    """It raises whenever anything is asked of it."""

    def _no(self, *_: object) -> Any:
        raise RuntimeError("nothing may be asked of this")

    __repr__ = __str__ = __eq__ = __hash__ = __bool__ = __len__ = __iter__ = _no  # type: ignore[assignment]
    __float__ = __int__ = __index__ = __lt__ = __deepcopy__ = __reduce_ex__ = _no  # type: ignore[assignment]


def _nested(kind: type, depth: int = 5000) -> Any:
    value: Any = kind()
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    return value


def _cycle(kind: type) -> Any:
    value: Any = kind()
    if kind is list:
        value.append(value)
    else:
        value["a"] = value
    return value


def _shared() -> Any:
    """A list that is small in memory and huge when it is written out."""
    value: Any = ["x"]
    for _ in range(30):
        value = [value] * 10
    return value


ODD: dict[str, Callable[[], Any]] = {
    "a module": lambda: sys,
    "a generator": lambda: (n for n in range(3)),
    "a memoryview": lambda: memoryview(b"abc"),
    "a function": lambda: _nested,
    "a class": lambda: dict,
    "an object": object,
    "an object that raises": _Raises,
    "a list of such": lambda: [_Raises()],
    "a table of such": lambda: {"a": _Raises()},
    "a deep list": lambda: _nested(list),
    "a deep table": lambda: _nested(dict),
    "a list in itself": lambda: _cycle(list),
    "a table in itself": lambda: _cycle(dict),
    "a list that explodes": _shared,
    "a long list": lambda: [1.0] * 200_000,
    "an endless iterator": itertools.count,
    "a range": lambda: range(10**12),
    "a set": lambda: {1, 2},
    "a view": lambda: {"a": 1}.keys(),
    "a proxy": lambda: types.MappingProxyType({"a": 1}),
    "an ordered table": lambda: OrderedDict(a=1),
    "an array": lambda: np.arange(3.0),
    "a number of numpy's": lambda: np.float64(5.0),
    "a whole number of numpy's": lambda: np.int64(5),
    "a frame": lambda: pd.DataFrame({"a": [1]}),
    "no time": lambda: pd.NaT,
    "a lock": threading.Lock,
    "a file": lambda: sys.stderr,
    "an error": lambda: ValueError("x"),
    "bytes": lambda: b"x" * 1000,
    "a decimal": lambda: Decimal("NaN"),
    "a fraction": lambda: Fraction(1, 3),
    "a complex number": lambda: 1j,
    "a day": lambda: dt.date(2026, 1, 1),
    "a path": lambda: Path("x"),
    "a member": lambda: Transport.POLLING,
    "no number": lambda: float("nan"),
    "infinity": lambda: -float("inf"),
    "a huge number": lambda: 10**5000,
    "a huge float": lambda: 1e308,
    "the least float": lambda: 5e-324,
    "a large size": lambda: "1 GiB",
    "a long time": lambda: "3650 d",
    "a long text": lambda: "x" * 1_000_000,
    "digits": lambda: "9" * 100_000 + " s",
    "a lone surrogate": lambda: "\ud800",
    "a NUL": lambda: "a\0b",
    "an empty text": str,
    "an ellipsis": lambda: ...,
    "a scenario": lambda: BOARD,
    "a plan": lambda: PLAN,
    "a section": lambda: BOARD.polling,
    "true": lambda: True,
    "nothing": lambda: None,
    "zero": lambda: 0,
    "minus one": lambda: -1,
    "one and a half": lambda: 1.5,
    "texts": lambda: ["a", "b"],
    "numbers as keys": lambda: {1: 2},
    "tables": lambda: [{"kind": "reset", "start_s": 5.0}, {"percent": 5, "bake_s": "1 h"}],
}
"""Makers of values that hardly anybody passes, by what they are."""


def paths_of(whole: Any, before: str = "") -> list[str]:
    """Return the dotted paths of the fields of a scenario or a plan, with ``*`` for each item."""
    paths = []
    for name in type(whole).model_fields:
        value, path = getattr(whole, name), f"{before}{name}"
        paths.append(path)
        if isinstance(value, Section):
            paths += paths_of(value, f"{path}.")
        elif isinstance(value, tuple) and value and isinstance(value[0], Section):
            paths += paths_of(value[0], f"{path}.*.")
    return paths


_TOKENS = (
    *("0", "-1", "1e400", "nan", "-inf", "true", "null", "~", "[]", "{}", "[1, 2]", "{a = 1}"),
    *('"1 GiB"', '"10 s"', '"x"', "1979-05-27", "0x1F", "1_000", "9" * 5000, "1:1:1", "\ufeff"),
    *(
        '"',
        "'",
        '"""',
        "'''",
        "\\",
        "\0",
        "\t",
        "\r",
        "\n",
        "#",
        "=",
        ":",
        ",",
        "- ",
        "é",
        "\U0001f600",
    ),
    *(
        "[",
        "]",
        "{",
        "}",
        "[[",
        "]]",
        "&a ",
        "*a",
        "<<: ",
        "!!python/object:os.system ",
        "---\n",
        "%",
    ),
    *("[" * 3000, "{a=" * 3000, "a." * 200 + "a = 1\n", "a." * 20_000 + "a = 1\n", "x" * 100_000),
    *("a = 1\n" * 20_000, "[[faults]]\n" * 5000, "- a: 1\n" * 20_000, "1, " * 60_000),
)


def _mutated_text(text: str, dice: random.Random) -> bytes:
    """Change a text in some places, now and then to something that is no text any more."""
    for _ in range(dice.choice([1, 1, 1, 2, 3, 8])):
        lines = text.split("\n")
        row, place = dice.randrange(len(lines)), dice.randrange(len(text) + 1)
        change = dice.choice(
            ["token", "value", "char", "cut", "drop", "double", "swap", "key", "repeat"]
        )
        if change == "token":
            text = text[:place] + dice.choice(_TOKENS) + text[place:]
        elif change == "value":
            text = _with_value(text, dice.choice(_TOKENS), dice)
        elif change == "char":
            text = (
                text[:place]
                + chr(dice.choice([dice.randrange(128), dice.randrange(0xD7FF)]))
                + text[place + 1 :]
            )
        elif change == "cut":
            text = text[: min(place, len(text))] + text[dice.randint(place, len(text)) :]
        elif change == "key":
            text = text.replace(dice.choice(re.findall(r"\w+", text) or ["a"]), "other", 1)
        else:
            other = dice.randrange(len(lines))
            if change == "drop":
                del lines[row]
            elif change == "double":
                lines.insert(other, lines[row])
            elif change == "repeat":
                lines[row:row] = [lines[row]] * dice.choice([10, 1000])
            else:
                lines[row], lines[other] = lines[other], lines[row]
            text = "\n".join(lines)
        text = text[: 2**19]
    data = text.encode("utf-8", "surrogatepass")
    if dice.random() < 0.05 and data:
        place = dice.randrange(len(data))
        data = data[:place] + bytes([dice.randrange(256)]) + data[place + 1 :]
    return data


def _with_value(text: str, token: str, dice: random.Random) -> str:
    """Put a token in the place of one of a text's values."""
    values = list(re.finditer(r"(?<=[=:] )[^\n]+", text))
    if not values:
        return text + token
    one = dice.choice(values)
    return text[: one.start()] + token + text[one.end() :]


def _mutated_changes(base: Any, paths: list[str], dice: random.Random) -> Any:
    """Return arguments of a `replace`: mostly one odd value at one path, or odd paths."""
    if dice.random() < 0.02:
        return ODD[dice.choice(list(ODD))]()
    changes: dict[Any, Any] = {}
    for _ in range(dice.choice([1, 1, 1, 2, 3])):
        path: Any = dice.choice(paths)
        if dice.random() < 0.1:
            path = dice.choice(
                [
                    *(path + ".x", path[1:], path.upper(), "", ".", "*", "stages.9"),
                    *("x" * 100_000, "stages." + "9" * 5000, "a" + ".a" * 5000),
                    *("treatment.changes.clients", ".changes.a", 5, None, b"name", ("a", "b"), 1.5),
                ]
            )
        try:
            changes[path] = ODD[dice.choice(list(ODD))]()
        except TypeError:
            continue
    return changes


# -- one attempt, measured ------------------------------------------------------------------------


class Attempt(NamedTuple):
    """How an attempt ended, and what it took."""

    outcome: str
    detail: str
    took_s: float
    took_bytes: float


def attempt(call: Callable[[], Any]) -> Attempt:
    """Carry out a call whose result is a scenario, a plan or an error."""
    before = _memory("VmRSS", reset=True)
    began_s = time.process_time()  # of this process alone, however busy the machine
    try:
        made = call()
        made.dump()
        outcome, detail = "valid", ""
    except sl.SimlibError as error:
        outcome, detail = type(error).__name__, str(error)[:200]
        if len(str(error)) > 2500:
            outcome = "long error"
    except Exception as error:
        outcome, detail = "raw error", f"{type(error).__name__}: {str(error)[:300]}"
    took_s = time.process_time() - began_s
    return Attempt(outcome, detail, took_s, _memory("VmHWM") - before)


def _memory(name: str, *, reset: bool = False) -> float:
    """The memory of this process now or at its peak since the reset, bytes; 0 but on Linux."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    [line] = [line for line in status.read_text("ascii").splitlines() if line.startswith(name)]
    return float(line.split()[1]) * 1024


def _texts(ending: str) -> list[str]:
    """The files of the project that end so, and what simlib writes itself."""
    folder = Path(__file__).parents[1] / "data"
    kind = "scenarios" if ending == "scenario" else "plans"
    suffix = {"scenario": "toml", "plan": "toml"}.get(ending, ending)
    texts = [path.read_text("utf-8") for path in sorted((folder / kind).glob(f"*.{suffix}"))]
    if ending == "scenario":
        faults = [
            {"kind": "reset", "start_s": 5.0},
            {"kind": "restart", "start_s": 9.0, "length_s": 2.0},
        ]
        texts.append(BOARD.replace(faults=faults, fallback={"after_failures": 3}).dump())
    elif ending == "plan":
        texts.append(PLAN.dump())
    return texts


def try_text(kind: str, number: int, folder: Path) -> Attempt:
    """Load a mutated file: ``scenario``, ``plan``, ``yaml`` or ``json``."""
    dice = random.Random(f"{kind} {number}")
    path = folder / ("x.toml" if kind in ("scenario", "plan") else f"x.{kind}")
    path.write_bytes(_mutated_text(dice.choice(_texts(kind)), dice))
    if kind == "scenario":
        return attempt(lambda: sl.Scenario.load(path))
    options = {} if kind == "plan" else {"flag": {"propagation": "pushed"}, "gate_s": 60}
    return attempt(lambda: sl.Plan.load(path, **options))


def try_replace(kind: str, number: int) -> Attempt:
    """Replace fields of a ``Scenario`` or a ``Plan`` by odd values."""
    dice = random.Random(f"{kind} {number}")
    if kind == "Scenario":
        bases = [BOARD, BOARD.replace(fallback={}, drag={"every_s": 60, "length_s": 3})]
        base = dice.choice(bases)
    else:
        base = dice.choice(
            [PLAN, PLAN.replace(guardrails=[{"metric": "latency_p95_s", "below": 1}])]
        )
    changes = _mutated_changes(base, paths_of(base), dice)
    return attempt(lambda: base.replace(changes))


KINDS = {
    "scenario": ("Scenario.load, TOML", 12_000),
    "plan": ("Plan.load, TOML", 3_000),
    "yaml": ("Plan.load, YAML", 3_500),
    "json": ("Plan.load, JSON", 1_500),
    "Scenario": ("Scenario.replace", 20_000),
    "Plan": ("Plan.replace", 4_000),
}
"""What is mutated beside runs, and how often the script does it."""


def of_settings(kind: str, count: int) -> list[Attempt]:
    """Make `count` attempts of a kind; those that fail rawly or take long are reported."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        for number in range(count):
            is_text = kind in ("scenario", "plan", "yaml", "json")
            one = try_text(kind, number, Path(name)) if is_text else try_replace(kind, number)
            found.append(one)
            if (
                "raw" in one.outcome
                or "long" in one.outcome
                or one.took_s > 2
                or one.took_bytes > 2e8
            ):
                sys.stderr.write(f"{kind} {number}: {one}\n")
    return found


def main() -> None:
    """Mutate, and print the tables of outcomes."""
    parser = argparse.ArgumentParser(description="Mutated inputs, by the thousand.")
    parser.add_argument("--runs", type=int, default=2000, help="saved runs")
    parser.add_argument("--share", type=float, default=1.0, help="of the other kinds' numbers")
    options = parser.parse_args()
    say = sys.stdout.write
    for kind, (title, number) in KINDS.items():
        found = of_settings(kind, int(number * options.share))
        counts = Counter(one.outcome for one in found)
        says = ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items()))
        worst = max(found, key=lambda one: one.took_s).took_s
        most = max(one.took_bytes for one in found) / 1e6
        say(
            f"{title:20} {len(found):6}: {says}; longest {worst:.2f} s of CPU, most {most:.0f} MB\n"
        )
        sys.stdout.flush()
    for (kind, outcome), n in sorted(of_runs(options.runs).items()):
        say(f"{'Run.load':20} {n:6}: {kind}: {outcome}\n")


if __name__ == "__main__":
    main()
