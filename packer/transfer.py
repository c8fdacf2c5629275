"""Ask a server for a file: redirects followed one by one, every host judged, the token sent to its own host only.

A token or a private host is never reached through somebody else's redirect: each hop is judged as if it were the first
(huggingface_hub sends what its caller names; comfy-pack sends its token to any address with "huggingface" in it).
"""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from .addresses import url_complaint
from .errors import FetchError, NotThere

if TYPE_CHECKING:
    import http.client
    import urllib.request

HUB = "huggingface.co"
"""The only host that gets the token."""

SCHEMES = ("https", "http")
MAX_HOPS = 10
TIMEOUT_SECONDS = 30.0
"""For connecting, and for each wait for the next bytes."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_WAIT = 120.0
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


class Interrupted(Exception):
    """The transfer failed in a way that may pass: ask again, after ``wait`` seconds where the server says so."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait = wait


class Stream(Protocol):
    """An answer's body."""

    def read1(self, size: int, /) -> bytes:
        """Some of the next bytes, as soon as there are any; none at the end."""
        ...

    def close(self) -> None:
        """Give the connection up."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a server answers. ``headers`` have lower-case names.

    ``stated_sha256`` and ``stated_size`` are what the hub says of the file before it redirects to its storage.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    stream: Stream
    stated_sha256: str | None = None
    stated_size: int | None = None


OpenUrl = Callable[[str, Mapping[str, str]], Answer]
"""One request, no redirect followed: (address, headers) -> answer. OSError or HTTPException where none comes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Client:
    """How to ask: with which token, through which mirror of the hub, and of which hosts beyond the public ones.

    Attributes:
        token: for `HUB`, over https only.
        endpoint: asked instead of ``https://huggingface.co``; never gets the token.
        trusted: ``host:port`` or ``host`` of addresses that the user named, which may be private.
        open_url: makes one request; None for the network itself.
    """

    token: str | None = None
    endpoint: str | None = None
    trusted: frozenset[str] = frozenset()
    open_url: OpenUrl | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Self:
        """As huggingface_hub is set up: ``HF_TOKEN``, its token file, ``HF_ENDPOINT``.

        Raises:
            FetchError: ``HF_ENDPOINT`` is no http address.
        """
        environ = os.environ if environ is None else environ
        endpoint = environ.get("HF_ENDPOINT", "").strip().rstrip("/")
        if endpoint in ("", f"https://{HUB}"):
            return cls(token=find_token(environ))
        split = urllib.parse.urlsplit(endpoint)
        if split.scheme not in SCHEMES or not split.hostname or split.username is not None:
            raise FetchError(f"HF_ENDPOINT is {endpoint!r}", remedy=f"give it as https://host, or unset it for {HUB}")
        return cls(token=find_token(environ), endpoint=endpoint, trusted=frozenset({split.netloc.lower()}))

    def open(self, url: str, headers: Mapping[str, str]) -> Answer:
        """Follow ``url`` to the file.

        Returns:
            The answer that is no redirect, of status 200, 206 or 416.

        Raises:
            Interrupted: no answer, or one that says to come back.
            NotThere: 404, 410.
            FetchError: an address that must not be asked, a gated file, any other status.
        """
        first = here = self._through_mirror(url)
        stated_sha256: str | None = None
        stated_size: int | None = None
        for _ in range(MAX_HOPS):
            self._judge(here, came_from=None if here == first else first)
            own = self._token_headers(here)
            answer = self._ask(here, {**headers, **own})
            if _host(here) == _host(first):
                stated_sha256 = _digest(answer.headers.get("x-linked-etag")) or stated_sha256
                stated_size = _number(answer.headers.get("x-linked-size")) or stated_size
            if answer.status not in _REDIRECTS:
                if answer.status not in (200, 206, 416):
                    answer.stream.close()
                    raise _refusal(answer, url=first, with_token=bool(own))
                return Answer(
                    url=here,
                    status=answer.status,
                    headers=answer.headers,
                    stream=answer.stream,
                    stated_sha256=stated_sha256,
                    stated_size=stated_size,
                )
            answer.stream.close()
            here = _next_hop(here, answer.headers.get("location", ""), first)
        raise FetchError(f"{first} redirects more than {MAX_HOPS} times")

    def _through_mirror(self, url: str) -> str:
        prefix = f"https://{HUB}/"
        return f"{self.endpoint}/{url.removeprefix(prefix)}" if self.endpoint and url.startswith(prefix) else url

    def _is_trusted(self, url: str) -> bool:
        split = urllib.parse.urlsplit(url)
        return split.netloc.lower() in self.trusted or (split.hostname or "") in self.trusted

    def _judge(self, url: str, came_from: str | None) -> None:
        place = f"{came_from} redirects to {_shown(url)}, which" if came_from else f"the address {_shown(url)}"
        if came_from and came_from.startswith("https://") and url.startswith("http://"):
            raise FetchError(f"{place} is not encrypted")
        if self._is_trusted(url) and urllib.parse.urlsplit(url).scheme in SCHEMES:
            return
        why = url_complaint(url, schemes=SCHEMES)
        if why:
            raise FetchError(f"{place} {why}")

    def _token_headers(self, url: str) -> dict[str, str]:
        split = urllib.parse.urlsplit(url)
        if self.token and split.scheme == "https" and split.netloc.lower() == HUB:
            return {"Authorization": f"Bearer {self.token}"}
        return {}

    def _ask(self, url: str, headers: Mapping[str, str]) -> Answer:
        import http.client
        import ssl
        import urllib.error

        ask = self.open_url or _network(private=self._is_trusted(url))
        try:
            return ask(url, {"Accept-Encoding": "identity", "User-Agent": "comfy-atelier", **headers})
        except (OSError, http.client.HTTPException) as error:
            # urllib wraps what the socket says.
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise FetchError(
                    f"{_host(url)} has a certificate that cannot be checked: {cause.verify_message}",
                    remedy="set the clock, or name the authorities to trust (your proxy's, say) with SSL_CERT_FILE",
                ) from error
            raise Interrupted(f"{_host(url)} cannot be reached: {_reason(cause)}") from error


