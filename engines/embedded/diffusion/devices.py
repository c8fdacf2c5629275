"""Devices: which is the best, what it has free, which dtypes it computes in, and giving back what it caches."""

from __future__ import annotations

import gc

import torch

from ..memory import available


def out_of_memory(error: BaseException) -> bool:
    """Whether that is what an error means."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "not enough memory" in text)


def free_bytes(device: torch.device) -> int | None:
    """Bytes that are free on a device; None where it does not tell."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    return available()


def three_quarters(device: torch.device) -> int:
    """The budget by default: of a device's own memory, of what is free elsewhere; 8 GiB where nobody tells."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1] * 3 // 4)
    free = available()
    return 8 * 1024**3 if free is None else free * 3 // 4


def best_device() -> str:
    """CUDA, else MPS, else the CPU."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def supports(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a device computes in that dtype by itself."""
    if dtype is torch.bfloat16 and device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if dtype is torch.bfloat16 and device.type == "mps":
        return False
    return dtype in (torch.float16, torch.bfloat16, torch.float32)


def collect(device: torch.device) -> None:
    """Give what nobody holds any more back to the system."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
