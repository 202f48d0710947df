"""How the lab and its processes exchange `messages`: pickled, over stdin and stdout.

A child has a *lifeline*: a pipe on which nothing is ever written, and whose other end the parent
alone has. When the parent ends, for whatever reason, a thread of the child reads the end of that
file and ends the child at once, whatever it is doing; the thread is there before the child loads
its modules. Ctrl-C reaches a whole process group, so children ignore it and let the parent decide.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from queue import Empty, Queue
from typing import Any, Self

from simlib.errors import LiveError

START_S = 30.0
"""How long a process may take to start, or to answer, seconds."""
_END_S = 5.0
_BOOT = """
import os, runpy, sys, threading

def end_with_parent():
    os.read(int(sys.argv[1]), 1)
    os._exit(0)

threading.Thread(target=end_with_parent, daemon=True).start()
runpy.run_module(sys.argv[2], run_name="__main__", alter_sys=True)
"""
"""What a child runs first; it loads nothing of ours, so that it takes no time."""
_MOST_LOGGED = 100
_LONGEST_LINE = 300


class Child:
    """One process of the lab, as its parent sees it; a context manager that ends the process.

    Parameters
    ----------
    module : str
        The module to run, as ``python -m`` does.
    processor : int, optional
        The processor to run on; by default the system chooses.
    """

    def __init__(self, module: str, processor: int | None = None) -> None:
        self.module = module
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._messages: Queue[Any] = Queue()
        self._sends = threading.Lock()  # one thread at a time
        childs, self._lifeline = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, str(childs), module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            pass_fds=(childs,),
        )
        os.close(childs)
        if processor is not None:
            os.sched_setaffinity(self._process.pid, {processor})
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        os.close(self._lifeline)
        with contextlib.suppress(OSError):  # the process has ended already
            self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            self._reader.join(_END_S)
            self._process.stdout.close()
            self._errors.close()

    @property
    def pid(self) -> int:
        """The operating system's number of the process."""
        return self._process.pid

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        self._process.kill()

    def terminate(self, grace_s: float) -> None:
        """Ask the process by SIGTERM to end, and end it if it has not after `grace_s` seconds."""
        self._process.terminate()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def send(self, message: Any) -> None:
        """Send a message.

        Raises
        ------
        LiveError
            The process has died.
        """
        assert self._process.stdin is not None
        try:
            with self._sends:
                pickle.dump(message, self._process.stdin)
                self._process.stdin.flush()
        except OSError:
            raise self._death() from None

    def receive(self, timeout_s: float) -> Any:
        """Return the next message.

        Raises
        ------
        LiveError
            The process has died, or has sent nothing for `timeout_s` seconds.
        """
        try:
            message = self._messages.get(timeout=timeout_s)
        except Empty:
            raise LiveError(f"{self.module} said nothing for {timeout_s:g} s") from None
        if isinstance(message, EOFError):
            raise self._death()
        return message

    def pending(self) -> list[Any]:
        """Return the messages that have arrived and were not received yet."""
        messages = []
        with contextlib.suppress(Empty):
            while True:
                message = self._messages.get_nowait()
                if isinstance(message, EOFError):
                    self._messages.put(message)
                    break
                messages.append(message)
        return messages

    def messages_to_end(self) -> list[Any]:
        """Wait for the process to end, and return the messages that were not received yet."""
        self._process.wait(_END_S)
        self._reader.join(_END_S)
        return self.pending()

    def check(self) -> None:
        """Raise `LiveError` if the process has died."""
        if self._process.poll() is not None:
            raise self._death()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while True:
            try:
                self._messages.put(pickle.load(self._process.stdout))
            except Exception:  # the process ended, perhaps in the middle of a message
                self._messages.put(EOFError())
                return

    def _death(self) -> LiveError:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        last = lines[-1] if lines else "no message"
        return LiveError(f"{self.module} died: {last}")


class Parent:
    """The lab, as one of its processes sees it: messages to and from it."""

    def __init__(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        # stdin gets a file of our own, since a thread that waits in sys.stdin would block the
        # interpreter's end. So does stdout: what a library prints must not mix with the messages.
        self._in = os.fdopen(os.dup(0), "rb")
        self._out = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        logging.basicConfig(handlers=[BriefHandler()])

    def send(self, message: Any) -> None:
        """Send a message."""
        pickle.dump(message, self._out)
        self._out.flush()

    def receive(self) -> Any:
        """Return the next message.

        Raises
        ------
        EOFError
            The parent is gone.
        """
        return pickle.load(self._in)

    def watch(self, loop: asyncio.AbstractEventLoop, inbox: asyncio.Queue[Any]) -> None:
        """Put later messages into a queue."""

        def read() -> None:
            while True:
                try:
                    message = self.receive()
                except (EOFError, OSError, pickle.UnpicklingError):
                    return  # the parent is gone: see `_BOOT`
                try:
                    loop.call_soon_threadsafe(inbox.put_nowait, message)
                except RuntimeError:
                    return  # the loop is closed, and nobody reads the queue

        threading.Thread(target=read, daemon=True).start()


class BriefHandler(logging.StreamHandler[Any]):
    """Writes what libraries log to stderr, a short line for each record, and only the first ones.

    A server logs what strangers send it, a traceback each time. They must not be able to fill a
    disk with that, nor to write lines of their own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.left = _MOST_LOGGED

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, if there have not been too many."""
        if self.left > 0:
            self.left -= 1
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """Return one line: the logger, the message and the error, cut to some length."""
        said = record.getMessage()
        if record.exc_info is not None and record.exc_info[1] is not None:
            error = record.exc_info[1]
            said = f"{said}: {type(error).__name__}: {error}"
        line = f"{record.name}: {ascii(said)[1:-1][:_LONGEST_LINE]}"
        return line if self.left else f"{line} (no more is logged)"