def find_token(environ: Mapping[str, str]) -> str | None:
    """The user's Hugging Face token, from where huggingface_hub keeps it; None where there is none, or none to send."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        token = _clean(environ.get(name, ""))
        if token:
            return token
    if environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").upper() in ("1", "ON", "YES", "TRUE"):
        return None
    cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = environ.get("HF_HOME") or f"{cache}/huggingface"
    path = environ.get("HF_TOKEN_PATH") or f"{home}/token"
    try:
        return _clean(Path(os.path.expandvars(path)).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):
        return None


def _clean(token: str) -> str | None:
    token = token.strip()
    # What cannot stand in a header is no token.
    return token if token and re.fullmatch(r"[!-~]+", token) else None


def repository_page(url: str) -> str:
    """The page where the licence of a hub's file is accepted; the address itself for other hosts."""
    split = urllib.parse.urlsplit(url)
    parts = split.path.strip("/").split("/")
    return f"https://{HUB}/{parts[0]}/{parts[1]}" if split.netloc == HUB and len(parts) > 2 else url


def _refusal(answer: Answer, *, url: str, with_token: bool) -> Exception:
    """The error for a status that brings no file."""
    code = answer.headers.get("x-error-code", "")
    host = _host(answer.url)
    if answer.status in (404, 410) or code in ("RepoNotFound", "EntryNotFound", "RevisionNotFound"):
        return NotThere(f"{url} leads to no file ({answer.status})")
    if answer.status in _PASSING:
        after = _number(answer.headers.get("retry-after"))
        return Interrupted(f"{host} answers {answer.status}", None if after is None else min(after, _LONGEST_WAIT))
    if answer.status in (401, 403):
        if _host(url) != host:
            # Storage behind a signed address that has run out; the first address gives a new one.
            return Interrupted(f"{host} answers {answer.status}")
        if host != HUB:
            remedy = f"download it by hand; HF_TOKEN is sent to {HUB} only"
            return FetchError(f"{host} wants a login for {url} ({answer.status})", remedy=remedy)
        said = "refuses your HF_TOKEN for" if with_token else "wants a token for"
        return FetchError(
            f"{host} {said} {url} ({answer.status}): the file is gated",
            remedy=f"accept the licence at {repository_page(url)} and set HF_TOKEN to a token of that account",
        )
    return FetchError(f"{host} answers {answer.status} for {url}", remedy="try again later")


def _next_hop(here: str, location: str, first: str) -> str:
    if not location:
        raise FetchError(f"{first}: a redirect without an address")
    try:
        joined = urllib.parse.urljoin(here, location)
    except ValueError as error:
        raise FetchError(f"{first} redirects to {_shown(location)}, which is no address") from error
    return urllib.parse.urldefrag(joined)[0]


def _digest(etag: str | None) -> str | None:
    value = (etag or "").removeprefix("W/").strip('"').lower()
    return value if _SHA256.match(value) else None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else None


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc.lower()


def _shown(url: str) -> str:
    url = url.split("?", 1)[0]  # a signed address is a key
    return repr(url if len(url) <= 200 else url[:197] + "...")


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def _network(*, private: bool) -> OpenUrl:
    """One request over urllib, whose proxies it takes; nothing but http and https can be asked.

    Args:
        private: whether the host may have a private address.
    """
    import http.client
    import ipaddress
    import ssl
    import urllib.request

    class Checked(http.client.HTTPConnection):
        """Hangs up before the first byte where a name of the public turns out to lead into a private network."""

        direct = True

        def connect(self) -> None:
            super().connect()
            if private or not self.direct:
                return
            address = ipaddress.ip_address(self.sock.getpeername()[0].partition("%")[0])
            if not address.is_global or address.is_multicast:
                self.close()
                raise FetchError(f"{self.host} has the address {address} of a private network")

    class CheckedTLS(http.client.HTTPSConnection, Checked):
        """The same for https: its `connect` calls `Checked.connect` before it speaks TLS."""

    def make(kind: type[Checked], request: urllib.request.Request) -> Callable[..., http.client.HTTPConnection]:
        # Through a proxy, the connection's host is the proxy, which the user chose.
        direct = request.host == urllib.parse.urlsplit(request.full_url).netloc

        def connection(host: str, **options: object) -> http.client.HTTPConnection:
            made = kind(host, **options)  # type: ignore[arg-type]  # urllib's own keywords
            made.direct = direct
            return made

        return connection

    class Plain(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(make(Checked, request), request)

    class Encrypted(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(make(CheckedTLS, request), request, context=ssl.create_default_context())

    # No handler for errors or redirects: every status comes back as it is.
    director = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(), Plain(), Encrypted()):
        director.add_handler(handler)

    def open_url(url: str, headers: Mapping[str, str]) -> Answer:
        request = urllib.request.Request(_quoted(url), headers=dict(headers))  # noqa: S310 - judged by the caller
        response = director.open(request, timeout=TIMEOUT_SECONDS)
        assert response is not None
        lower = {name.lower(): value for name, value in response.headers.items()}
        return Answer(url=url, status=response.status, headers=lower, stream=response)

    return open_url


def _quoted(url: str) -> str:
    """``url`` with spaces and letters of other scripts as a request needs them; what is escaped stays so."""
    return urllib.parse.quote(url, safe="%/:?#[]@!$&'()*+,;=~")
