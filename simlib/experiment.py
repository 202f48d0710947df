"""More than one run: replications, named variants, sweeps, comparisons, on common draws.

A sweep is a set of independent runs. They may run one after the other, on threads, on processes,
or on a dask cluster; the results are the same. Whoever collects them keeps them in a `Store`, those
of a second at a time.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TypeVar

from simlib import progress as bars
from simlib.analysis.closed_forms import metrics_by_theory
from simlib.engines import compiling, simulate
from simlib.engines.choice import check_engine, chosen_engine
from simlib.errors import Interrupted, ScenarioError, SimlibError, shown
from simlib.processes import end_with, ending_with, terminable
from simlib.run import QUANTITIES, Rows, Run, kinds_of, metrics_of
from simlib.scenario import Scenario
from simlib.scenario.presets import library
from simlib.scenario.suggestions import METRIC_ALIASES, hint, scenario_rule
from simlib.store import Keeper, Keeping, Store

if TYPE_CHECKING:
    import pandas as pd

PLACES = ("serial", "threads", "processes")
_RETRIES = 3
_SWITCH_S = 2e-4

Key = tuple[int, int]
Changes = Mapping[str, Any]
Result = TypeVar("Result")
Work = Callable[[Any], Result | None]
Results = Iterator[tuple[Key, Result | None]]


class Changeable(Protocol):
    """A scenario or a plan."""

    def replace(self, changes: Mapping[str, Any], /) -> Self:
        """Return it with some fields changed."""


Changed = TypeVar("Changed", bound=Changeable)


class Execution(NamedTuple):
    """How tasks are carried out: where, by how many workers and which engine, with bars or not."""

    place: Any
    workers: int | None
    engine: str
    progress: bool


class Task(NamedTuple):
    """One run of a sweep."""

    scenario: Scenario
    seed: int
    replication: int
    engine: str


def replicate(
    scenario: Scenario,
    replications: int,
    *,
    seed: int = 1,
    engine: str = "auto",
    progress: bool = True,
    **options: Any,
) -> list[Run]:
    """Simulate independent replications of a scenario.

    Replication r of any two scenarios has the same publish times, sessions and user activity, so
    their difference can be taken pair by pair.

    Parameters
    ----------
    scenario : Scenario
    replications : int
        How many, >= 1: numbers 0 to replications - 1.
    seed : int, optional
    engine : str, optional
        As in `simulate`; ``"auto"`` takes one engine for all replications together.
    progress : bool, optional
        A progress bar on stderr if it takes longer than two seconds.
    **options
        Passed to `simulate`.

    Returns
    -------
    list of Run
        In order.

    Raises
    ------
    ScenarioError
    Interrupted
        After Ctrl-C or SIGTERM; its ``result`` has the complete runs.

    Examples
    --------
    >>> runs = replicate(Scenario(updates={"rate_per_s": 0.1}, clients=5, horizon_s=60), 3)
    >>> [run.provenance["replication"] for run in runs]
    [0, 1, 2]
    """
    check_count("replications", replications, 1)
    check_engine(engine)
    if isinstance(scenario, Scenario):  # or else `simulate` refuses it
        engine = chosen_engine(engine, itertools.repeat(scenario, replications))
    options |= {"seed": seed, "engine": engine, "progress": False}
    runs: list[Run] = []
    try:
        with terminable():
            with compiling(engine, is_shown=progress):
                runs.append(simulate(scenario, replication=0, **options))
            with bars.bar(replications, "replicate", "run", done=1, is_on=progress) as bar:
                for number in range(1, replications):
                    runs.append(simulate(scenario, replication=number, **options))
                    bar.update()
    except KeyboardInterrupt as stop:
        if isinstance(stop, Interrupted) and stop.result.is_complete:  # it came at the very end
            runs.append(stop.result)
        raise Interrupted(_finished(len(runs), replications), runs) from None
    return runs


def _finished(done: int, of: int) -> str:
    return f"{done} of {of} runs were finished"


def variants(
    scenario: Scenario,
    *changes: Mapping[str, Changes] | Sequence[str],
    replications: int | None = None,
    seed: int = 1,
    engine: str = "auto",
    on: Any = None,
    workers: int | None = None,
    progress: bool = True,
) -> pd.Series:
    """Simulate named variants of a scenario on common draws, and return the runs by name.

    Parameters
    ----------
    scenario : Scenario
    *changes : mapping of str to mapping, or sequence of str
        Names of variants and their changes, as `Scenario.replace` takes them; an empty change is
        the scenario as it is. A list of names stands for the client libraries of these names, as
        `library` knows them. Of several such sets every combination is run, the last set varying
        fastest; its changes come last.
    replications : int, optional
        Of each variant, >= 1: numbers 0 to replications - 1. Absent: number 0 alone.
    seed : int, optional
        One for all: every variant gets the same changes, sessions and activity.
    engine, on, workers : optional
        As in `sweep`.
    progress : bool, optional
        A progress bar on stderr if it takes longer than two seconds.

    Returns
    -------
    pandas.Series of Run
        In the order given. Its index is the variant's name (``variant``; of several sets
        ``variant_1``, ``variant_2`` and so on), and ``replication`` if there are replications. Each
        run's scenario bears that name, so that tables and figures of ``*runs`` show it.
        ``attrs["complete"]`` says whether they are all.

    Raises
    ------
    ScenarioError
        A change makes no scenario, or an argument is out of range; before anything is run.
    Interrupted
        After Ctrl-C or SIGTERM; its ``result`` has the complete runs.

    Examples
    --------
    >>> from simlib.analysis import outages
    >>> restart = {"kind": "restart", "start_s": 60, "length_s": 5}
    >>> board = Scenario(
    ...     transport="websocket",
    ...     updates={"rate_per_s": 0.1},
    ...     clients=20,
    ...     horizon_s=120,
    ...     faults=[restart],
    ... )
    >>> waits = {"1 s": {"reconnect.base_s": 1.0}, "5 s": {"reconnect.base_s": 5.0}}
    >>> runs = variants(board, waits, engine="simpy", on="serial")
    >>> outages.reconnections(*runs)[["name", "cut"]].to_numpy().tolist()
    [['1 s', 20], ['5 s', 20]]
    >>> lengths = {"short": {}, "long": {"faults": [{**restart, "length_s": 20}]}}
    >>> runs = variants(board, ["phoenix", "signalr"], lengths, engine="simpy", on="serial")
    >>> stranded = outages.reconnections(*runs).set_index(runs.index)["stranded"]
    >>> stranded.unstack().loc["signalr", "long"]
    np.int64(0)
    """
    _check_scenarios({"scenario": scenario})
    if replications is not None:
        check_count("replications", replications, 1)
    check_execution(on, engine, workers)
    sets = [_of_libraries(label, given) for label, given in labelled_sets(changes)]
    cases = changed(scenario, sets, is_named=True)
    numbers = range(replications or 1)
    execution = execution_of(on, engine, workers, progress, repeated(cases.values(), len(numbers)))
    tasks = {
        (case, replication): Task(one, seed, replication, execution.engine)
        for case, one in enumerate(cases.values())
        for replication in numbers
    }
    done: dict[Key, Run] = {}
    complete = collect(tasks, run_of, execution, done, name="variants")
    named = by_name(list(cases), done, is_replicated=replications is not None, is_complete=complete)
    return whole(named, done, tasks, is_complete=complete)


def grid(over: Mapping[str, Sequence[Any]]) -> list[Changes]:
    """Return every combination of the values of some settings; the last setting varies fastest.

    Parameters
    ----------
    over : mapping of str to sequence
        Dotted paths of a scenario and the values that each takes.

    Returns
    -------
    list of dict
        As `Scenario.replace` takes them.

    Raises
    ------
    ScenarioError
        A path has no values, or is not text.

    Examples
    --------
    >>> grid({"transport": ["polling", "websocket"], "clients": [100, 200]})[1]
    {'transport': 'polling', 'clients': 200}
    """
    if not isinstance(over, Mapping):
        raise ScenarioError("over", over, "must be a mapping of paths to lists of values")
    every: dict[str, list[Any]] = {}
    for path, values in over.items():
        if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
            raise ScenarioError(f"over[{shown(path)}]", values, "must be a list of values")
        every[path] = list(values)
        if not every[path]:
            raise ScenarioError(f"over[{shown(path)}]", values, "must have at least one value")
        plain = [_without_arrays(value) for value in every[path]]
        if any(value in plain[:place] for place, value in enumerate(plain)):
            raise ScenarioError(f"over[{shown(path)}]", values, "must have no value twice")
    return [dict(zip(every, values, strict=True)) for values in itertools.product(*every.values())]


def _without_arrays(value: Any) -> Any:
    """Return a value with lists for arrays and tuples, so that it can be compared."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {name: _without_arrays(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_arrays(inner) for inner in value]
    return value


