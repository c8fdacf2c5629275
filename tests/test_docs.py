"""Pages that are written from the code say what it says, and no page links to what is not there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_index_of_nodes_is_up_to_date() -> None:
    command = [sys.executable, ROOT / "docs" / "list_nodes.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    help_pages = {path.stem for path in (ROOT / "custom_nodes" / "web" / "docs").glob("*.md")}
    assert set(re.findall(r"`(Atelier\w+)`", (ROOT / "docs" / "nodes.md").read_text(encoding="utf-8"))) == help_pages


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target
