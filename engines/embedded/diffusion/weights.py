"""Named tensors of a file, changes to them, and the modules that are built from them when a run needs them.

`Weights` costs nothing until a tensor is read: files are memory-mapped. `Component` is weights, their patches and the
way to build a module; it is a value that may be kept and shared, and `Component.module()` asks `memory` for the module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from ..problems import NodeProblem

State = Mapping[str, torch.Tensor]
Role = Literal["network", "text", "autoencoder", "vision", "control", "upscale"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Deferred:
    """A tensor that is made when it is read: scaled fp8, or several tensors in one."""

    shape: torch.Size
    dtype: torch.dtype
    make: Callable[[], torch.Tensor]


class Weights(Mapping[str, torch.Tensor]):
    """Tensors by name, as a file has them.

    Args:
        tensors: memory-mapped or `Deferred`.
        source: the file's name, for messages.
        metadata: what the file's header says besides.
    """

    def __init__(
        self,
        tensors: Mapping[str, torch.Tensor | Deferred],
        *,
        source: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self._tensors = dict(tensors)
        self.source = source
        self.metadata: Mapping[str, str] = dict(metadata or {})

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor = self._tensors[name]
        return tensor.make() if isinstance(tensor, Deferred) else tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def shape(self, name: str) -> torch.Size:
        """A tensor's shape, without reading it. Raises `KeyError` where there is none of that name."""
        return self._tensors[name].shape

    def dtype(self, name: str) -> torch.dtype:
        """A tensor's dtype, without reading it."""
        return self._tensors[name].dtype

    def entry(self, name: str) -> torch.Tensor | Deferred:
        """What stands behind a name: the same object in every `Weights` made of this one."""
        return self._tensors[name]

    @property
    def bytes(self) -> int:
        """What the tensors take in float32."""
        return sum(4 * tensor.shape.numel() for tensor in self._tensors.values())

    def below(self, *prefixes: str) -> Weights:
        """Those whose names begin with the first of `prefixes` that any name begins with; without it. May be empty."""
        for prefix in prefixes:
            found = {name[len(prefix) :]: tensor for name, tensor in self._tensors.items() if name.startswith(prefix)}
            if found:
                return self._of(found)
        return self._of({})

    def renamed(self, name: Callable[[str], str | None]) -> Weights:
        """The same tensors by other names; None leaves one out."""
        pairs = ((name(old), tensor) for old, tensor in self._tensors.items())
        return self._of({new: tensor for new, tensor in pairs if new is not None})

    def without(self, names: Sequence[str]) -> Weights:
        """All but these."""
        gone = set(names)
        return self._of({name: tensor for name, tensor in self._tensors.items() if name not in gone})

    def with_tensors(self, tensors: Mapping[str, torch.Tensor | Deferred]) -> Weights:
        """With these added or in place of those of their names."""
        return self._of({**self._tensors, **tensors})

    def _of(self, tensors: Mapping[str, torch.Tensor | Deferred]) -> Weights:
        return Weights(tensors, source=self.source, metadata=self.metadata)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class WeightPatch:
    """A change to one named tensor: a LoRA, a control LoRA, a difference of models.

    Attributes:
        name: the tensor's, in the component's `Weights`.
        apply: takes the tensor in float32 on the device where it is needed and returns the changed one, a new tensor;
            its shape may differ (a control LoRA widens the first layer). Strength is its own affair.
        shape: the new shape, where it differs.
        creates: whether it makes a tensor that the file lacks (`apply` then gets an empty one).
    """

    name: str
    apply: Callable[[torch.Tensor], torch.Tensor]
    shape: Sequence[int] | None = None
    creates: bool = False


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Loaded:
    """A built module: what it is given must be on its device in its dtype."""

    module: Any
    device: torch.device
    dtype: torch.dtype


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, weakref_slot=True)
class Component:
    """A module that can be built. Equal only to itself: `memory` keeps what was built by this identity.

    Attributes:
        weights: in the names that patches refer to: ComfyUI's, without ``diffusion_model.`` or ``first_stage_model.``;
            of several text encoders in one, each below its own name (``clip_l.text_model.encoder…``, ``t5xxl.…``).
        build: makes the module of tensors that already are on their device in their dtype, patches applied. It reads
            the configuration from the shapes (patches may change them), makes the module without memory
            (``with torch.device("meta")``) and assigns the tensors (`fill`): no copies.
        role: decides device and dtype.
        dtype: asked for by a widget ("fp8_e4m3fn"…); None leaves the choice to the machine.
        patches: applied in order.
        halved: tensors whose names begin so are rounded to fp16 where the file has more, as ComfyUI does with CLIP's.
        dtypes: for the network and the autoencoder, what a GPU may compute in, the best first.
    """

    weights: Weights
    build: Callable[[State], Any]
    role: Role
    dtype: torch.dtype | None = None
    patches: tuple[WeightPatch, ...] = ()
    halved: tuple[str, ...] = ()
    dtypes: tuple[torch.dtype, ...] = (torch.float16, torch.bfloat16, torch.float32)

    def module(self) -> Any:
        """The built module, on its device. Raises `NodeProblem` for weights that do not fit, `NotEnoughMemory`."""
        return self.loaded().module

    def loaded(self) -> Loaded:
        """The same with its device and dtype."""
        from . import memory

        return memory.store().loaded(self)

    def patched(self, patches: Sequence[WeightPatch]) -> Component:
        """The same with further patches; tensors without a patch stay shared."""
        return replace(self, patches=(*self.patches, *patches)) if patches else self

    @property
    def source(self) -> str:
        """The file, for messages."""
        return self.weights.source

    def resident_bytes(self) -> int:
        """What the node cache counts for it: `memory` counts what is built."""
        return 1024


def fill(module: torch.nn.Module, state: State, *, what: str, source: str = "", ignore: Sequence[str] = ()) -> None:
    """Assign the tensors to a module that was made on the meta device.

    Args:
        what: the module in words, for messages: "the U-Net".
        ignore: parameters that the file may lack (they must not stay on the meta device).

    Raises:
        NodeProblem: tensors are missing, of other shapes, or unknown.
    """
    own = dict(module.state_dict(keep_vars=True))
    missing = sorted(name for name in own if name not in state and name not in ignore)
    wrong = sorted(name for name in own if name in state and own[name].shape != state[name].shape)
    extra = sorted(name for name in state if name not in own)
    if missing or wrong:
        name = (missing or wrong)[0]
        detail = "is missing" if missing else f"has the shape {list(state[name].shape)}, not {list(own[name].shape)}"
        file = f" of {source!r}" if source else ""
        raise NodeProblem(
            f"{what}{file} is not whole: tensor {name!r} {detail}",
            remedy="fetch the file again, or choose one of the right model",
        )
    module.load_state_dict({name: state[name] for name in state if name not in extra}, strict=False, assign=True)
    module.requires_grad_(False).eval()