def sweep(
    scenario: Scenario,
    over: Mapping[str, Sequence[Any]] | Sequence[Changes],
    *,
    replications: int = 10,
    seed: int = 1,
    engine: str = "auto",
    on: Any = None,
    workers: int | None = None,
    store: str | Path | None = None,
    until: Mapping[str, float] | None = None,
    at_most: int = 1000,
    confidence: float = 0.95,
    progress: bool = True,
) -> pd.DataFrame:
    """Simulate a scenario with each of some changes, and return its metrics with intervals.

    Parameters
    ----------
    scenario : Scenario
    over : mapping of str to sequence, or sequence of dict
        Paths and their values, every combination of which is run (`grid`), or a list of such
        combinations.
    replications : int, optional
        Number of each combination, >= 2.
    seed : int, optional
        One for all: every point of the grid gets the same changes, sessions and user activity.
    engine : str, optional
        As in `simulate`; ``"auto"`` takes one engine for all runs together.
    on : str or dask.distributed.Client, optional
        ``"threads"`` (usual for the compiled engine), ``"processes"`` (usual for SimPy),
        ``"serial"`` (usual for runs so short that ``"auto"`` takes SimPy), or a client of a dask
        cluster.
    workers : int, optional
        Number of threads or processes; by default one for each processor.
    store : str or Path, optional
        Folder where finished runs are kept and found again. A sweep that is interrupted loses no
        finished run, and one that is killed those of its last second.
    until : mapping of str to float, optional
        Widths (high - low) of intervals for some columns of `metrics.table`, in their units. The
        sweep runs further batches of `replications` until no interval is wider. Intervals that are
        watched in this way come out a little too narrow: begin with 10 replications or more.
    at_most : int, optional
        The number of replications at which `until` gives up.
    confidence : float, optional
        Confidence of the intervals, in (0, 1).
    progress : bool, optional
        A progress bar on stderr if it takes longer than two seconds.

    Returns
    -------
    pandas.DataFrame
        A row per point of the grid, cohort and quantity: a column per path, ``transport``,
        ``cohort``, ``quantity``, ``mean``, ``low``, ``high`` (Student t) and ``replications``.
        Quantities that have no meaning for a transport, or not in every replication, are NaN.
        ``warnings`` has the kinds of the runs' warnings (see `Run.warnings`), and
        ``attrs["complete"]`` says whether all runs were finished.

    Raises
    ------
    ScenarioError
        A changed scenario is not valid, or an argument is out of range; raised before any run.
    RunFileError
        A file of the store is damaged, and has to be removed: its runs are run again.
    Interrupted
        After Ctrl-C or SIGTERM; its ``result`` is the table of the finished runs, which a store has
        kept.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1}, clients=5, horizon_s=300)
    >>> table = sweep(
    ...     board, {"polling.interval_s": [10, 30]}, replications=3, engine="simpy", on="serial"
    ... )
    >>> p50 = table[table["quantity"] == "latency_p50_s"]
    >>> bool(p50["mean"].is_monotonic_increasing), p50["replications"].tolist()
    (True, [3, 3])
    """
    from simlib import theory

    _check_scenarios({"scenario": scenario})
    check_count("replications", replications, 2)
    check_count("at_most", at_most, replications)
    theory.mean_interval([0.0, 1.0], confidence)  # refuses what is no confidence
    points = _points(over)
    check_execution(on, engine, workers)
    scenarios = [scenario.replace(changes) for changes in points]
    execution = execution_of(on, engine, workers, progress, repeated(scenarios, replications))
    keeping = keeping_in(store, key_of)
    _check_widths(until)

    done: dict[Key, Rows] = {}
    open_points, number, complete = list(range(len(points))), 0, True
    while open_points and complete:
        batch = range(number, min(number + replications, at_most))
        tasks = {
            (point, replication): Task(scenarios[point], seed, replication, execution.engine)
            for point in open_points
            for replication in batch
        }
        complete = collect(tasks, perform, execution, done, keeping=keeping)
        number = batch.stop
        table = _intervals(points, done, confidence)
        open_points = [] if number >= at_most else _too_wide(table, open_points, until or {})
    table.attrs["complete"] = complete
    return whole(table.drop(columns="point"), done, tasks, is_complete=complete)


