"""Short operations on tensors of the CPU, by one thread.

After an operation on many values torch's other threads spin for some milliseconds, waiting for the next, on cores that
the threads of the compiled loops need; and where all cores are busy, waking them takes far longer than the work.
"""

import numpy as np
import torch
from torch import Tensor

_INTEGERS = (
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.int8, torch.int16, torch.int32, torch.int64),
)
_FLOATING = {torch.float32: np.float32, torch.float64: np.float64}


def extremes(value: Tensor) -> tuple[float, float]:
    """The least and the largest value; NaN where one is."""
    if value.is_cpu and value.dtype in (*_INTEGERS, *_FLOATING):
        array = value.detach().numpy()
        return array.min().item(), array.max().item()
    least, largest = torch.aminmax(value)
    return least.item(), largest.item()


def total(value: Tensor) -> float:
    """The sum of all values."""
    if value.is_cpu and value.dtype in _FLOATING:
        with np.errstate(all="ignore"):
            return float(value.detach().numpy().sum())
    return float(value.sum())


def converted(value: Tensor, dtype: torch.dtype) -> Tensor:
    """The same values in another type."""
    if value.is_cpu and value.dtype != dtype and value.dtype in (*_INTEGERS, *_FLOATING) and dtype in _FLOATING:
        return torch.from_numpy(value.detach().numpy().astype(_FLOATING[dtype]))
    return value.to(dtype)
