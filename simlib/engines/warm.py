"""Compiling the loops before a run waits for them.

``python -m simlib.engines.warm`` compiles all copies of the loop, two at a time, once a machine: a
minute. Code that is kept already is not compiled again. Where nobody has done that after an
install, the first runs of ``engine="auto"`` have it done beside them, by a process that computes
when no other wants to (`is_under_way`); SimPy has the runs until it is done.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simlib.engines import compiled
from simlib.engines.compiled.variants import (
    COPIES,
    FROM_CLIENTS,
    GENERAL,
    POLLS,
    PUSHES,
    Variant,
)
from simlib.processes import end_with, give_way, terminable

if TYPE_CHECKING:
    from simlib.engines.compiled.simulation import Simulation

SWITCH = "SIMLIB_COMPILE_AHEAD"
"""The environment variable that is 0 where nothing is to be compiled beside runs."""

_COMMAND = [sys.executable, "-m", "simlib.engines.warm"]
_AHEAD = "ahead"
_LONGEST_S = 600.0
_HOPEFUL_S = 60.0
_LEAST_SHARE = 1.0 / 3.0
_TAKES_THE_LOCK_WITHIN_S = 2.0
_LOOK_S = 0.1
_BY_LABEL = {copy.label: copy for copy in COPIES}
_started: list[subprocess.Popen[bytes]] = []
"""The process that compiles beside the runs of this one, if one was started."""


def missing(copies: Iterable[Variant] = COPIES) -> list[Variant]:
    """Return the copies of the loop that would have to be compiled on this machine.

    Parameters
    ----------
    copies : iterable of Variant, optional
        Those that are looked for; absent, all.
    """
    from simlib.engines.compiled.simulation import loops_of

    return [copy for copy in copies if not loops_of(copy).are_kept()]


def warm(*, progress: bool = True) -> None:
    """Compile what is missing, in two processes: the general copy in one, the rest in the other.

    Parameters
    ----------
    progress : bool, optional
        A progress bar on stderr.

    Raises
    ------
    subprocess.CalledProcessError
        One of them failed; it has said why.
    """
    wanted = missing()
    if not wanted:
        return
    from simlib.engines.compiled.compiling import FUNCTIONS, compiling_bar

    halves = [[c for c in wanted if c.is_general], [c for c in wanted if not c.is_general]]
    total = sum(FUNCTIONS[copy] for copy in wanted)
    with compiling_bar(total, is_on=progress) as bar, _processes(filter(None, halves)) as processes:
        readers = [threading.Thread(target=follow, args=(one, bar)) for one in processes]
        for reader in readers:
            reader.start()
        for process, reader in zip(processes, readers, strict=True):
            reader.join()
            if process.wait():
                raise subprocess.CalledProcessError(process.returncode, process.args)


@contextmanager
def _processes(work: Iterable[list[Variant]]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that compile; whatever happens, they end with the block."""
    processes = []
    with contextlib.ExitStack() as running:
        for copies in work:
            command = [*_COMMAND, *(copy.label for copy in copies)]
            process = running.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            running.callback(process.kill)  # LLVM does not hear of anything less for seconds
            processes.append(process)
        yield processes


def follow(process: subprocess.Popen[bytes], bar: Any) -> None:
    """Move a bar by one for each byte that a process writes: see `telling_parent`."""
    from simlib.engines.compiled.compiling import count_one

    assert process.stdout is not None
    while process.stdout.read(1):
        count_one(bar)


def compile_copies(copies: Iterable[Variant]) -> None:
    """Compile copies of the loop, or load those that are kept.

    Parameters
    ----------
    copies : iterable of Variant
    """
    for copy in copies:
        example_of(copy).prepare(for_all=True)


def example_of(copy: Variant) -> Simulation:
    """Return a run, not begun, that a copy of the loop has.

    Parameters
    ----------
    copy : Variant
    """
    from simlib.engines.compiled.simulation import Simulation
    from simlib.scenario import Scenario, compile_workload, new_record

    scenario = Scenario(
        updates={"rate_per_s": 0.1},
        clients=1 if copy.is_general else FROM_CLIENTS,
        horizon_s=1.0,
        ramp_s=0.0,
        transport={GENERAL: "notify", PUSHES: "websocket", POLLS: "polling"}[copy],
    )
    workload = compile_workload(scenario, 1, 0)
    return Simulation(workload, new_record(scenario, workload))