def by_theory(
    scenario: Scenario, over: Mapping[str, Sequence[Any]] | Sequence[Changes]
) -> pd.DataFrame:
    """Return what closed forms say of a scenario with each of some changes, as a table of `sweep`.

    Nothing is simulated: it reaches as far as the forms hold, such as to ten million clients.

    Parameters
    ----------
    scenario : Scenario
    over : mapping of str to sequence, or sequence of dict
        As in `sweep`.

    Returns
    -------
    pandas.DataFrame
        A row per point of the grid and quantity: a column per path, ``transport``, ``quantity`` and
        ``mean``, in the units of `metrics.table`; NaN where no form holds, see
        `analysis.closed_forms`.

    Raises
    ------
    ScenarioError
        A changed scenario is not valid.

    Examples
    --------
    >>> board = Scenario(
    ...     updates={"rate_per_s": 0.01}, transport="websocket", heartbeat={"direction": "none"}
    ... )
    >>> table = by_theory(
    ...     board.replace({"server.max_connections": 10**6}), {"clients": [100, 10**6]}
    ... )
    >>> table[table["quantity"] == "average_latency_s"]["mean"].round(2).tolist()
    [0.02, 5.58]
    """
    import pandas as pd

    _check_scenarios({"scenario": scenario})
    rows = []
    for changes in _points(over):
        changed_one = scenario.replace(changes)
        found = metrics_by_theory(changed_one)._asdict()
        labels = {**changes, "transport": changed_one.transport}
        rows += [{**labels, "quantity": name, "mean": value} for name, value in found.items()]
    return pd.DataFrame(rows)


