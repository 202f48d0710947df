"""JSON Web Tokens of an exact length, made for the clients and checked by the server."""

from __future__ import annotations

import re
import time

import jwt

from simlib.errors import ScenarioError

_ALGORITHM = "HS256"
_SUBJECT = "client-"
_TOKEN = re.compile(r"[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}")


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


def client_of(secret: str, text: str) -> int | None:
    """Return the client whose valid, unexpired token a text carries; None without such a token."""
    match = _TOKEN.search(text)
    if match is None:
        return None
    try:
        claims = jwt.decode(
            match[0], secret, algorithms=[_ALGORITHM], options={"require": ["exp", "sub"]}
        )
    except jwt.InvalidTokenError:
        return None
    return int(claims["sub"].removeprefix(_SUBJECT))
