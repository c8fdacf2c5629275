"""Our loaders: one for each family, which choose text encoders and VAE by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...catalogue.choice import Loading, choose
from ...catalogue.loaders import LOADERS, LoaderSpec, loader
from ...catalogue.wiring import load_files
from .context import Context
from .diffusion.encoders import Clip
from .diffusion.files import find_model
from .families.tokenizers import missing
from .holdings import choosing, holdings
from .problems import NodeProblem
from .registry import Fault, NodeGroup
from .stock import EngineStock

NODES = NodeGroup()
PRECISION = "default"


def _spec(context: Context) -> LoaderSpec:
    spec = loader(context.class_type)
    if spec is None:  # a test holds the table to the catalogue
        raise NodeProblem(f"{context.class_type} is no loader of the catalogue's")
    return spec


def _chosen(context: Context, values: dict[str, Any]) -> Loading:
    with choosing():
        return choose(_spec(context), values, holdings(context.run.model_folders))


def _loaded(context: Context, precision: str, values: dict[str, Any]) -> tuple[Any, ...]:
    chosen = _chosen(context, values)
    with choosing():
        return load_files(EngineStock(context), _spec(context), chosen, precision)


def _seen(*, context: Context, **values: Any) -> list[Any]:
    """The files that are taken, as they are now."""
    chosen = _chosen(context, values)
    places = [(chosen.folder, chosen.model), *((part.folder, part.name) for part in chosen.parts)]
    seen: list[Any] = [chosen.variant.id]
    for folder, name in places:
        path = find_model(context.run.model_folders, folder, name)
        if path is not None:
            status = path.stat()
            seen.append([str(path), status.st_size, status.st_mtime_ns])
    return seen


def _faults(*, context: Context, **values: Any) -> Iterator[Fault]:
    if not isinstance(values.get("model"), str):
        return  # wired: known when it runs
    precision = values.pop("precision", PRECISION)
    try:  # loading reads headers only: what is built of them is built when it runs
        outputs = _loaded(context, precision, values)
    except NodeProblem as problem:
        yield Fault(input_name="model", message=problem.message, remedy=problem.remedy)
        return
    for clip in (value for value in outputs if isinstance(value, Clip)):
        for files in clip.encoder.tokenizers:
            lacking = missing(files, context.run)
            if lacking is not None:
                yield Fault(input_name="model", message=lacking.message, remedy=lacking.remedy)


@NODES.node(*(spec.node_id for spec in LOADERS), fingerprint=_seen, validate=_faults)
def load_family(precision: str = PRECISION, *, context: Context, **values: str) -> tuple[Any, ...]:
    """MODEL, CLIP, VAE, what the family needs besides, and SETTINGS."""
    return _loaded(context, precision, values)
