"""Tensors as the loops take them."""

from typing import Any

import numpy as np
from torch import Tensor


def channels_last(x: Tensor) -> np.ndarray[Any, Any]:
    """(N, H, W, C), without a copy where the tensor is channels-last."""
    return x.detach().permute(0, 2, 3, 1).contiguous().numpy()
