"""Downloading what `models get` was asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import CommandError, progress
from .model_pages import bytes_text, licence_lines

if TYPE_CHECKING:
    from ..catalogue import Licence, ModelFile
    from ..packer import Fetched
    from ..packer.holdings import Holding
    from .model_choice import Choice


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is to be done. ``need`` are bytes still to come, as far as known; ``free`` is None with nothing to do."""

    id: str
    target: Path
    here: tuple[Holding, ...]
    wanted: tuple[ModelFile, ...]
    replace: bool
    licences: tuple[Licence, ...]
    need: int
    free: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class GetReport:
    """What was done."""

    plan: Plan
    dry_run: bool
    fetched: tuple[Fetched, ...]

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        fetched = [
            {
                "path": str(one.path),
                "url": one.url,
                "size": one.size,
                "sha256": one.sha256,
                "received": one.received,
                "proof": one.proof,
            }
            for one in self.fetched
        ]
        planned = [{"path": str(place_of(self.plan, file)), "url": file.url} for file in self.plan.wanted]
        return {
            "id": self.plan.id,
            "dry_run": self.dry_run,
            "here": [one.to_json() for one in self.plan.here],
            "wanted": planned,
            "fetched": fetched,
            "licences": [{"id": one.id, "name": one.name, "url": one.url} for one in self.plan.licences],
        }

    @property
    def text(self) -> str:
        """For people: what now is where."""
        lines = [f"{one.path}  was here{f' ({one.reason})' if one.reason else ''}" for one in self.plan.here]
        if self.dry_run:
            lines += [f"{place_of(self.plan, file)}  from {file.url}" for file in self.plan.wanted]
            lines.append("nothing was downloaded")
        for one in self.fetched:
            lines.append(f"{one.path}  {bytes_text(one.size)}, sha256 {one.sha256}{_PROOFS[one.proof]}")
        return "\n".join(lines)


_PROOFS = {
    "sha256": "",
    "server": " (the catalogue has none to compare; the server states the same)",
    "size": " (nobody states one to compare: only its size and structure were checked)",
}


def place_of(work: Plan, file: ModelFile) -> Path:
    """Where the file goes."""
    return work.target.joinpath(*file.folder.split("/"), file.name)


def plan(choice: Choice, found: tuple[Holding, ...], target: Path, *, replace: bool) -> Plan:
    """Decide what to download.

    Raises:
        CommandError: another file has the name of a wanted one and ``replace`` is false, or a file has no address.
    """
    from ..packer.partial import ENDING

    todo = [one for one in found if one.state in ("missing", "wrong") or (replace and one.state == "unsure")]
    # What may be refused comes first: better now than after the first thirty gigabytes.
    todo.sort(key=lambda one: not one.file.gated)
    need = 0
    for one in todo:
        place = target.joinpath(*one.file.folder.split("/"), one.file.name)
        if one.file.url is None:
            why = one.file.absent.get("url", "no address is known")
            raise CommandError(f"{one.file.name}: {why}; put it into {place.parent} yourself")
        if one.state == "wrong" and one.path == place and not replace:
            raise CommandError(f"{place}: another file has this name: {one.reason}; move it away or pass --replace")
        part = place.with_name(place.name + ENDING)
        need += max(0, (one.file.size or 0) - (part.stat().st_size if part.is_file() else 0))
    licences = (*choice.licences, *(one.file.licence for one in todo))
    return Plan(
        id=choice.id,
        target=target,
        here=tuple(one for one in found if one not in todo),
        wanted=tuple(one.file for one in todo),
        replace=replace,
        licences=tuple({one.id: one for one in licences}.values()),
        need=need,
        free=shutil.disk_usage(target).free if todo else None,
    )


def plan_lines(work: Plan) -> Iterator[str]:
    """What is going to happen, before it does: files, room, licences."""
    if not work.wanted:
        yield f"{work.id}: everything is here"
        return
    for file in work.wanted:
        doubt = "" if file.sha256 else "; no sha256 is known to compare"
        yield f"{file.path}: {bytes_text(file.size, exact=file.size_is_exact)}{', gated' if file.gated else ''}{doubt}"
    yield f"{bytes_text(work.need)} to download to {work.target}, {bytes_text(work.free or 0)} free"
    for licence in work.licences:
        yield from licence_lines(licence)


def fetch_all(work: Plan, *, dry_run: bool) -> GetReport:
    """Download the plan's files, one after the other, with a progress bar over all of them."""
    from ..packer import Wanted, fetch_file

    fetched: list[Fetched] = []
    if not dry_run and work.wanted:
        before, total = 0, sum(file.size or 0 for file in work.wanted)
        with progress("downloading", total=total or None) as update:

            def tell(done: int, size: int | None, name: str) -> None:
                update(before + done, max(total, before + (size or done)), name)

            for file in work.wanted:
                assert file.url is not None
                wish = Wanted(
                    url=file.url,
                    path=place_of(work, file),
                    sha256=file.sha256,
                    size=file.size if file.size_is_exact else None,
                    mirrors=file.mirrors,
                )
                fetched.append(fetch_file(wish, progress=tell, replace=work.replace))
                before += fetched[-1].size
    return GetReport(plan=work, dry_run=dry_run, fetched=tuple(fetched))
