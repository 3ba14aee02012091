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


def _is_array(value: Tensor, *types: torch.dtype) -> bool:
    """Whether numpy sees such a tensor where it lies."""
    return value.is_cpu and value.layout == torch.strided and value.dtype in types


def extremes(value: Tensor) -> tuple[float, float]:
    """The least and the largest value; NaN where one is."""
    if _is_array(value, *_INTEGERS, *_FLOATING):
        array = value.numpy(force=True)
        return array.min().item(), array.max().item()
    least, largest = torch.stack(torch.aminmax(value)).tolist()  # a device is waited for once
    return least, largest


def total(value: Tensor) -> float:
    """The sum of all values."""
    if _is_array(value, *_FLOATING):
        with np.errstate(all="ignore"):
            return float(value.numpy(force=True).sum())
    return float(value.sum())


def converted(value: Tensor, dtype: torch.dtype) -> Tensor:
    """The same values in another type."""
    if value.dtype != dtype and dtype in _FLOATING and _is_array(value, *_INTEGERS, *_FLOATING):
        return torch.from_numpy(value.numpy(force=True).astype(_FLOATING[dtype]))
    return value.to(dtype)
