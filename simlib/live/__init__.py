"""The same rules on real sockets: a server process and a client process on this machine."""

from simlib.live.lab import measure
from simlib.live.loopback import on_loopback

__all__ = ["measure", "on_loopback"]
