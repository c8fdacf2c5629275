"""Set-up, with the standard library only.

    python install.py            what ComfyUI-Manager runs: the node pack's needs, into the running Python, quietly
    python install.py demo       sets up .venv, then packs, serves and calls a workflow, and prints the picture's path
    python install.py test       sets up .venv, then runs the whole test suite

What follows ``demo`` goes to ``atelier demo``, what follows ``test`` to pytest.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
MINIMUM = (3, 11)

# Import name -> requirement. ComfyUI installs every one of them; here for the day that one is missing.
NODE_PACK_NEEDS = {
    "aiohttp": "aiohttp>=3.11.8",
    "numpy": "numpy>=1.26",
    "PIL": "pillow>=10",
    "pydantic": "pydantic>=2.7",
    "safetensors": "safetensors>=0.4.2",
    "sqlalchemy": "SQLAlchemy>=2.0",
    "yaml": "pyyaml>=6",
}

# Which extras of pyproject.toml each form needs.
EXTRAS = {"demo": ("embedded",), "test": ("embedded", "dev")}

# CLIP's vocabulary comes as a file inside the first package, upscale models are run by the second (which needs the
# third). What they ask for besides, torchvision, is left out: neither needs it for that, and a torchvision made for
# another build of torch breaks whatever imports it.
ALONE = ("open_clip_torch", "spandrel", "einops")


def fail(message):
    """Say what is wrong and stop; exit code 2, as every wrong call of ours."""
    print("install.py: " + message, file=sys.stderr)
    raise SystemExit(2)


def pip(python, *arguments):
    """Run pip in the given Python; its own output only where it fails."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode:
        tail = "\n".join(result.stdout.strip().splitlines()[-15:])
        print(tail, file=sys.stderr)
        print(f"install.py: pip {arguments[0]} failed (above); check the network and run the same command again",
              file=sys.stderr)  # fmt: skip
        raise SystemExit(1)


def install_node_pack_needs():
    """Install what the node pack lacks into the running Python, and hold its torch exactly where it is."""
    missing = [need for name, need in NODE_PACK_NEEDS.items() if importlib.util.find_spec(name) is None]
    if not missing:
        return
    held = []
    for name in ("torch", "torchvision", "torchaudio", "numpy", "transformers"):
        try:
            held.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "held.txt")
        constraints.write_text("\n".join(held) + "\n", encoding="utf-8")
        pip(sys.executable, "install", "--quiet", "--constraint", str(constraints), *missing)


def venv_python():
    """The Python of .venv, wherever this system keeps it."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def fingerprint():
    """Changes when what must be installed changes."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {ROOT}".encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def set_up(extras):
    """Make .venv with the checkout (editable) and its extras, pinned by constraints.txt; the second time, nothing."""
    stamp = VENV / "atelier-setup.json"
    now = fingerprint()
    done = {}
    try:
        done = json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        pass
    have = set(done.get("extras", ())) if done.get("fingerprint") == now else set()
    if set(extras) <= have and venv_python().is_file():
        return
    wanted = sorted(have | set(extras))
    if not venv_python().is_file() or done.get("fingerprint") is None:
        print(f"Setting up {VENV} ...", flush=True)
        made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=False)
        if made.returncode:
            fail("this Python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv")
    print(f"Installing comfy-atelier[{','.join(wanted)}] (minutes the first time, seconds after) ...", flush=True)
    constraints = str(ROOT / "constraints.txt")
    if "embedded" in wanted:
        # First and alone: a later package that asks for any torch then finds this one and leaves it.
        pip(venv_python(), "install", "--constraint", constraints, "torch")
    pip(venv_python(), "install", "--constraint", constraints, "--editable", f"{ROOT}[{','.join(wanted)}]")
    if "embedded" in wanted:
        pip(venv_python(), "install", "--constraint", constraints, "--no-deps", *ALONE)
    stamp.write_text(json.dumps({"fingerprint": now, "extras": wanted}) + "\n", encoding="utf-8")


def main(arguments):
    """Do what the first argument says; returns the exit code."""
    if sys.version_info < MINIMUM:
        fail(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}; run it with a newer python")
    if not arguments:
        install_node_pack_needs()
        return 0
    form, rest = arguments[0], arguments[1:]
    if form in ("-h", "--help"):
        print(__doc__.strip())
        return 0
    if form not in EXTRAS:
        fail(f"unknown form {form!r}; use: python install.py, python install.py demo, python install.py test")
    set_up(EXTRAS[form])
    module = "comfy_atelier.cli.main" if form == "demo" else "pytest"
    command = [str(venv_python()), "-m", module, *(["demo"] if form == "demo" else []), *rest]
    environment = {**os.environ, "PYTHONUTF8": "1"}
    try:
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
