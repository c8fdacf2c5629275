import subprocess
import sys

import pytest

from comfy_atelier.packer.lock import FileLock, Locked, locked_folder

HOLD = """
import sys
from pathlib import Path
from comfy_atelier.packer.lock import FileLock
with FileLock(Path(sys.argv[1])):
    print("held", flush=True); sys.stdin.read()
"""


def test_only_one_holds_it_and_it_leaves_no_file(tmp_path):
    path = tmp_path / "lock"
    with FileLock(path):
        with pytest.raises(Locked), FileLock(path):
            pytest.fail("must not be entered")
        assert path.exists()
    assert not path.exists()
    with FileLock(path):
        pass


def test_a_killed_owner_frees_it(tmp_path):
    path = tmp_path / "lock"
    owner = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdout.readline() == b"held\n"
    with pytest.raises(Locked), FileLock(path):
        pytest.fail("must not be entered")
    owner.kill()
    owner.communicate(timeout=60)
    with FileLock(path):
        pass
    assert not path.exists()


def test_a_locked_folder_may_be_renamed_and_made_anew(tmp_path):
    folder = tmp_path / "folder"
    with locked_folder(folder):
        with pytest.raises(Locked), locked_folder(folder):
            pytest.fail("must not be entered")
        folder.rename(tmp_path / "done")
        with locked_folder(folder):
            assert folder.is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["done", "folder"]


def test_an_error_in_the_block_comes_out_and_frees_the_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="mine"), locked_folder(tmp_path / "folder"):
        raise FileNotFoundError("mine")
    with locked_folder(tmp_path / "folder"):
        pass