def whole(result: Result, done: Mapping[Key, Any], tasks: Any, *, is_complete: bool) -> Result:
    """Return a result that is complete; raise `Interrupted`, which has it, if it is not."""
    if is_complete:
        return result
    raise Interrupted(_finished(len(done), len(done.keys() | tasks)), result)


def _points(over: Any) -> list[Changes]:
    """Return the points of a sweep: a grid of settings, or a list of changes as it is given."""
    points = grid(over) if isinstance(over, Mapping) else over
    if not isinstance(points, list | tuple) or not points:
        raise ScenarioError("over", over, "must be a mapping, or a list of at least one point")
    for number, changes in enumerate(points):
        if not isinstance(changes, Mapping):
            raise ScenarioError(f"over[{number}]", changes, "must be a mapping of paths to values")
    return [dict(changes) for changes in points]


def _check_widths(until: Any) -> None:
    """Raise `ScenarioError` unless `until` maps quantities to widths of intervals, or is None."""
    if until is not None and not isinstance(until, Mapping):
        raise ScenarioError("until", until, "must be a mapping of quantities to widths")
    for name, width in (until or {}).items():
        if name not in QUANTITIES:
            rule = f"must be among {', '.join(QUANTITIES)}{hint(name, QUANTITIES, METRIC_ALIASES)}"
            raise ScenarioError("until", name, rule)
        if not isinstance(width, int | float) or isinstance(width, bool) or not width > 0:
            raise ScenarioError(f"until[{shown(name)}]", width, "must be a width > 0")


