import hashlib
import os
import sqlite3
import subprocess
import sys

import pytest

from comfy_atelier.packer import MissingFile
from comfy_atelier.packer.hashes import HashCache, hash_files


@pytest.fixture
def files(tmp_path):
    """Five files, old enough to be remembered."""
    paths = []
    for index in range(5):
        path = tmp_path / f"m{index}.safetensors"
        path.write_bytes(os.urandom(1000 + index * 3_000_000 * (index == 4)))
        os.utime(path, (1_600_000_000, 1_600_000_000))
        paths.append(path)
    return paths


def right(paths):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_hashes_are_right_and_in_order_with_progress(files):
    seen = []
    found = hash_files(files, progress=lambda path, done, total: seen.append((done, total)))
    assert found == right(files)
    assert list(found) == files
    total = sum(path.stat().st_size for path in files)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (total, total)


def test_a_remembered_file_is_not_read_again(files, tmp_path):
    cache = HashCache(tmp_path / "cache" / "hashes.sqlite3")
    first = hash_files(files, cache=cache)
    seen = []
    assert hash_files(files, cache=cache, progress=lambda *state: seen.append(state)) == first
    assert seen == []


@pytest.mark.parametrize("change", ["size", "time", "replaced"])
def test_a_changed_file_is_read_again(files, tmp_path, change):
    cache = HashCache(tmp_path / "hashes.sqlite3")
    hash_files(files, cache=cache)
    path = files[0]
    if change == "size":
        path.write_bytes(b"longer" * 1000)
        os.utime(path, (1_600_000_000, 1_600_000_000))
    elif change == "time":
        path.write_bytes(bytes(1000))
        os.utime(path, (1_600_000_001, 1_600_000_001))
    else:
        other = tmp_path / "other"
        other.write_bytes(bytes(1000))
        os.utime(other, (1_600_000_000, 1_600_000_000))
        other.replace(path)  # same size and time, another inode
    assert hash_files(files, cache=cache) == right(files)


def test_a_file_that_was_just_written_is_not_remembered(tmp_path):
    cache = HashCache(tmp_path / "hashes.sqlite3")
    path = tmp_path / "fresh"
    path.write_bytes(b"1")
    hash_files([path], cache=cache)
    assert not cache.path.exists()


@pytest.mark.parametrize("trouble", ["no database", "a folder", "closed"])
def test_without_a_usable_cache_everything_works(files, tmp_path, trouble):
    path = tmp_path / "cache" / "hashes.sqlite3"
    path.parent.mkdir()
    if trouble == "no database":
        path.write_bytes(b"this is no database at all, whatever its name may say" * 100)
    elif trouble == "a folder":
        path.mkdir()
    else:
        path = tmp_path / "m0.safetensors" / "hashes.sqlite3"  # below a file
    cache = HashCache(path)
    assert hash_files(files, cache=cache) == right(files)
    seen = []
    assert hash_files(files, cache=cache, progress=lambda *state: seen.append(state)) == right(files)
    assert (seen == []) == (trouble == "no database")  # that one is replaced by a new one


WRITE = """
import sys
from pathlib import Path
from comfy_atelier.packer.hashes import HashCache
cache = HashCache(Path(sys.argv[1]))
for index in range(60):
    cache.add({(f"/{sys.argv[2]}/{index}", 1, 2, 3): "ab" * 32})
"""


def test_several_processes_write_at_once(tmp_path):
    path = tmp_path / "hashes.sqlite3"
    running = [subprocess.Popen([sys.executable, "-c", WRITE, str(path), str(n)]) for n in range(3)]
    assert [process.wait(timeout=120) for process in running] == [0, 0, 0]
    database = sqlite3.connect(path)
    assert database.execute("SELECT count(*) FROM hashes").fetchone() == (180,)
    database.close()


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(MissingFile, match="cannot be read: no such file"):
        hash_files([tmp_path / "none"])


def test_a_file_that_changes_meanwhile_is_an_error(files):
    def grow(path, done, total):
        with files[0].open("ab") as file:
            file.write(b"more")

    with pytest.raises(MissingFile, match="changed while it was read"):
        hash_files(files[:1], progress=grow)


def test_an_error_in_the_progress_callback_comes_out(files):
    def fail(*state):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hash_files(files, progress=fail)
