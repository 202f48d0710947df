"""JSON Web Tokens of an exact length, made for the clients and checked by the server."""

from __future__ import annotations

import re
import time

import jwt

from simlib.core import wire
from simlib.core.wire import WireSpec
from simlib.errors import ScenarioError

_ALGORITHM = "HS256"
_SUBJECT = "client-"
_SCHEME = "Bearer "
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_CLIENT = re.compile(rf"{_SUBJECT}([0-9]{{9}})")


def make_token(secret: str, client: int, length: int, *, valid_s: int = 86_400) -> str:
    """Return a signed token for a client.

    Parameters
    ----------
    secret : str
        At least 32 bytes.
    client : int
        The subject.
    length : int
        Characters; a claim is padded to reach it.
    valid_s : int, optional
        Time to expiry, seconds.

    Raises
    ------
    ScenarioError
        No token has that length: base64 leaves out every fourth.

    Examples
    --------
    >>> len(make_token("s" * 32, 7, 201))
    201
    """
    expires = int(time.time()) + valid_s
    claims = {"sub": f"{_SUBJECT}{client:09d}", "exp": expires, "pad": ""}
    shortest = jwt.encode(claims, secret, algorithm=_ALGORITHM)
    guess = max(0, (length - len(shortest)) * 3 // 4 - 2)
    for padding in range(guess, guess + 6):
        claims["pad"] = "x" * padding
        token = jwt.encode(claims, secret, algorithm=_ALGORITHM)
        if len(token) == length:
            return token
    near = max(len(shortest), length + 1)
    rule = f"must be a length that a signed token can have (>= {len(shortest)}; try {near})"
    raise ScenarioError("wire.token_bytes", length, rule)


class TokenCheck:
    """Who sends a request, by the token that it carries in the one place where a token may be.

    A token is as long as the scenario says, has the characters of one, is signed, has not expired,
    and names a client of the fleet. Whatever is longer is not looked at.

    Parameters
    ----------
    secret : str
    spec : WireSpec
        Has the tokens' length, and the message that carries one.
    clients : int
        How many there are.

    Examples
    --------
    >>> check = TokenCheck("s" * 32, WireSpec(), clients=10)
    >>> token = make_token("s" * 32, 7, 201)
    >>> check.of_header(f"Bearer {token}"), check.of_header(token), check.of_header("Bearer x")
    (7, None, None)
    >>> check.of_message(wire.auth_text(WireSpec(), token))
    (7, 0)
    >>> check.of_message(token) is None
    True
    """

    def __init__(self, secret: str, spec: WireSpec, clients: int) -> None:
        self.secret = secret
        self.spec = spec
        self.clients = clients
        blank = "-" * spec.token_bytes
        message = wire.auth_text(spec, blank)
        self._message_length = len(message)
        self._token_start = message.index(blank)

    def of_header(self, value: str) -> int | None:
        """Return the client that an Authorization field names; None without a valid token."""
        if len(value) != len(_SCHEME) + self.spec.token_bytes or not value.startswith(_SCHEME):
            return None
        return self._of_token(value.removeprefix(_SCHEME))

    def of_cookies(self, value: str) -> int | None:
        """Return the client that a Cookie field names; None without a valid token."""
        token = wire.stream_token(value)
        return self._of_token(token) if len(token) == self.spec.token_bytes else None

    def of_message(self, message: str | bytes) -> tuple[int, int] | None:
        """Return the client that the first message of a WebSocket names, and what it has seen.

        The message is what `wire.auth_text` makes of a token and a version, to the letter.
        """
        if not isinstance(message, str) or len(message) != self._message_length:
            return None
        token = message[self._token_start :][: self.spec.token_bytes]
        number = self._of_token(token)
        if number is None:
            return None
        try:
            seen = wire.version_of(message) if self.spec.resumes else 0
        except ValueError:
            return None
        return (number, seen) if message == wire.auth_text(self.spec, token, seen) else None

    def _of_token(self, token: str) -> int | None:
        if _TOKEN.fullmatch(token) is None:
            return None
        try:
            claims = jwt.decode(
                token, self.secret, algorithms=[_ALGORITHM], options={"require": ["exp", "sub"]}
            )
        except Exception:  # a claim of a wrong type makes the library raise more than its own
            return None
        match = _CLIENT.fullmatch(claims["sub"])
        number = int(match[1]) if match is not None else self.clients
        return number if number < self.clients else None