def compare(
    one: Scenario,
    other: Scenario,
    *,
    replications: int = 10,
    confidence: float = 0.95,
    **options: Any,
) -> pd.DataFrame:
    """Return by how much one scenario's metrics differ from another's, pair by pair.

    Replication r of both has the same changes, sessions and user activity, so the variation that
    the two have in common cancels in the difference (common random numbers; Law 2015, section
    11.2).

    Parameters
    ----------
    one, other : Scenario
    replications : int, optional
        Pairs, >= 2.
    confidence : float, optional
    **options
        ``seed``, ``engine``, ``on``, ``workers``, ``store``, ``progress``, as in `sweep`.

    Returns
    -------
    pandas.DataFrame
        A row per quantity that both have: ``quantity``, ``one``, ``other`` (means), ``difference``
        (other - one), ``low``, ``high`` of the difference, ``pairs``, and ``warnings``: the kinds
        of the runs' warnings (see `Run.warnings`), with the side that has them.

    Raises
    ------
    ScenarioError
    Interrupted
        After Ctrl-C or SIGTERM; its ``result`` is the table of the finished pairs, None if they are
        too few.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1}, clients=5, horizon_s=300)
    >>> push = board.replace(transport="websocket")
    >>> table = compare(board, push, replications=3, engine="simpy", on="serial")
    >>> bool(table.set_index("quantity").loc["latency_p50_s", "high"] < 0)
    True
    """
    from simlib import theory

    _check_scenarios({"one": one, "other": other})
    check_count("replications", replications, 2)
    theory.mean_interval([0.0, 1.0], confidence)  # refuses what is no confidence
    engine, seed = options.pop("engine", "auto"), options.pop("seed", 1)
    on, workers = options.pop("on", None), options.pop("workers", None)
    check_execution(on, engine, workers)
    both = repeated([one, other], replications)
    execution = execution_of(on, engine, workers, options.pop("progress", True), both)
    store = options.pop("store", None)
    if options:
        raise ScenarioError("options", sorted(options), "must be among those of sweep")
    keeping = keeping_in(store, key_of)
    tasks = {
        (side, replication): Task(scenario, seed, replication, execution.engine)
        for replication in range(replications)  # pairs, so that an interrupt leaves whole ones
        for side, scenario in enumerate((one, other))
    }
    done: dict[Key, Rows] = {}
    complete = collect(tasks, perform, execution, done, keeping=keeping)
    pairs = [r for r in range(replications) if (0, r) in done and (1, r) in done]
    table = _differences(done, pairs, confidence) if len(pairs) > 1 else None
    whole(table, done, tasks, is_complete=complete)
    assert table is not None
    return table


def _differences(done: dict[Key, Rows], pairs: list[int], confidence: float) -> pd.DataFrame:
    """Return the table of `compare`, of at least two finished pairs."""
    import pandas as pd

    from simlib import theory

    sides = [[row for r in pairs for row in done[side, r]] for side in (0, 1)]
    left, right = (metrics_of(rows) for rows in sides)
    warned = "; ".join(
        f"{name}: {kinds}"
        for name, rows in zip(("one", "other"), sides, strict=True)
        if (kinds := kinds_of(row["warnings"] for row in rows))
    )
    rows = []
    for name in left.select_dtypes("number").columns.drop("clients"):
        difference = (right[name] - left[name]).to_numpy(dtype=float)
        if (difference == difference).all():
            interval = theory.mean_interval(difference, confidence)
            means = (left[name].mean(), right[name].mean())
            rows.append((name, *means, *interval, len(pairs), warned))
    columns = ["quantity", "one", "other", "difference", "low", "high", "pairs", "warnings"]
    return pd.DataFrame(rows, columns=columns)


# -- what is changed -------------------------------------------------------------------------------


def labelled_sets(sets: Sequence[Any]) -> list[tuple[str, Any]]:
    """Return sets of changes, each with what errors call it."""
    if not sets:
        raise ScenarioError("changes", None, "must be at least one mapping of names to changes")
    return [
        ("changes" if len(sets) == 1 else f"changes[{number}]", given)
        for number, given in enumerate(sets)
    ]


def _of_libraries(label: str, given: Any) -> tuple[str, Any]:
    """Read a list of names as presets of client libraries; anything else stays as it is."""
    if isinstance(given, str) or not isinstance(given, Sequence):
        return label, given
    if len(set(map(str, given))) < len(given):
        raise ScenarioError(label, given, "must have no name twice")
    try:
        return label, {name: library(name) for name in given}
    except ScenarioError as error:
        raise ScenarioError(label, error.value, error.rule) from None


