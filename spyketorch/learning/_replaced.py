"""Which methods of a rule are somebody's own."""

from functools import cache
from types import FunctionType
from typing import Any

from torch import nn

#: of the methods of a rule, those that decide nothing of what is learned, and those that learning from times calls
_NEUTRAL = frozenset(
    ("update_learning_rate", "update_all_learning_rate", "learn", "online", "minibatch", "extra_repr", "why_not")
)
OF_TIMES = frozenset(("change", "compiled", "adapt", "_learn_times", "_update", "_fields"))


@cache
def _methods(base: Any) -> dict[str, None]:
    """The names of the methods of a rule that decide what is learned, in order."""
    kinds = reversed([kind for kind in base.__mro__ if kind.__module__ != nn.Module.__module__ and kind is not object])
    methods = (name for kind in kinds for name, method in vars(kind).items() if isinstance(method, FunctionType))
    own = (name for name in methods if name not in _NEUTRAL and not hasattr(nn.Module, name))
    return dict.fromkeys(["__call__", "forward", *own])


def replaced(rule: nn.Module, base: type[nn.Module]) -> list[str]:
    """The methods of ``base`` in whose place a subclass, or the object itself, has its own; hooks count as forward."""
    hooks = ["forward"] if rule._forward_hooks or rule._forward_pre_hooks else []
    names = _methods(base)  # type: ignore[arg-type]
    if type(rule) is not base:
        return hooks + [
            name for name in names if name in vars(rule) or getattr(type(rule), name) is not getattr(base, name)
        ]
    return hooks if names.keys().isdisjoint(vars(rule)) else hooks + [name for name in names if name in vars(rule)]
