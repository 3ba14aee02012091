"""What read-outs share: the maps of first-spike times that they read."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch._state import CheckedState

_READS = "shape_and_time_steps"  # the key of what a read-out reads, in a state_dict


class OfMaps(CheckedState):
    """A module that reads first-spike times ``(N, features, rows, columns)`` as one row of inputs per image.

    Args:
        shape: of the maps that are read, (features, rows, columns).
        time_steps: T, how many there are.

    The ``state_dict`` says both, and does not load into a module of others; one of 0.1, which does not say, is taken by
    the number of inputs.
    """

    def __init__(self, shape: Sequence[int], time_steps: int) -> None:
        super().__init__()
        if not isinstance(shape, Sequence) or isinstance(shape, str | bytes) or not len(shape):
            raise check.fail_type("shape", "(features, rows, columns)", shape)
        self.shape = tuple(check.integer(length, "shape", 1) for length in shape)
        check.storable((self.inputs,), "shape", shape)
        self.time_steps = check.steps(time_steps)

    @property
    def inputs(self) -> int:
        """How many neurons are read."""
        return math.prod(self.shape)

    def _flat(self, times: Tensor) -> Tensor:
        if check.tensor(times, "times").dtype not in check.TIMES or times.layout != torch.strided:
            raise check.fail_type("times", "first-spike times of an integer type", times)
        shape = tuple(times.shape[1:])
        if len(self.shape) == 1:  # neurons in any maps
            shape = (math.prod(shape),)
        if times.ndim < 2 or 0 in times.shape or shape not in (self.shape, (self.inputs,)):
            raise check.fail("times", f"of shape (N, {', '.join(map(str, self.shape))}), as this read-out reads", times)
        check.times_within(times, "times", self.time_steps)
        return times.flatten(1)

    def _heard(self, times: Tensor) -> Tensor:
        """The same, which must be where the weights are."""
        flat, weight = self._flat(times), self.get_parameter("weight")
        check.same_device(flat, "times", weight, "weight")
        return flat

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}{_READS}"] = torch.tensor([*self.shape, self.time_steps])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        rest, mine, (*_, errors) = dict(state_dict), [*self.shape, self.time_steps], others
        saved = rest.pop(f"{prefix}{_READS}", None)  # 0.1 did not say
        if saved is not None and (not isinstance(saved, Tensor) or saved.tolist() != mine):
            there = saved.tolist() if isinstance(saved, Tensor) else saved
            errors.append(f"{prefix}{_READS}: a read-out of (*shape, time_steps) {there}, but this one has {mine}")
        super()._load_from_state_dict(rest, prefix, *others)
