"""Learning rates: a pair of one-element Parameters per feature, which are the only state."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor
from torch.nn.parameter import Parameter

from spyketorch import _checks as check
from spyketorch.learning._rule import Rated


def rate_pairs(learning_rate: Any, features: int, name: str) -> list[tuple[float, float]]:
    """One checked (LTP, LTD) pair per feature, copied from what a caller may write."""

    def rates(pair: Any) -> tuple[float, float]:
        if not isinstance(pair, Sequence | Tensor) or (isinstance(pair, Tensor) and pair.ndim == 0) or len(pair) != 2:
            raise check.fail(
                name, f"a pair (LTP, LTD), or a list of {features} of them, one per feature", learning_rate
            )
        return check.number(pair[0], name), check.number(pair[1], name)

    if isinstance(learning_rate, Sequence) and learning_rate and isinstance(learning_rate[0], Sequence):
        if len(learning_rate) != features:
            raise check.fail(
                name, f"a pair (LTP, LTD), or a list of {features} of them, one per feature", learning_rate
            )
        return [rates(pair) for pair in learning_rate]
    return [rates(learning_rate)] * features


def one(stored: dict[str, Any], name: str) -> Tensor:
    """A rate, as a tensor (1,); one may have been written over its ``data``."""
    rate: Tensor = stored[name]
    if rate.numel() != 1:
        raise check.fail(name, "one number", rate)
    return rate if rate.ndim == 1 else rate.reshape(1)


def names(features: Sequence[int]) -> tuple[str, ...]:
    """Of the rates of features, LTP and LTD in turn."""
    return _names_of_all(len(features)) if isinstance(features, range) else _of_each(features)


def _of_each(features: Iterable[int]) -> tuple[str, ...]:
    return tuple(name for i in features for name in (f"ltp_{i}", f"ltd_{i}"))


@cache
def _names_of_all(count: int) -> tuple[str, ...]:
    return _of_each(range(count))


def known(stored: dict[str, Any], feature: int) -> tuple[np.ndarray, np.ndarray]:
    """The rates of a feature, where they can be read."""
    return one(stored, f"ltp_{feature}").data.numpy(), one(stored, f"ltd_{feature}").data.numpy()


class Rates(Sequence[tuple[Tensor, Tensor]]):
    """The rates of a rule, a (LTP, LTD) pair of one-element Parameters per feature, as a list that may be written to.

    It holds nothing: the Parameters ``ltp_i`` and ``ltd_i`` of the rule are the state, and the only one. An item may be
    replaced by a pair of numbers or tensors (a Parameter itself takes the place).
    """

    def __init__(self, rule: Rated) -> None:
        self._rule = rule

    def __len__(self) -> int:
        return self._rule.conv_layer.out_channels

    @overload
    def __getitem__(self, feature: int) -> tuple[Tensor, Tensor]: ...
    @overload
    def __getitem__(self, feature: slice) -> list[tuple[Tensor, Tensor]]: ...
    def __getitem__(self, feature: int | slice) -> Any:
        if isinstance(feature, slice):
            return [self[i] for i in range(*feature.indices(len(self)))]
        feature, stored = self._place(feature), self._rule._stored()
        return stored[f"ltp_{feature}"], stored[f"ltd_{feature}"]

    def __setitem__(self, feature: int, pair: Sequence[Any]) -> None:
        feature = self._place(feature)
        if not isinstance(pair, Sequence | Tensor) or len(pair) != 2:
            raise check.fail("learning_rate[i]", "a pair (LTP, LTD)", pair)
        weight = self._rule.conv_layer.weight
        for value in pair:
            check.representable(value, "learning_rate[i]", weight.dtype)
        for name, value in zip(("ltp", "ltd"), pair, strict=True):
            if not isinstance(value, Parameter):
                one = torch.as_tensor(value, dtype=weight.dtype, device=weight.device).detach().reshape(1)
                value = Parameter(one, requires_grad=False)
            setattr(self._rule, f"{name}_{feature}", value)

    def _place(self, feature: Any) -> int:
        place = check.integer(feature, "feature")
        if not -len(self) <= place < len(self):
            raise IndexError(f"`feature` must lie in 0..{len(self) - 1}; got {feature}")
        return place % len(self)

    def __repr__(self) -> str:
        return repr(list(self))