def is_under_way() -> bool:
    """Say whether the general copy is being compiled beside this process; begin, if nobody has.

    It is not where it makes no sense: it is kept, nothing is compiled (``NUMBA_DISABLE_JIT``), this
    is CI or a test, there is one processor only, or compiled code cannot be kept.
    """
    import numba

    from simlib.engines.compiled.simulation import loops_of

    if not _may_start() or numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return False
    general = loops_of(GENERAL)
    if general.are_kept():
        return False
    return _is_started(general.folder)


def begin_early() -> None:
    """Begin to compile if it is plain, without loading numba, that nothing is kept.

    It is for small runs, which SimPy has in any case: a larger one may follow.
    """
    folder = Path(compiled.__file__).parent / "__pycache__"
    own = os.environ.get("NUMBA_CACHE_DIR")
    kept = Path(own).glob("*/loop.run_*.nbi") if own else folder.glob("loop.run_*.nbi")
    is_writable = own or os.access(folder if folder.exists() else folder.parent, os.W_OK)
    if not _started and is_writable and _may_start() and not any(kept):
        _start()


def _may_start() -> bool:
    asked = os.environ.get(SWITCH, "1") != "0" and not os.environ.get("CI")
    is_compiled = os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")
    return asked and is_compiled and bool(sys.executable) and _processors() > 1


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _is_started(folder: str | None) -> bool:
    from simlib.engines.compiled.compiling import alone_or_not

    if _started:
        return _started[0].poll() is None
    with alone_or_not(folder, _AHEAD) as is_nobody_at_it:
        pass
    if is_nobody_at_it:
        _start()
    return True


def _start() -> None:
    """Start a process that ends with this one, and that no Ctrl-C of a terminal reaches."""
    with contextlib.suppress(OSError):
        _started.append(
            subprocess.Popen(
                [*_COMMAND, f"--{_AHEAD}", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        )


def _ahead(parent: int) -> None:
    """Compile everything beside a process, as long as that runs, unless another does already."""
    from simlib.engines.compiled.compiling import alone_or_not
    from simlib.engines.compiled.simulation import loops_of

    end_with(parent)
    give_way(os.getpid())
    threading.Thread(target=_end_if_it_takes_too_long, daemon=True).start()
    latest = time.monotonic() + _TAKES_THE_LOCK_WITHIN_S
    while True:
        with alone_or_not(loops_of(GENERAL).folder, _AHEAD) as is_alone:
            if is_alone:
                compile_copies(missing())
                return
        if time.monotonic() > latest:  # others only look whether somebody is at it
            return
        time.sleep(_LOOK_S)


def _end_if_it_takes_too_long() -> None:
    """Give up where others leave no processor for this: a run that waits had better compile."""
    began_s = time.monotonic()
    while not _takes_too_long(time.monotonic() - began_s, time.process_time()):
        time.sleep(1.0)
    os._exit(1)


def _takes_too_long(passed_s: float, computed_s: float) -> bool:
    is_starved = passed_s > _HOPEFUL_S and computed_s < _LEAST_SHARE * passed_s
    return is_starved or passed_s > _LONGEST_S


def _main(arguments: list[str]) -> None:
    if arguments[:1] == [f"--{_AHEAD}"]:
        _ahead(int(arguments[1]))
    elif arguments:
        with telling_parent():
            compile_copies(_BY_LABEL[label] for label in arguments)
    else:
        with terminable():
            warm(progress=sys.stderr.isatty())  # a log needs no bar


@contextmanager
def telling_parent() -> Iterator[None]:
    """Compile for a parent that waits, and write a byte for each function that is compiled."""
    from simlib.engines.compiled.compiling import counted_compiling

    end_with(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent has heard Ctrl-C, too

    def count() -> None:
        sys.stdout.buffer.write(b".")
        sys.stdout.buffer.flush()

    with counted_compiling(count):
        yield


if __name__ == "__main__":
    try:
        _main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
