"""Which models are in memory: built modules stay between jobs under a budget; the least recently used leaves first.

Weights that the file has in the dtype and on the device where they are wanted are not copied: they stay views of the
memory-mapped file; what is copied leaves the file's pages to the system. Tensors that two modules share (a model with
and without a LoRA) are held once. A model that does not fit is streamed: its weights stay where they are and are cast
and moved layer by layer as they are used.

ATELIER_DEVICE: "cpu", "cuda", "cuda:1", "mps"; the best there is by default. ATELIER_DTYPE: "float32", "float16",
"bfloat16". ATELIER_MODEL_BYTES: the budget, by default three quarters of the device's memory. ATELIER_COMPILE: "1"
compiles the denoisers with torch.compile (slow at first, for many pictures of one size).
"""

from __future__ import annotations

import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from ..memory import RESERVE
from ..problems import NodeProblem, NotEnoughMemory
from .ahead import Ahead
from .devices import best_device, collect, free_bytes, out_of_memory, supports, three_quarters
from .safetensors_file import let_go
from .streaming import stream
from .weights import Component, Deferred, Loaded, State, Weights

# In float32; larger text encoders are cast as they are used, as ComfyUI does with all of them.
STREAMED_TEXT_BYTES = 2 * 1024**3

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_SMALL = frozenset({torch.float8_e4m3fn, torch.float8_e5m2})

T = TypeVar("T")


class _Holder:
    """A tensor made of another: kept while some module uses it; `source` keeps what the key is the identity of."""

    __slots__ = ("__weakref__", "source", "tensor")

    def __init__(self, source: torch.Tensor | Deferred, tensor: torch.Tensor) -> None:
        self.source = source
        self.tensor = tensor


@dataclass(kw_only=True)
class _Entry:
    """A built module. `held` are its shared tensors, `bytes` what it costs beyond the files."""

    loaded: Loaded
    bytes: int
    held: list[_Holder] = field(default_factory=list)


class _Placed(State):
    """A component's tensors, patched, on their device in their dtype; each made once."""

    def __init__(self, store: Store, component: Component, device: torch.device, dtype: torch.dtype | None) -> None:
        self._store = store
        self._component = component
        self._device = device
        self._dtype = dtype
        self._made: dict[str, torch.Tensor] = {}
        self._patches: dict[str, list[Callable[[torch.Tensor], torch.Tensor]]] = {}
        created: list[str] = []
        for patch in component.patches:
            self._patches.setdefault(patch.name, []).append(patch.apply)
            if patch.creates and patch.name not in component.weights:
                created.append(patch.name)
        self._names = [*component.weights, *dict.fromkeys(created)]
        self._known = set(self._names)
        self.held: list[_Holder] = []
        self.bytes = 0

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __getitem__(self, name: str) -> torch.Tensor:
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = self._make(name)
        return made

    def _make(self, name: str) -> torch.Tensor:
        halved = name.startswith(self._component.halved) if self._component.halved else False
        patches = self._patches.get(name)
        if patches:
            raw = self._raw(name)
            tensor = _rounded(raw, halved).to(self._device, torch.float32, copy=True)
            let_go(raw)
            for apply in patches:
                tensor = apply(tensor)
            if halved:
                tensor = tensor.to(torch.float16)
            if self._dtype is None:  # streamed: kept as the file keeps its own
                kept = self._component.weights.dtype(name) if name in self._component.weights else torch.float16
                tensor = tensor.to(torch.float16 if kept in _SMALL else kept)
            tensor = self._cast(tensor)
            self.bytes += tensor.nbytes
            return tensor
        if name not in self._component.weights:
            raise KeyError(name)
        source = self._component.weights.entry(name)
        key = (id(source), self._device, self._dtype, halved)
        holder = self._store.shared.get(key)
        if holder is None:
            raw = source.make() if isinstance(source, Deferred) else source
            tensor = self._cast(_rounded(raw, halved))
            if tensor is source:
                return tensor  # a view of the file
            if isinstance(source, torch.Tensor):
                let_go(source)
            self.bytes += tensor.nbytes
            holder = _Holder(source, tensor)
            self._store.shared[key] = holder
        self.held.append(holder)
        return holder.tensor

    def _raw(self, name: str) -> torch.Tensor:
        return self._component.weights[name] if name in self._component.weights else torch.empty(0)

    def _cast(self, tensor: torch.Tensor) -> torch.Tensor:
        dtype = self._dtype if tensor.is_floating_point() else None
        return tensor.to(self._device, dtype) if dtype is not None else tensor.to(self._device)


def _rounded(tensor: torch.Tensor, halved: bool) -> torch.Tensor:
    return tensor.to(torch.float16) if halved and tensor.dtype in (torch.float32, torch.bfloat16) else tensor


