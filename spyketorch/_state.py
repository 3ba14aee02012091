"""Modules whose saved values are looked at before they are taken."""

from typing import Any

import torch
from torch import Tensor, nn

from spyketorch import _checks as check


class CheckedState(nn.Module):
    """A module that takes no NaN, infinite or complex value from a ``state_dict``; torch's error names the key."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        _, _, missing, _, errors = others  # as torch hands them on
        own = {f"{prefix}{name}" for name in (*self._parameters, *self._buffers)}
        unfit = {key for key in own if key in state_dict and not finite(state_dict[key])}
        rest = {key: value for key, value in state_dict.items() if key not in unfit}
        super()._load_from_state_dict(rest, prefix, *others)
        missing[:] = [key for key in missing if key not in unfit]
        errors += [f"{key} must be real and finite everywhere; it holds other values." for key in sorted(unfit)]


def finite(value: Any) -> bool:
    """Whether a saved value holds real, finite numbers alone, or is none that can be looked at."""
    if not isinstance(value, Tensor) or not check.readable(value):
        return True
    return not value.is_complex() and bool(torch.isfinite(value).all())


def numbers(module: nn.Module) -> None:
    """Refuse parameters and buffers that hold NaN, or where a module of ours has them infinite values.

    What is decided on NaN is silence, or the first class, without a word.
    """
    for path, part in module.named_modules():
        known = torch.isfinite if isinstance(part, CheckedState) else _no_nan
        for name, value in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)):
            if value.is_floating_point() and check.readable(value) and not bool(known(value).all()):
                where = f"{path}.{name}" if path else name
                raise ValueError(
                    f"`{where}` must be finite everywhere; it holds NaN or infinite values, on which nothing can be "
                    "decided: load or draw it anew, or fit it by the module's own `fit`"
                )


def _no_nan(value: Tensor) -> Tensor:
    return ~torch.isnan(value)
