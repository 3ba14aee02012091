"""Tensors as arrays, and back."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, Any]


def channels_last(x: Tensor) -> Array:
    """(N, H, W, C), without a copy where the tensor is channels-last."""
    return np.ascontiguousarray(x.detach().permute(0, 2, 3, 1).numpy())  # by one thread, see _on_one_thread


def channels_first(x: Array) -> Tensor:
    """A tensor (N, C, H, W) of (N, H, W, C), without a copy."""
    return torch.from_numpy(x).permute(0, 3, 1, 2)
