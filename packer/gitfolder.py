"""A git checkout read without git: its commit and remote, from the files in ``.git``.

Source: gitrepository-layout(5), git-config(5). Whether there are local changes only git itself can say.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .addresses import is_commit

_MAX_FILE = 1 << 20
_GIT_SECONDS = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkout:
    """A git checkout. ``dirty`` is None where git is not at hand to tell; ``url`` is the remote as it is configured."""

    folder: Path
    commit: str | None
    url: str | None
    dirty: bool | None = None


def read_checkout(folder: Path, *, ask_git: bool = True) -> Checkout | None:
    """The checkout at ``folder`` itself (not one above it); None where it is none.

    Args:
        ask_git: run ``git status`` to see whether tracked files were changed.
    """
    git = _git_dir(folder)
    if git is None:
        return None
    common = git
    shared = _text(git / "commondir")  # a worktree keeps its branches with the main checkout
    if shared:
        common = (git / shared.strip()).resolve()
    return Checkout(
        folder=folder,
        commit=_head(git, common),
        url=_remote(common),
        dirty=_is_dirty(folder) if ask_git else None,
    )


def _git_dir(folder: Path) -> Path | None:
    git = folder / ".git"
    if git.is_dir():
        return git
    # A submodule or a worktree has a file that points at the folder.
    text = _text(git)
    if text and text.startswith("gitdir:"):
        path = folder / text.removeprefix("gitdir:").strip()
        return path if path.is_dir() else None
    return None


def _text(path: Path) -> str | None:
    try:
        if not path.is_file() or path.stat().st_size > _MAX_FILE * 16:
            return None
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _head(git: Path, common: Path) -> str | None:
    head = (_text(git / "HEAD") or "").strip()
    for _ in range(5):  # a reference may point at another one
        if not head.startswith("ref:"):
            return head if is_commit(head) else None
        name = head.removeprefix("ref:").strip()
        if not re.fullmatch(r"refs/[^\s\\:?*\[~^]+", name) or ".." in name:
            return None
        loose = _text(git / name) or _text(common / name)
        head = loose.strip() if loose else _packed(common, name)
    return None


def _packed(common: Path, name: str) -> str:
    for line in (_text(common / "packed-refs") or "").splitlines():
        commit, _, reference = line.partition(" ")
        if reference.strip() == name:
            return commit
    return ""


def _remote(common: Path) -> str | None:
    """The address of "origin", else of the only remote."""
    remotes: dict[str, str] = {}
    section = ""
    for line in (_text(common / "config") or "").splitlines():
        stripped = line.strip()
        header = re.fullmatch(r'\[remote "([^"]*)"\].*', stripped)
        if header:
            section = header[1]
        elif stripped.startswith("["):
            section = ""
        elif section:
            key, _, value = stripped.partition("=")
            if key.strip().lower() == "url":
                remotes.setdefault(section, value.strip().strip('"'))
    if "origin" in remotes:
        return remotes["origin"]
    return next(iter(remotes.values())) if len(remotes) == 1 else None


def _is_dirty(folder: Path) -> bool | None:
    git = shutil.which("git")
    if git is None:
        return None
    # A checkout's own configuration may name programs (fsmonitor, hooks): they are switched off.
    command = [
        git,
        "-c",
        "core.fsmonitor=false",
        "-c",
        "core.hooksPath=",
        "status",
        "--porcelain",
        "-uno",
        "--ignore-submodules",
    ]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, stdin=subprocess.DEVNULL, timeout=_GIT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return bool(done.stdout.strip()) if done.returncode == 0 else None
