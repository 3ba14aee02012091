"""Modules whose saved values are looked at before they are taken."""

from typing import Any

import torch
from torch import Tensor, nn

from spyketorch import _checks as check


class CheckedState(nn.Module):
    """A module that takes no NaN, infinite or complex value from a ``state_dict``; torch's error names the key."""

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        own = {f"{prefix}{name}" for name in (*self._parameters, *self._buffers)}
        unfit = {key for key in own if key in state_dict and not _finite(state_dict[key])}
        rest = {key: value for key, value in state_dict.items() if key not in unfit}
        super()._load_from_state_dict(rest, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        missing_keys[:] = [key for key in missing_keys if key not in unfit]
        error_msgs += [f"{key} must be real and finite everywhere; it holds other values." for key in sorted(unfit)]


def _finite(value: Any) -> bool:
    if not isinstance(value, Tensor) or not check.readable(value):
        return True
    return not value.is_complex() and bool(torch.isfinite(value).all())
