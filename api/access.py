"""Who may call: API keys, and for services without keys the browser's same-origin rule.

A page on the web can make its visitor's browser send requests to the visitor's own machine. Without keys only the
`Origin` and `Host` headers tell such a request from the visitor's own, so both are checked before anything else.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from functools import lru_cache

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import Problem

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
OPEN_PATHS = {"/", "/health/live", "/health/ready", "/docs", "/openapi.json", "/favicon.ico"}
"""What anyone may see: no job, no input, no picture is there."""


def digest(key: str) -> bytes:
    """A key as it is compared: its digest, so that neither length nor content shows in the time it takes."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


class Keys:
    """The service's API keys."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._digests = [digest(key) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def owner(self, headers: Headers) -> str | None:
        """Whose request it is: a key's digest in hexadecimal; None where no valid key came.

        Every key is compared, whichever fits, in constant time.
        """
        given = headers.get("x-api-key")
        if given is None:
            scheme, _, credentials = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not credentials:
                return None
            given = credentials
        found = hashlib.sha256(given.encode("latin-1", "surrogateescape")).digest()
        owner = None
        for known in self._digests:
            if hmac.compare_digest(found, known):
                owner = known.hex()
        return owner


class Access:
    """The outermost layer: refuses who may not call, and marks every answer so that browsers do not guess its type."""

    def __init__(
        self, app: ASGIApp, *, keys: Sequence[str], allowed_origins: Sequence[str], allowed_hosts: Sequence[str]
    ) -> None:
        self._app = app
        self._keys = Keys(keys)
        self._origins = {origin.rstrip("/").lower() for origin in allowed_origins}
        self._hosts = {host.lower() for host in allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        allowed = origin is not None and origin.rstrip("/").lower() in self._origins

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                out["X-Content-Type-Options"] = "nosniff"
                if allowed and origin is not None:
                    out["Access-Control-Allow-Origin"] = origin
                    out["Access-Control-Expose-Headers"] = "Location, X-Job-Id, ETag, Content-Disposition"
                    out.add_vary_header("Origin")
            await send(message)

        try:
            if allowed and scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
                await _preflight(marked)
                return
            scope.setdefault("state", {})["owner"] = self._admit(scope, headers, origin, allowed)
        except Problem as problem:
            await problem.response()(scope, receive, marked)
            return
        await self._app(scope, receive, marked)

    def _admit(self, scope: Scope, headers: Headers, origin: str | None, allowed: bool) -> str:
        """The owner of the request. Raises `Problem` where it may not be made."""
        if self._keys:
            owner = self._keys.owner(headers)
            if owner is None and scope["path"] not in OPEN_PATHS:
                raise Problem(
                    401,
                    "unauthorized",
                    "send a valid key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            return owner or ""
        host = headers.get("host", "")
        if not allowed and not self._known_host(scope, host):
            raise Problem(
                421,
                "misdirected",
                "the service listens on this machine only and does not answer to that host name;"
                " call it as localhost, or name the host in ATELIER_ALLOWED_HOSTS",
            )
        if origin is not None and not allowed and scope["method"] not in SAFE_METHODS:
            scheme, _, place = origin.lower().partition("://")
            if place != host.lower() or scheme not in {"http", "https"}:
                raise Problem(
                    403,
                    "forbidden-origin",
                    "a page of another origin may not do that; name its origin in ATELIER_ALLOWED_ORIGINS",
                )
        return ""

    def _known_host(self, scope: Scope, host: str) -> bool:
        """Whether the host name is ours. Only a connection to loopback is asked: elsewhere any name may lead here."""
        server = scope.get("server")
        if not host or not server or not is_loopback(str(server[0])):
            return True
        name = host_name(host)
        return is_loopback(name) or name in self._hosts


def host_name(host: str) -> str:
    """``example.org:8000`` -> ``example.org``; ``[::1]:8000`` -> ``::1``."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


@lru_cache(maxsize=256)
def is_loopback(name: str) -> bool:
    """Whether a name or address means this machine."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


async def _preflight(send: Send) -> None:
    """Answer a browser's question whether it may call (CORS)."""
    headers = [
        (b"access-control-allow-methods", b"GET, POST, HEAD"),
        (
            b"access-control-allow-headers",
            b"authorization, content-type, idempotency-key, last-event-id, prefer, x-api-key",
        ),
        (b"access-control-max-age", b"600"),
        (b"content-length", b"0"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
