"""New files and folders that appear whole or not at all: written aside, flushed to the disk, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import PackerError
from .lock import Locked, locked_folder

_REMEDIES = {
    errno.ENOSPC: "free some space on that disk and try again",
    errno.EDQUOT: "free some of your quota and try again",
    errno.EFBIG: "the file system or a limit does not allow a file of this size",
    errno.EROFS: "choose a folder that can be written to",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.ENOENT: "create the folder first",
    errno.ENOTDIR: "choose a path whose parent is a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def write_error(error: OSError, path: Path) -> PackerError:
    """``error`` from writing at ``path`` in words, with what to do about it."""
    reason = error.strerror or str(error)
    return PackerError(
        f"cannot be written: {reason[:1].lower()}{reason[1:]}", file=str(path), remedy=_REMEDIES.get(error.errno or 0)
    )


@contextlib.contextmanager
def new_file(target: Path) -> Iterator[BinaryIO]:
    """Open a file that gets the name ``target`` when the block ends well, replacing what is there; else none is left.

    On Linux the file has no name until then, so that not even a killed process leaves anything behind; elsewhere a
    killed process leaves ``.<name>.<random>.part``.

    Raises:
        PackerError: the folder cannot be written to, or the disk is full.
    """
    if target.exists() and not target.is_file() and not target.is_dir():
        with _through(target) as file_of_no_name:
            yield file_of_no_name
        return
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    file: BinaryIO | None = None
    try:
        if target.is_dir():
            raise PackerError("is a folder, not a file", file=str(target), remedy="give the name of a file")
        file, named = _open_part(part)
        yield file
        file.flush()
        os.fsync(file.fileno())
        if not named:
            # A descriptor as `src_dir_fd` makes Python call linkat with AT_SYMLINK_FOLLOW; the path is absolute.
            os.link(f"/proc/self/fd/{file.fileno()}", part, src_dir_fd=file.fileno())
        file.close()
        os.replace(part, target)  # noqa: PTH105 - the os functions stand together here
        flush_folder(target.parent)
    except OSError as error:
        raise write_error(error, target) from error
    finally:
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def _through(device: Path) -> Iterator[BinaryIO]:
    """A file whose content goes into ``device`` at the end: what is no file (/dev/null) is never replaced."""
    try:
        with tempfile.TemporaryFile() as file:
            yield file
            file.seek(0)
            with device.open("wb") as out:
                shutil.copyfileobj(file, out)
    except OSError as error:
        raise write_error(error, device) from error


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path``, whole or not at all; `PackerError` where it cannot be written."""
    with new_file(Path(path)) as file:
        file.write(text.encode("utf-8"))


def _open_part(part: Path) -> tuple[BinaryIO, bool]:
    """The open file, and whether it already has the name ``part``."""
    nameless = getattr(os, "O_TMPFILE", None)
    if nameless is not None and Path("/proc/self/fd").is_dir():
        try:
            return os.fdopen(os.open(part.parent, nameless | os.O_RDWR | os.O_CLOEXEC, 0o666), "w+b"), False
        except OSError as error:
            # Network and overlay file systems often have no nameless files; a missing or closed folder is an error.
            if error.errno in (errno.ENOENT, errno.EACCES, errno.EROFS, errno.ENOTDIR):
                raise
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.fdopen(os.open(part, flags, 0o666), "w+b"), True


def flush_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    # Windows has no such call, some network file systems refuse it.
    if os.name != "nt":
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to fill that becomes ``target`` when the block ends well; else nothing is left.

    ``target`` may be missing (its parents are made) or an empty folder. What a killed run left behind is removed by the
    next run for the same target.

    Raises:
        PackerError: ``target`` is a file or a folder with something in it, cannot be written, or another process is
            filling it right now.
    """
    target = Path(os.path.abspath(target))  # noqa: PTH100 - resolve() would follow a link that is the target itself
    _check_free(target)
    made = [parent for parent in target.parents if not parent.exists()]
    done = False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        stage = _stage_for(target)
        with locked_folder(stage):
            try:
                _empty(stage)  # of what a killed run left
                yield stage
                _flush_tree(stage)
                _put(stage, target)
                done = True
            finally:
                _remove(stage)
    except Locked as error:
        raise PackerError("is being written by another process", file=str(target), remedy="wait for it") from error
    except OSError as error:
        raise write_error(error, target) from error
    finally:
        if not done:
            for folder in made:
                with contextlib.suppress(OSError):
                    folder.rmdir()


def _check_free(target: Path) -> None:
    if target.is_symlink():
        raise PackerError("is a link", file=str(target), remedy="give the folder itself or a new one")
    if not target.exists():
        return
    if not target.is_dir():
        raise PackerError("is a file", file=str(target), remedy="give a new folder")
    try:
        occupied = any(entry.name != _INNER_STAGE for entry in target.iterdir())
    except OSError as error:
        raise write_error(error, target) from error
    if occupied:
        raise PackerError("the folder is not empty", file=str(target), remedy="give a new or an empty folder")


_INNER_STAGE = ".atelier-unpacking"


def _stage_for(target: Path) -> Path:
    """Where to write aside: beside the target; inside it where it is a mount of its own or its parent is closed."""
    beside = target.with_name(f".{target.name}.unpacking")
    if not target.exists():
        return beside
    own_device = target.stat().st_dev != target.parent.stat().st_dev
    return target / _INNER_STAGE if own_device or not os.access(target.parent, os.W_OK) else beside


def _put(stage: Path, target: Path) -> None:
    if stage.parent == target:
        for entry in sorted(stage.iterdir()):
            entry.rename(target / entry.name)
        return
    if target.exists():
        # An empty folder: rename() replaces it on POSIX; Windows wants it gone. Its mode is the user's choice: kept.
        stage.chmod(stat.S_IMODE(target.stat().st_mode))
        if os.name == "nt":
            target.rmdir()
    stage.rename(target)
    flush_folder(target.parent)


def _flush_tree(stage: Path) -> None:
    for folder, _, _ in os.walk(stage):
        flush_folder(Path(folder))


def _empty(stage: Path) -> None:
    for entry in stage.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _remove(stage: Path) -> None:
    with contextlib.suppress(OSError):
        _empty(stage)
        stage.rmdir()