class Store:
    """The built modules of this process.

    Args:
        device: where networks run; None for the best there is.
        limit: bytes of built modules; None for three quarters of the device's memory.
    """

    def __init__(
        self,
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        limit: int | None = None,
        compiled: bool = False,
    ) -> None:
        self.device = torch.device(device or best_device())
        self.dtype = dtype
        self.limit = limit if limit is not None else three_quarters(self.device)
        self.compiled = compiled
        self.shared: weakref.WeakValueDictionary[Any, _Holder] = weakref.WeakValueDictionary()
        self._entries: OrderedDict[int, tuple[weakref.ref[Component], _Entry]] = OrderedDict()
        self._busy: list[int] = []
        self._ahead: dict[int, tuple[Weights, Ahead]] = {}  # by the identity of the weights

    def module(self, component: Component) -> Any:
        """The component's module; built, or as it was built before."""
        return self.loaded(component).module

    def loaded(self, component: Component) -> Loaded:
        """The component's module with its device and dtype.

        Raises:
            NodeProblem: the weights do not make one.
            NotEnoughMemory: they do not fit, though everything else was let go.
        """
        key = id(component)
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
            return entry[1].loaded
        built = self._build(component)
        self._entries[key] = (weakref.ref(component, lambda _: self._forget(key)), built)
        self._shrink(self.limit, keep=key)
        return built.loaded

    def _forget(self, key: int) -> None:
        self._entries.pop(key, None)

    @property
    def used(self) -> int:
        """Bytes that built modules hold beyond their files."""
        return sum(entry.bytes for _, entry in self._entries.values())

    def placement(self, component: Component) -> tuple[torch.device, torch.dtype]:
        """Where a component runs, and what it computes in."""
        if self.device.type == "cpu" or component.role == "text":
            return self.device, torch.float32
        wanted = self.dtype
        if wanted is None:
            able = [dtype for dtype in component.dtypes if supports(self.device, dtype)]
            wanted = able[0] if able else torch.float32
        return self.device, wanted

    def prepare(self, component: Component) -> None:
        """Begin to cast a component's weights in the background, where they must be cast and there is plenty of room.

        A cold start imports libraries for seconds between the loader and the first step; that needs one core.
        """
        device, dtype = self.placement(component)
        if device.type != "cpu" or component.dtype is not None or self._known(component):
            return
        if id(component.weights) in self._ahead:
            return
        self._drop_ahead()
        needed = self._needed(component, device, dtype)
        free = free_bytes(device)
        if not needed or free is None or 2 * (needed + RESERVE) > free or self.used + needed > self.limit:
            return
        placed = _Placed(self, component, device, dtype)

        def make(name: str) -> list[_Holder]:
            placed[name]
            return placed.held

        self._ahead[id(component.weights)] = (component.weights, Ahead(placed, make))

    def _drop_ahead(self) -> bool:
        """Let go of what was cast for a model that nothing has asked for."""
        if not self._ahead:
            return False
        while self._ahead:
            self._ahead.popitem()[1][1].end()
        return True

    def _known(self, component: Component) -> bool:
        return any(
            made is not None and made.weights is component.weights
            for reference, _ in self._entries.values()
            for made in (reference(),)
        )

    def _build(self, component: Component) -> _Entry:
        _, ahead = self._ahead.pop(id(component.weights), (None, None))
        kept = ahead.end() if ahead is not None else []
        try:
            return self._built(component)
        finally:
            del kept  # what the module uses, it holds itself

    def _built(self, component: Component) -> _Entry:
        device, dtype = self.placement(component)
        needed = self._needed(component, device, dtype)
        streamed = component.role == "text" and component.weights.bytes > STREAMED_TEXT_BYTES
        if not streamed and not self._make_room(needed, device):
            streamed = component.role != "upscale"
        storage = self._storage(component, dtype)
        if streamed or (storage is not dtype and storage is not None):
            return self._assemble(
                component, torch.device("cpu"), storage, Loaded(module=None, device=device, dtype=dtype)
            )
        return self._assemble(component, device, dtype, None)

    def _storage(self, component: Component, dtype: torch.dtype) -> torch.dtype | None:
        """The dtype that weights are kept in where that is not what is computed in; None keeps the file's."""
        if component.dtype in _SMALL:
            return component.dtype
        return dtype if component.role != "text" or component.weights.bytes <= STREAMED_TEXT_BYTES else None

    def _assemble(
        self, component: Component, device: torch.device, dtype: torch.dtype | None, streamed: Loaded | None
    ) -> _Entry:
        placed = _Placed(self, component, device, dtype if streamed is None else self._kept(component))
        try:
            module = component.build(placed)
        except KeyError as error:
            raise NodeProblem(
                f"model {component.source!r} lacks the tensor {error.args[0]!r}",
                remedy="fetch it again, or choose one of the right model",
            ) from error
        if streamed is not None:
            stream(module, streamed.device, streamed.dtype)
            loaded = Loaded(module=module, device=streamed.device, dtype=streamed.dtype)
        else:
            loaded = Loaded(module=module, device=device, dtype=dtype or torch.float32)
        if self.compiled and component.role == "network" and isinstance(module, torch.nn.Module):
            module.compile()
        return _Entry(loaded=loaded, bytes=placed.bytes, held=placed.held)

    def _kept(self, component: Component) -> torch.dtype | None:
        return component.dtype if component.dtype in _SMALL else None

    def _needed(self, component: Component, device: torch.device, dtype: torch.dtype) -> int:
        """Bytes that building takes beyond the file's own pages."""
        total = 0
        for name in component.weights:
            same = component.weights.dtype(name) == dtype and device.type == "cpu"
            there = (id(component.weights.entry(name)), device, dtype, False) in self.shared
            total += 0 if same or there else component.weights.shape(name).numel() * dtype.itemsize
        return total

    def _make_room(self, needed: int, device: torch.device) -> bool:
        """Let unused modules go until `needed` bytes are free; False where that is not enough."""
        while True:
            free = free_bytes(device)
            if free is None or needed + RESERVE <= free:
                return True
            if not self._drop_oldest():
                return False
            collect(self.device)

    def _drop_oldest(self, keep: int | None = None) -> bool:
        if self._drop_ahead():
            return True
        for key in self._entries:
            if key not in self._busy and key != keep:
                del self._entries[key]
                return True
        return False

    def _shrink(self, limit: int, keep: int | None = None) -> None:
        while self.used > limit and self._drop_oldest(keep):
            pass

    def clear(self) -> None:
        """Let every module go that no run is using."""
        dropped = False
        while self._drop_oldest():
            dropped = True
        if dropped:
            collect(self.device)

    @contextmanager
    def using(self, *components: Component) -> Iterator[None]:
        """These modules stay while the block runs."""
        keys = [id(component) for component in components]
        self._busy.extend(keys)
        try:
            yield
        finally:
            for key in keys:
                self._busy.remove(key)

    def check_room(self, needed: int, what: str) -> None:
        """Raises `NotEnoughMemory` where `needed` bytes are not free though everything unused was let go: the system
        would end the process."""
        free = free_bytes(self.device)
        if free is None or needed <= free:
            return
        self.clear()
        free = free_bytes(self.device) or 0
        if needed > free:
            raise NotEnoughMemory(
                f"{what} needs about {needed / 1e9:.1f} GB of memory, {(needed - free) / 1e9:.1f} GB too much",
                remedy="make size or batch smaller",
            )

    def attempt(self, work: Callable[[], T], *, otherwise: Callable[[], T] | None = None, needs: int = 0) -> T:
        """What `work` gives. Where memory runs out, everything unused goes and it is tried again, `otherwise` if given.

        Args:
            needs: what it needs, estimated, for the message.

        Raises:
            NotEnoughMemory: that was not enough either.
        """
        try:
            return work()
        except Exception as error:
            if not out_of_memory(error):
                raise
        self.clear()
        collect(self.device)
        try:
            return (otherwise or work)()
        except Exception as error:
            if not out_of_memory(error):
                raise
            free = free_bytes(self.device)
            lacking = f"; about {max(needs - free, 0) / 1e9:.1f} GB more are needed" if free and needs else ""
            raise NotEnoughMemory(
                f"memory ran out ({(free or 0) / 1e9:.1f} GB are free{lacking})",
                remedy="make size or batch smaller, or use a smaller model",
            ) from error