def changed(
    base: Changed, sets: Sequence[tuple[str, Any]], *, is_named: bool = False
) -> dict[tuple[str, ...], Changed]:
    """Return a scenario or a plan with every combination of named changes.

    Parameters
    ----------
    base : Scenario or Plan
    sets : sequence of (str, mapping of str to mapping)
        What errors call each set of changes, and the set.
    is_named : bool, optional
        Whether what is returned bears the names.

    Raises
    ------
    ScenarioError
        A set is no mapping or is empty, a name is no text, or a change cannot be made.
    """
    for label, given in sets:
        if not isinstance(given, Mapping):
            raise ScenarioError(label, given, "must be a mapping of names to changes")
        if not given:
            raise ScenarioError(label, given, "must have at least one variant")
        for name, changes in given.items():
            if not isinstance(name, str) or not name:
                raise ScenarioError(label, name, "must have names that are texts, and not empty")
            if not isinstance(changes, Mapping):
                rule = "must be a mapping of paths to values"
                raise ScenarioError(f"{label}[{shown(name)}]", changes, rule)
            if is_named and "name" in changes:
                rule = "must be left out: a variant bears the name that it is given here"
                raise ScenarioError(f"{label}[{shown(name)}].name", changes["name"], rule)
    cases = {}
    for combination in itertools.product(*(given.items() for _, given in sets)):
        names = tuple(name for name, _ in combination)
        steps = [*combination, *([(names[-1], {"name": ", ".join(names)})] if is_named else [])]
        case = base
        for number, (name, changes) in enumerate(steps):
            try:
                case = case.replace(changes)
            except ScenarioError as error:
                label = sets[min(number, len(sets) - 1)][0]
                path = f"{label}[{shown(name)}].{error.path}"
                raise ScenarioError(path, error.value, error.rule) from None
        cases[names] = case
    return cases


def by_name(
    names: Sequence[tuple[str, ...]],
    done: Mapping[Key, Any],
    *,
    is_replicated: bool,
    is_complete: bool,
) -> pd.Series:
    """Return what has finished as a series, by the names of the variants."""
    import pandas as pd

    sets = len(names[0])
    levels = ["variant"] if sets == 1 else [f"variant_{number}" for number in range(1, sets + 1)]
    keys = sorted(done)
    columns: list[list[Any]] = [[names[case][level] for case, _ in keys] for level in range(sets)]
    if is_replicated:
        levels, columns = [*levels, "replication"], [*columns, [number for _, number in keys]]
    index = (
        pd.Index(columns[0], name=levels[0])
        if len(levels) == 1
        else pd.MultiIndex.from_arrays(columns, names=levels)
    )
    series = pd.Series([done[key] for key in keys], index, dtype=object)
    series.attrs["complete"] = is_complete
    return series


# -- one run, and many -----------------------------------------------------------------------------


def perform(task: Task) -> Rows | None:
    """Run a task, and return its totals; None if it was interrupted."""
    run = run_of(task)
    return None if run is None else run.totals()


def key_of(task: Task) -> str:
    """Return under which key a store keeps a task."""
    return Store.key(task.scenario.hash, task.seed, task.replication, task.engine)


def keeping_in(store: str | Path | None, key_of: Callable[[Any], str]) -> Keeping | None:
    """Return how tasks are kept in the store that a caller names, if one is named.

    Raises
    ------
    RunFileError
        It can be none.
    """
    return None if store is None else Keeping(Store(store), key_of)


def run_of(task: Task) -> Run | None:
    """Run a task; None if it was interrupted."""
    try:
        return simulate(
            task.scenario,
            seed=task.seed,
            replication=task.replication,
            engine=task.engine,
            progress=False,
        )
    except Interrupted:
        return None


def _numbered(key: Key, work: Work[Result], task: Any) -> tuple[Key, Result | None]:
    return key, work(task)


