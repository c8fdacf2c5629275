import shutil
import subprocess

import pytest

from comfy_atelier.packer.gitfolder import read_checkout

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "89abcdef0123456789abcdef0123456789abcdef"


def git_dir(folder, head, *, refs=None, packed=None, config=""):
    git = folder / ".git"
    git.mkdir(parents=True)
    (git / "HEAD").write_text(head + "\n")
    for name, commit in (refs or {}).items():
        (git / name).parent.mkdir(parents=True, exist_ok=True)
        (git / name).write_text(commit + "\n")
    if packed:
        (git / "packed-refs").write_text("# pack-refs with: peeled fully-peeled sorted\n" + packed)
    (git / "config").write_text(config)
    return folder


def commit_of(folder):
    return read_checkout(folder, ask_git=False).commit


def test_heads_of_every_kind(tmp_path):
    assert commit_of(git_dir(tmp_path / "detached", COMMIT)) == COMMIT
    assert commit_of(git_dir(tmp_path / "loose", "ref: refs/heads/main", refs={"refs/heads/main": COMMIT})) == COMMIT
    packed = f"{OTHER} refs/heads/other\n{COMMIT} refs/heads/main\n^{OTHER}\n"
    assert commit_of(git_dir(tmp_path / "packed", "ref: refs/heads/main", packed=packed)) == COMMIT
    chain = {"refs/heads/main": "ref: refs/heads/next", "refs/heads/next": COMMIT}
    assert commit_of(git_dir(tmp_path / "chain", "ref: refs/heads/main", refs=chain)) == COMMIT
    assert commit_of(git_dir(tmp_path / "unborn", "ref: refs/heads/main")) is None
    assert (
        commit_of(git_dir(tmp_path / "loop", "ref: refs/heads/a", refs={"refs/heads/a": "ref: refs/heads/a"})) is None
    )
    assert commit_of(git_dir(tmp_path / "escape", "ref: refs/../../../secret")) is None
    assert commit_of(git_dir(tmp_path / "broken", "what?")) is None


def test_remotes(tmp_path):
    config = '[core]\n\tbare = false\n[remote "fork"]\n\turl = https://a\n[remote "origin"]\n\tfetch = x\n\tURL = https://b\n'
    assert read_checkout(git_dir(tmp_path / "a", COMMIT, config=config), ask_git=False).url == "https://b"
    two = '[remote "x"]\nurl = https://a\n[remote "y"]\nurl = https://b\n'
    assert read_checkout(git_dir(tmp_path / "b", COMMIT, config=two), ask_git=False).url is None
    one = '[remote "x"]\nurl = https://a\n[branch "main"]\nremote = x\n'
    assert read_checkout(git_dir(tmp_path / "c", COMMIT, config=one), ask_git=False).url == "https://a"


def test_what_is_no_checkout(tmp_path):
    assert read_checkout(tmp_path) is None
    (tmp_path / ".git").write_text("gitdir: nowhere\n")
    assert read_checkout(tmp_path) is None


def test_without_git_nobody_knows_of_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    checkout = read_checkout(git_dir(tmp_path, COMMIT))
    assert (checkout.commit, checkout.dirty) == (COMMIT, None)


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_what_git_itself_makes(tmp_path):
    """A clone, a worktree, a submodule and a dirty file, as git lays them out."""

    def git(*arguments, cwd):
        environment = {"GIT_CONFIG_GLOBAL": "/dev/null", "HOME": str(tmp_path), "PATH": shutil.os.environ["PATH"]}
        names = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always"]
        done = subprocess.run(["git", *names, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    origin = tmp_path / "origin"
    origin.mkdir()
    git("init", "-q", "-b", "main", cwd=origin)
    (origin / "a.py").write_text("a")
    git("add", ".", cwd=origin)
    git("commit", "-q", "-m", "a", cwd=origin)
    head = git("rev-parse", "HEAD", cwd=origin)
    git("clone", "-q", str(origin), "clone", cwd=tmp_path)
    clone = tmp_path / "clone"
    git("pack-refs", "--all", cwd=clone)
    checkout = read_checkout(clone)
    assert (checkout.commit, checkout.url, checkout.dirty) == (head, str(origin), False)
    git("worktree", "add", "-q", "-b", "side", str(tmp_path / "tree"), cwd=clone)
    assert (read_checkout(tmp_path / "tree").commit, read_checkout(tmp_path / "tree").url) == (head, str(origin))
    git("submodule", "--quiet", "add", str(origin), "inner", cwd=clone)
    assert read_checkout(clone / "inner").commit == head
    (clone / "untracked").write_text("x")
    git("commit", "-q", "-m", "submodule", cwd=clone)
    assert read_checkout(clone).dirty is False
    (clone / "a.py").write_text("changed")
    assert read_checkout(clone).dirty is True
