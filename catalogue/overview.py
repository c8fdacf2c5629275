"""The catalogue for readers: ``docs/models.md`` is what this gives, and a test holds it to that."""

from __future__ import annotations

from collections.abc import Iterable

from .catalogue import Catalogue
from .entries import Control, Family, Lora, ModelFile, Variant

HEAD = """# Models

What `atelier models`, `atelier lint` and the node pack know. This page is made from `catalogue/data`, one readable
file for each family: change it there, then write the page again.

    python -m comfy_atelier.catalogue.overview > docs/models.md

Sizes are of the recommended files together; `about` means that one of them is rounded. Commercial use is about running
the model; read the licence behind the link before you rely on it. What nobody could check is listed below each family.
"""

COMMANDS = """## Commands

    atelier models list --family sd3.5
    atelier models show qwen-image
    atelier models get qwen-image --models ComfyUI/models
    atelier models where all --comfyui ComfyUI
    atelier models detect downloads/*.safetensors

A name is a variant's id, or that of a LoRA, a control or a single file. With `--json` each command reports as JSON.

`get` downloads the recommended way to load a variant; `--set NAME` takes another one, `--role vae` only some of its
files, `--role lora` or `--role controlnet` what is made for it. `--models DIR` is a models folder, `--comfyui DIR` a
ComfyUI's, whose `extra_model_paths.yaml` counts; without either the ComfyUI that `ATELIER_COMFYUI` names by its path.
Before anything is fetched it says which files, how large, how much room there is, and under which licences. One that
limits commercial use wants `--accept-licence`. What is here and right is left alone; another file under a wanted name
is an error, or is replaced with `--replace`.

Each file is hashed as it comes, and gets its name only when its sha256 is the catalogue's. Until then it lies beside
as `NAME.incomplete`: a run that was stopped, cut off or killed goes on there. Where the catalogue has no sha256, the
one that Hugging Face states is compared; where nobody states one, size and structure are, and the report says so. A
mirror is asked only where a sha256 proves it.

Gated files need a token: accept the licence on the model's page, then set `HF_TOKEN` (or log in with huggingface_hub,
whose token file is read). It is sent to `huggingface.co` over https and to no other host, redirects included.
`HF_ENDPOINT` names a mirror of the hub (it gets no token); `http_proxy`, `https_proxy` and `SSL_CERT_FILE` hold as
elsewhere.

`where` says for each file: here, missing, unsure (nothing known can tell), or wrong: another size, a damaged header,
a file of another kind or family under the right name. `--check` compares every sha256, which is remembered. The exit
code is 1 where one is wrong.
"""


def overview(catalogue: Catalogue) -> str:
    """The whole page in Markdown, families and variants in the catalogue's order."""
    families = (_family(family) for family in catalogue.families)
    parts = [HEAD, *families, _shared(catalogue.shared_files.values()), _licences(catalogue), COMMANDS]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _family(family: Family) -> str:
    rows = [
        f"## {family.name}",
        "",
        f"{family.summary} By {family.maker}.",
        "",
        "| variant | for | files | parameters | steps, cfg | sampler | native size | licence | commercial use |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_variant(variant) for variant in family.variants),
    ]
    if family.loras:
        rows += ["", "LoRAs: " + "; ".join(_lora(lora) for lora in family.loras) + "."]
    if family.controls:
        rows += ["", "Control: " + "; ".join(_control(control) for control in family.controls) + "."]
    doubts = list(_doubts([*family.variants, *family.files, *family.loras, *family.controls]))
    if doubts:
        rows += ["", "Not verified:", "", *doubts]
    return "\n".join(rows) + "\n"


def _variant(variant: Variant) -> str:
    sampling, rule = variant.sampling, variant.resolution
    how = f"{sampling.steps}, {sampling.cfg:g}" if sampling else "-"
    if sampling and sampling.guidance is not None:
        how += f", guidance {sampling.guidance:g}"
    if sampling and sampling.shift is not None:
        how += f", shift {sampling.shift:g}"
    cells = (
        f"`{variant.id}` {variant.name}",
        ", ".join(variant.tasks),
        _size(variant.files),
        _count(variant.parameters),
        how,
        f"{sampling.sampler} {sampling.scheduler}" if sampling else "-",
        f"{rule.width}x{rule.height}" if rule else "-",
        f"[{variant.licence.name}]({variant.licence.url})",
        variant.licence.commercial,
    )
    return f"| {' | '.join(cells)} |"


def _size(files: Iterable[ModelFile]) -> str:
    known = [file for file in files if file.size is not None]
    if not known:
        return "-"
    total = sum(file.size or 0 for file in known)
    exact = all(file.size_is_exact for file in known) and len(known) == len(list(files))
    return f"{'' if exact else 'about '}{total / 1e9:.1f} GB"


def _count(parameters: int | None) -> str:
    return "-" if parameters is None else f"{parameters / 1e9:.1f} billion"


def _lora(lora: Lora) -> str:
    changes = ", ".join(f"{name} {value:g}" for name, value in lora.sampling.items() if isinstance(value, int | float))
    return f"`{lora.id}` for {', '.join(lora.variants)}" + (f" ({changes})" if changes else "")


def _control(control: Control) -> str:
    return f"`{control.id}` ({', '.join(control.kinds)}) for {', '.join(control.variants)}"


def _shared(files: Iterable[ModelFile]) -> str:
    files = list(files)
    rows = [
        "## Files of no single family",
        "",
        "Encoders and VAEs that several families load, what reads maps from pictures, upscalers and tokenizers.",
        "",
        "| file | what it is | folder | size | licence | commercial use |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for file in files:
        about = "" if file.size_is_exact else "about "
        size = f"{about}{file.size / 1e6:,.{1 if file.size > 1e6 else 3}f} MB" if file.size else "-"
        licence = f"[{file.licence.name}]({file.licence.url})"
        cells = (f"`{file.id}`", file.role.replace("_", " "), file.folder, size, licence, file.licence.commercial)
        rows.append(f"| {' | '.join(cells)} |")
    doubts = list(_doubts(files))
    if doubts:
        rows += ["", "Not verified:", "", *doubts]
    return "\n".join(rows) + "\n"


def _doubts(entries: Iterable[Variant | ModelFile | Lora | Control]) -> Iterable[str]:
    said: dict[str, list[str]] = {}
    for entry in entries:
        for place, why in entry.unverified.items():
            said.setdefault(f"{place}: {why}", []).append(f"`{entry.id}`")
    for doubt in sorted(said):
        yield f"- {', '.join(said[doubt])}: {doubt}"


def _licences(catalogue: Catalogue) -> str:
    rows = [
        "## Licences",
        "",
        "| licence | commercial use | conditions | pictures | territory |",
        "| --- | --- | --- | --- | --- |",
    ]
    for licence in catalogue.licences.values():
        doubt = "".join(f" (not verified: {why})" for why in licence.unverified.values())
        name = f"[{licence.name}]({licence.url})"
        cells = (name, licence.commercial + doubt, licence.conditions, licence.outputs, licence.territory)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(overview(Catalogue()))