def collect(
    tasks: dict[Key, Any],
    work: Work[Result],
    execution: Execution,
    done: dict[Key, Result],
    *,
    name: str = "sweep",
    keeping: Keeping | None = None,
) -> bool:
    """Run tasks and add what they return to `done`; False if Ctrl-C came before the last.

    SIGTERM counts as Ctrl-C, unless the program has an answer to it. What a store has is not run
    again.

    Parameters
    ----------
    tasks : dict
        Keys, and the arguments of `work`.
    work : callable
        Returns what came of a task, or None if it was interrupted; known by its name in a module,
        so that other processes find it.
    execution : Execution
    done : dict
        Filled as tasks finish.
    name : str, optional
        For the progress bar.
    keeping : Keeping, optional
        Where finished tasks are kept; absent: nowhere.
    """
    try:
        with terminable():
            if keeping is None:
                return _collect(tasks, work, execution, done, name, lambda _key, _result: None)
            kept: Any = dict(keeping.find(tasks))
            done.update(kept)
            todo = {key: task for key, task in tasks.items() if key not in kept}
            with Keeper(keeping) as keeper:

                def keep(key: Key, result: Any) -> None:
                    keeper.keep(tasks[key], result)

                return _collect(todo, work, execution, done, name, keep)
    except KeyboardInterrupt:
        return False


def _collect(
    tasks: dict[Key, Any],
    work: Work[Result],
    execution: Execution,
    done: dict[Key, Result],
    name: str,
    keep: Callable[[Key, Result], None],
) -> bool:
    """Run tasks, keep what they return and add it to `done`; False if one was interrupted."""
    if not tasks:
        return True
    with closing(_spread(tasks, work, execution)) as results:
        with compiling(execution.engine, is_shown=execution.progress):
            first = next(results)
        # The first one may have waited for the compiler: it is no measure of how long the rest will
        # take.
        with bars.bar(len(tasks), name, "run", done=1, is_on=execution.progress) as bar:
            for number, (key, result) in enumerate(itertools.chain([first], results)):
                if result is None:
                    return False
                done[key] = result
                keep(key, result)
                bar.update(min(number, 1))
    return True


def _spread(tasks: dict[Key, Any], work: Work[Result], execution: Execution) -> Any:
    """Yield what each task returns, in the order in which they finish."""
    place = execution.place
    if place == "serial":
        return (_numbered(key, work, task) for key, task in tasks.items())
    if place in PLACES:
        spread = _on_threads if place == "threads" else _on_processes
        return spread(tasks, work, execution.workers or os.cpu_count() or 1)
    return _on_dask(tasks, work, place)


def _on_threads(tasks: dict[Key, Any], work: Work[Result], workers: int) -> Results[Result]:
    """Yield what each task returns; a thread that has done one takes the next by itself.

    When the generator is closed they end soon: a run that is under way, too, is given up.
    """
    todo = iter(list(tasks.items()))
    key, task = next(todo)
    yield _numbered(key, work, task)  # compiles once here; the others find it
    done: SimpleQueue[tuple[Key, Result | None] | BaseException] = SimpleQueue()
    ended = threading.Event()

    def carry_out() -> None:
        with ending_with(ended):
            for key, task in todo:  # no two threads get the same one from a list's iterator
                if ended.is_set():
                    return
                try:
                    done.put(_numbered(key, work, task))
                except BaseException as error:
                    done.put(error)

    for _ in range(min(workers, len(tasks) - 1)):
        threading.Thread(target=carry_out, daemon=True).start()
    try:
        with _brisk_threads():
            for _ in range(len(tasks) - 1):
                found = done.get()
                if isinstance(found, BaseException):
                    raise found
                yield found
    finally:
        ended.set()


def _on_processes(tasks: dict[Key, Any], work: Work[Result], workers: int) -> Results[Result]:
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    todo = dict(tasks)
    key = next(iter(todo))
    yield _numbered(key, work, todo.pop(key))  # compiles once here; the others load it
    failures = 0
    while todo:
        pool = Parallel(
            n_jobs=workers,
            backend="loky",
            return_as="generator_unordered",
            pre_dispatch=2 * workers,
            batch_size=1,
            initializer=end_with,
            initargs=(os.getpid(),),
        )
        try:
            calls = [delayed(_numbered)(key, work, task) for key, task in todo.items()]
            for key, result in pool(calls):
                del todo[key]
                yield key, result
        except TerminatedWorkerError:
            failures += 1
            if failures > _RETRIES:
                raise SimlibError(
                    f"{failures} times a worker process died with {len(todo)} runs to go: is there "
                    "enough memory for so many at once? Try fewer workers."
                ) from None


@contextmanager
def _brisk_threads() -> Iterator[None]:
    """Let a thread that returns from compiled code get the interpreter's lock soon.

    It needs the lock for a moment only, and would wait 5 ms for a thread that builds its tables.
    """
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before_s)