_STORES: list[Store] = []


def store() -> Store:
    """This process's store, made from the environment when first asked for. Raises `NodeProblem` for settings that no
    machine or this one cannot follow."""
    if not _STORES:
        _STORES.append(_from_environment(os.environ))
    return _STORES[0]


def _from_environment(environment: Mapping[str, str]) -> Store:
    device = environment.get("ATELIER_DEVICE", "").strip() or None
    if device is not None and device.isdecimal():
        device = f"cuda:{device}"
    kind = (device or "").partition(":")[0]
    if (kind == "cuda" and not torch.cuda.is_available()) or (kind == "mps" and not torch.backends.mps.is_available()):
        raise NodeProblem(f"device {device!r} is not there", remedy="set ATELIER_DEVICE to cpu, or leave it out")
    if kind not in ("", "cpu", "cuda", "mps"):
        raise NodeProblem(f"{device!r} is no device", remedy="set ATELIER_DEVICE to cpu, cuda, cuda:1 or mps")
    dtype = environment.get("ATELIER_DTYPE", "").strip()
    if dtype and dtype not in _DTYPES:
        raise NodeProblem(f"{dtype!r} is no dtype", remedy=f"set ATELIER_DTYPE to one of {', '.join(_DTYPES)}")
    limit = environment.get("ATELIER_MODEL_BYTES", "").strip()
    if limit and not limit.isdecimal():
        raise NodeProblem(f"{limit!r} is no number of bytes", remedy="set ATELIER_MODEL_BYTES to a whole number")
    return Store(
        device=device,
        dtype=_DTYPES.get(dtype),
        limit=int(limit) if limit else None,
        compiled=environment.get("ATELIER_COMPILE", "").strip() not in ("", "0"),
    )
