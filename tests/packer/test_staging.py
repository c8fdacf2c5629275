"""Nothing half-written is left, whatever happens: no space, no permission, an error, a kill."""

import errno
import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from comfy_atelier.packer import PackerError, write_text
from comfy_atelier.packer.staging import new_file, new_folder


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def test_a_new_file_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "x"
    with new_file(target) as file:
        file.write(b"1")
        assert not target.exists()
    assert target.read_bytes() == b"1"
    with new_file(target) as file:
        file.write(b"22")
    assert target.read_bytes() == b"22"
    assert names(tmp_path) == ["x"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_a_new_file_has_the_users_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "x", "ü\n")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "x").read_bytes() == "ü\n".encode()


def test_an_error_in_the_block_leaves_what_was_there(tmp_path):
    target = tmp_path / "x"
    target.write_bytes(b"old")

    def write_and_fail():
        with new_file(target) as file:
            file.write(b"new")
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        write_and_fail()
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("nameless", [True, False])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_is_an_error_in_words_and_leaves_nothing(tmp_path, monkeypatch, step, nameless):
    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    if not nameless:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(PackerError) as caught, new_file(tmp_path / "x") as file:
        file.write(b"1")
    assert str(caught.value) == (
        f"{tmp_path / 'x'}: cannot be written: no space left on device; free some space on that disk and try again"
    )
    monkeypatch.undo()
    assert names(tmp_path) == []


def test_a_file_system_without_nameless_files(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    with new_file(tmp_path / "x") as file:
        file.write(b"1")
    assert names(tmp_path) == ["x"]


def test_a_missing_folder_and_a_folder_in_the_way(tmp_path):
    with pytest.raises(PackerError, match="create the folder first"), new_file(tmp_path / "no" / "x"):
        pass
    with pytest.raises(PackerError, match="is a folder"), new_file(tmp_path):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(PackerError, match="cannot be written"), new_file(tmp_path / "file" / "x"):
        pass


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_closed_folder(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PackerError, match="choose a folder that you may write to"), new_file(tmp_path / "x"):
            pass
    finally:
        tmp_path.chmod(0o700)


def run(code, *arguments, **options):
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], **options)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_FSIZE and nameless files are Linux here")
def test_a_real_limit_on_file_size(tmp_path):
    process = run(
        """
        import resource, signal, sys
        from pathlib import Path
        from comfy_atelier.packer.archive import write_archive
        from comfy_atelier.packer import PackerError
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        import os
        try:
            write_archive(Path(sys.argv[1]), {"a": os.urandom(1_000_000)})
        except PackerError as error:
            print(error); sys.exit(3)
        """,
        tmp_path / "x.zip",
        stdout=subprocess.PIPE,
        text=True,
    )
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "cannot be written: file too large" in out
    assert names(tmp_path) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has nameless files")
def test_a_killed_writer_leaves_nothing(tmp_path):
    process = run(
        """
        import sys
        from pathlib import Path
        from comfy_atelier.packer.staging import new_file
        with new_file(Path(sys.argv[1])) as file:
            file.write(b"x" * 1_000_000); file.flush()
            print("ready", flush=True); sys.stdin.read()
        """,
        tmp_path / "x",
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert names(tmp_path) == []


def fill(stage):
    (stage / "input").mkdir()
    (stage / "input" / "a").write_text("a")
    (stage / "b").write_text("b")


@pytest.mark.parametrize("target", ["new", "some/deeper/new", "empty"])
def test_a_new_folder_appears_whole(tmp_path, target):
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / target) as stage:
        fill(stage)
        assert not (tmp_path / target / "b").exists()
    assert names(tmp_path / target) == ["b", "input"]
    assert not list(tmp_path.rglob(".*"))


def test_an_occupied_place_is_refused_and_kept(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name, words in (("full", "not empty"), ("file", "is a file")):
        with pytest.raises(PackerError, match=words), new_folder(tmp_path / name):
            pytest.fail("must not be entered")
    assert (tmp_path / "full" / "mine").read_text() == "mine"
    assert names(tmp_path) == ["file", "full"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PackerError, match="is a link"), new_folder(tmp_path / "link"):
        pytest.fail("must not be entered")


@pytest.mark.parametrize("target", ["new", "some/deeper/new", "empty"])
def test_an_error_leaves_no_folder(tmp_path, target):
    (tmp_path / "empty").mkdir()

    def fill_and_fail():
        with new_folder(tmp_path / target) as stage:
            fill(stage)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fill_and_fail()
    assert names(tmp_path) == ["empty"]
    assert names(tmp_path / "empty") == []


def test_a_full_disk_while_filling_a_folder(tmp_path):
    with pytest.raises(PackerError, match="no space left"), new_folder(tmp_path / "new"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


def test_a_stage_that_a_killed_run_left_is_removed(tmp_path):
    left = tmp_path / ".new.unpacking"
    left.mkdir()
    (left / "half").write_text("half")
    with new_folder(tmp_path / "new") as stage:
        fill(stage)
    assert names(tmp_path / "new") == ["b", "input"]
    assert names(tmp_path) == ["new"]


def test_a_folder_that_somebody_else_fills_is_left_alone(tmp_path):
    with new_folder(tmp_path / "new") as stage:
        fill(stage)
        with pytest.raises(PackerError, match="another process"), new_folder(tmp_path / "new"):
            pytest.fail("must not be entered")
        assert names(stage) == ["b", "input"]
    assert names(tmp_path) == ["new"]


def test_a_folder_whose_parent_is_closed_is_filled_from_inside(tmp_path, monkeypatch):
    target = tmp_path / "mounted"
    target.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with new_folder(target) as stage:
        assert stage.parent == target
        fill(stage)
    assert names(target) == ["b", "input"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_file_is_written_to_and_never_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    code = "import pathlib, sys; sys.stdout.write(pathlib.Path(sys.argv[1]).read_text())"
    reader = subprocess.Popen([sys.executable, "-c", code, str(pipe)], stdout=subprocess.PIPE, text=True)
    write_text(pipe, "through")
    assert reader.communicate(timeout=30)[0] == "through"
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