def _on_dask(tasks: dict[Key, Any], work: Work[Result], client: Any) -> Results[Result]:
    from distributed import as_completed

    works = [work] * len(tasks)
    futures = client.map(
        _numbered, list(tasks), works, list(tasks.values()), pure=False, retries=_RETRIES
    )
    try:
        for _, result in as_completed(futures, with_results=True):
            yield result
    finally:
        client.cancel(futures)


def check_execution(on: Any, engine: Any, workers: Any) -> None:
    """Check what callers say about how tasks are carried out.

    Raises
    ------
    ScenarioError
        `on` is no place, `engine` no engine, or `workers` no number of workers.
    """
    check_engine(engine)
    if workers is not None:
        check_count("workers", workers, 1)
    is_place = isinstance(on, str) and on in PLACES
    is_cluster = hasattr(on, "map") and hasattr(on, "scheduler")
    if not (on is None or is_place or is_cluster):
        raise ScenarioError("on", on, f"must be one of {', '.join(PLACES)} or a dask client")


def execution_of(
    on: Any, engine: str, workers: int | None, progress: bool, scenarios: Iterable[Scenario]
) -> Execution:
    """Return how tasks are carried out; where nothing is said, it is the engine's usual place.

    Parameters
    ----------
    on, engine, workers, progress
        As in `sweep`, and checked.
    scenarios : iterable of Scenario
        One for each run.
    """
    chosen = chosen_engine(engine, scenarios)
    if on is None:
        # Where SimPy is chosen for its quick start, processes would start too slowly.
        usual = "serial" if engine == "auto" else "processes"
        on = "threads" if chosen == "compiled" else usual
    return Execution(on, workers, chosen, progress)


def repeated(scenarios: Iterable[Scenario], times: int) -> Iterator[Scenario]:
    """Return each scenario as often as it is run, for `execution_of`."""
    return itertools.chain.from_iterable(itertools.repeat(one, times) for one in scenarios)


def _check_scenarios(scenarios: Mapping[str, Any]) -> None:
    for name, scenario in scenarios.items():
        if not isinstance(scenario, Scenario):
            raise ScenarioError(name, scenario, scenario_rule(scenario))


def check_count(name: str, value: Any, least: int) -> None:
    """Raise `ScenarioError` unless `value` is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ScenarioError(name, value, f"must be a whole number >= {least}")


# -- what came out ---------------------------------------------------------------------------------


def _intervals(points: list[Changes], done: dict[Key, Rows], confidence: float) -> pd.DataFrame:
    """Return the table of finished runs, which does not depend on their order."""
    import numpy as np
    import pandas as pd

    from simlib import theory

    fixed = ["transport", "cohort", "quantity", "mean", "low", "high", "replications", "warnings"]
    paths = dict.fromkeys(path for point in points for path in point if path not in fixed)
    keys = [(key, row) for key in sorted(done) for row in done[key]]
    rows = []
    if keys:
        table = metrics_of([row for _, row in keys])
        table.insert(0, "point", [key[0] for key, _ in keys])
        table["warnings"] = [row["warnings"] for _, row in keys]
        quantities = table.select_dtypes("number").columns.drop(["point", "clients"])
        for labels, group in table.groupby(["point", "transport", "cohort"]):
            point = int(group["point"].iloc[0])
            settings = [points[point].get(path) for path in paths]
            warned = kinds_of(group["warnings"])
            for name in quantities:
                values = group[name].to_numpy(dtype=float)
                interval = (np.nan,) * 3
                if len(values) > 1 and np.isfinite(values).all():
                    interval = theory.mean_interval(values, confidence)
                rows.append((point, *settings, *labels[1:], name, *interval, len(values), warned))
    return pd.DataFrame(rows, columns=["point", *paths, *fixed])


def _too_wide(table: pd.DataFrame, open_points: list[int], until: Mapping[str, float]) -> list[int]:
    """Return the points that have an interval wider than `until` allows."""
    if not until:
        return []
    asked = table[table["quantity"].isin(list(until))]
    wide = asked["high"] - asked["low"] > asked["quantity"].map(until)
    left = set(asked.loc[wide, "point"])
    return [point for point in open_points if point in left]
