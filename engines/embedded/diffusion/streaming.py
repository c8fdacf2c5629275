"""Weights that are cast and moved when a layer uses them, and let go again: for models that do not fit whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


def modules_in(built: Any) -> Iterator[nn.Module]:
    """The modules of what a family has built: itself, or its attributes."""
    if isinstance(built, nn.Module):
        yield built
        return
    for value in vars(built).values():
        if isinstance(value, nn.Module):
            yield value


def stream(built: Any, device: torch.device, dtype: torch.dtype) -> None:
    """Let every layer of `built` take its weights to `device` in `dtype` when it runs."""
    for module in modules_in(built):
        for layer in module.modules():
            moved = getattr(layer, "moved", None)
            if moved is not None:  # it knows how to
                moved(device, dtype)
            elif isinstance(layer, nn.Embedding):
                _lazy_embedding(layer, device, dtype)
            elif layer._parameters or layer._buffers:
                _Streamed(layer, device, dtype)


def _lazy_embedding(layer: nn.Embedding, device: torch.device, dtype: torch.dtype) -> None:
    def forward(tokens: torch.Tensor) -> torch.Tensor:
        rows = nn.functional.embedding(tokens.to(layer.weight.device), layer.weight)
        return rows.to(device, dtype)

    layer.forward = forward  # type: ignore[method-assign, assignment] # that is the point


class _Streamed:
    """One layer's weights: in place while it runs."""

    def __init__(self, layer: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        self._device = device
        self._dtype = dtype
        self._kept = dict(layer._parameters)
        self._kept_buffers = dict(layer._buffers)
        layer.register_forward_pre_hook(self._enter)
        layer.register_forward_hook(self._leave, always_call=True)

    def _cast(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self._device, self._dtype if tensor.is_floating_point() else None, non_blocking=True)

    def _enter(self, layer: nn.Module, inputs: Any) -> None:
        for name, parameter in self._kept.items():
            if parameter is not None:
                layer._parameters[name] = nn.Parameter(self._cast(parameter.data), requires_grad=False)
        for name, buffer in self._kept_buffers.items():
            if buffer is not None:
                layer._buffers[name] = self._cast(buffer)

    def _leave(self, layer: nn.Module, inputs: Any, outputs: Any) -> None:
        layer._parameters.update(self._kept)
        layer._buffers.update(self._kept_buffers)
