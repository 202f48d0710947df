"""More than one run: replications of a scenario, on common draws."""

from __future__ import annotations

from typing import Any

from simlib.engines import simulate
from simlib.errors import ScenarioError
from simlib.run import Run
from simlib.scenario import Scenario


def replicate(
    scenario: Scenario, replications: int, *, seed: int = 1, progress: bool = True, **options: Any
) -> list[Run]:
    """Simulate independent replications of a scenario.

    Replication r of any two scenarios shares its publish times, sessions and habits, so their
    difference can be taken pair by pair.

    Parameters
    ----------
    scenario : Scenario
    replications : int
        How many, >= 1: numbers 0 to replications - 1.
    seed : int, optional
    progress : bool, optional
        A progress bar on stderr if it takes longer than two seconds.
    **options
        Passed to `simulate`.

    Returns
    -------
    list of Run
        In order; after Ctrl-C, the complete ones.

    Raises
    ------
    ScenarioError

    Examples
    --------
    >>> runs = replicate(Scenario(updates={"rate_per_s": 0.1}, clients=5, horizon_s=60), 3)
    >>> [run.provenance["replication"] for run in runs]
    [0, 1, 2]
    """
    from tqdm import tqdm

    if isinstance(replications, bool) or not isinstance(replications, int) or replications < 1:
        raise ScenarioError("replications", replications, "must be a whole number >= 1")
    runs: list[Run] = []
    bar = tqdm(range(replications), desc="replicate", delay=2, disable=not progress)
    try:
        for number in bar:
            run = simulate(scenario, seed=seed, replication=number, progress=False, **options)
            if run.is_complete:
                runs.append(run)
            if run.provenance["interrupted"]:
                break
    except KeyboardInterrupt:  # between two runs
        pass
    return runs
