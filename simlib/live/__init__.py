"""The same rules against real sockets: a server process, a client process, and who minds them."""

from simlib.live.lab import measure
from simlib.live.loopback import on_loopback

__all__ = ["measure", "on_loopback"]
