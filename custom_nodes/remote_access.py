"""Addresses and keys of remote models: from the environment or the user's own configuration file, never from a
workflow.

A workflow travels: into files, pictures' metadata, other people's hands. So no key is ever a widget, and no widget
names a server that the user has not configured: a stranger's workflow could otherwise send the key, or a request,
anywhere.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .errors import NodeInputError

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Secret:
    """A key that shows itself only to who asks for it by name: neither ``repr`` nor ``str`` tell it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret(...)"

    def reveal(self) -> str:
        """The key itself, for a request's header only."""
        return self._value

    def scrub(self, text: str) -> str:
        """``text`` without the key, for whatever a server says."""
        return text.replace(self._value, "***") if self._value else text


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """How to reach a kind of remote model. ``urls`` are base addresses without a slash at the end, the first is taken
    where a workflow names none.
    """

    urls: tuple[str, ...]
    key: Secret
    model: str

    def url(self, wanted: str = "") -> str:
        """The base address to use; ``wanted`` must be one of those configured."""
        clean = wanted.strip().rstrip("/")
        if not clean and self.urls:
            return self.urls[0]
        if clean in self.urls:
            return clean
        known = ", ".join(self.urls) or "none"
        raise NodeInputError(
            f"server '{shown_url(clean)}' is not configured (there are: {known}); a workflow cannot bring its own: "
            "add it to your configuration, or leave the input empty"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """A kind of remote model: its table in the configuration file and its environment variables."""

    table: str
    url_variable: str
    key_variable: str
    model_variable: str = ""
    default_url: str = ""

    def access(self, environ: Mapping[str, str] | None = None, file: Path | None = None) -> Access:
        """What is configured: the environment wins over the file.

        Raises:
            NodeInputError: the file or an address in it is wrong; names both, and never a key.
        """
        environ = os.environ if environ is None else environ
        table = _table(file or config_file(environ), self.table)
        urls = environ.get(self.url_variable, "").split() or _strings(table.get("url"))
        key = environ.get(self.key_variable, "") or _string(table.get("key"))
        model = environ.get(self.model_variable, "") if self.model_variable else ""
        return Access(
            urls=tuple(_checked(url, self) for url in (urls or _strings(self.default_url))),
            key=Secret(_header_safe(key, self)),
            model=model or _string(table.get("model")),
        )

    def remedy(self, what: str) -> str:
        """How to configure ``url`` or ``key``, in words."""
        variable = {"url": self.url_variable, "key": self.key_variable, "model": self.model_variable}[what]
        return f"set {variable} before ComfyUI starts, or {what} in [{self.table}] of {config_file()}"


BFL = Service(table="bfl", url_variable="ATELIER_BFL_URL", key_variable="BFL_API_KEY")
IMAGES = Service(
    table="images",
    url_variable="ATELIER_IMAGES_URL",
    key_variable="ATELIER_IMAGES_KEY",
    model_variable="ATELIER_IMAGES_MODEL",
)
CHAT = Service(
    table="chat",
    url_variable="ATELIER_CHAT_URL",
    key_variable="ATELIER_CHAT_KEY",
    model_variable="ATELIER_CHAT_MODEL",
)


def config_file(environ: Mapping[str, str] | None = None) -> Path:
    """``config.toml`` in this user's configuration folder, the same file that ``atelier serve`` reads.

    ComfyUI does not have the package ``platformdirs``, so its rule is here; a test holds the two together.
    """
    environ = os.environ if environ is None else environ
    if sys.platform == "win32":
        folder = Path(environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Application Support"
    else:
        folder = Path(environ.get("XDG_CONFIG_HOME", "").strip() or Path.home() / ".config")
    return folder / "comfy-atelier" / "config.toml"


def trusts_model_code(environ: Mapping[str, str] | None = None, file: Path | None = None) -> bool:
    """Whether the user allows code that lies beside a model's weights to run on this machine."""
    environ = os.environ if environ is None else environ
    told = environ.get("ATELIER_TRUST_MODEL_CODE")
    if told is not None:
        return told.strip().lower() in ("1", "true", "yes", "on")
    return _table(file or config_file(environ), "models").get("trust_code") is True


def shown_url(url: str) -> str:
    """An address without what may be secret in it: user, password, query."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "an address that is none"
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path}"


def _table(file: Path, name: str) -> Mapping[str, Any]:
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        # The error's own text may quote a line with a key in it.
        raise NodeInputError(f"{file} cannot be read as TOML ({type(error).__name__}); correct it") from None
    table = values.get(name, {})
    return table if isinstance(table, dict) else {}


def _string(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _strings(value: object) -> list[str]:
    if isinstance(value, list):
        return [_string(item) for item in value if _string(item)]
    return _string(value).split()


def _checked(url: str, service: Service) -> str:
    """An address as it is used: plain http too, for servers of one's own network."""
    where = f"{service.url_variable} or url in [{service.table}]"
    try:
        parts = urlsplit(url)
    except ValueError:
        raise NodeInputError(f"{where} is no address; correct it") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise NodeInputError(f"'{shown_url(url)}' ({where}) is no plain http or https address; correct it")
    return url.rstrip("/")


def _header_safe(key: str, service: Service) -> str:
    key = key.strip()
    if not key.isascii() or not key.isprintable():
        raise NodeInputError(
            f"the key ({service.key_variable} or key in [{service.table}]) has characters that no key has"
        )
    return key
