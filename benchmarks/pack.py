"""Hashing and packing speed, beside plain hashlib and plain zipfile on the same files in the same run.

python benchmarks/pack.py [--megabytes 1024]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from comfy_atelier.graph import NodeSchemas
from comfy_atelier.packer import Bundle, pack, unpack, verify
from comfy_atelier.packer.hashes import HashCache, hash_files

ROUNDS = 3
NODES = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "out"}},
}


def best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of a few rounds."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def row(what: str, ours: float, peer: float | None = None, against: str = "") -> None:
    """One line of the table."""
    ratio = f"{ours / peer:5.2f}x of {peer * 1000:8.1f} ms ({against})" if peer else ""
    print(f"{what:36} {ours * 1000:9.1f} ms   {ratio}")


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--megabytes", type=int, default=512)
    megabytes = arguments.parse_args().megabytes
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        models = []
        for index in range(4):
            models.append(place / f"m{index}.safetensors")
            models[-1].write_bytes(os.urandom(1 << 20) * (megabytes // 4))
            os.utime(models[-1], (1_600_000_000, 1_600_000_000))

        def plain_hash() -> None:
            for path in models:
                with path.open("rb") as file:
                    hashlib.file_digest(file, "sha256").hexdigest()

        row(f"hash 4 files, {megabytes} MB", best(lambda: hash_files(models)), best(plain_hash), "hashlib, one by one")
        cache = HashCache(place / "cache.sqlite3")
        hash_files(models, cache=cache)
        row("hash them again, remembered", best(lambda: hash_files(models, cache=cache)))

        (place / "photo.png").write_bytes(os.urandom(20 << 20))
        (place / "flow.json").write_text(json.dumps(NODES))
        schemas, bundle = NodeSchemas.builtin(), place / "x.cpack.zip"

        def plain_zip() -> None:
            with zipfile.ZipFile(place / "plain.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
                archive.write(place / "photo.png", "input/photo.png")
                archive.write(place / "flow.json", "workflow_api.json")

        def plain_unzip() -> None:
            with zipfile.ZipFile(bundle) as archive:
                archive.extractall(place / "plain")

        targets = iter(range(100))
        row(
            "pack a 20 MB input",
            best(lambda: pack(place / "flow.json", bundle, schemas=schemas, cache=cache)),
            best(plain_zip),
            "zipfile",
        )
        row("open it", best(lambda: Bundle.open(bundle, schemas=schemas)))
        row("verify it", best(lambda: verify(bundle, schemas=schemas)))
        row(
            "unpack it",
            best(lambda: unpack(bundle, place / f"out{next(targets)}", schemas=schemas)),
            best(plain_unzip),
            "zipfile, unchecked",
        )


if __name__ == "__main__":
    main()
