"""What was laid out for the loops, kept from call to call.

It is found by where the weights lie, and compared with them each time it is lent out: whoever wrote to them, and
however, is noticed. What is lent is nobody else's meanwhile; a second thread lays out its own.
"""

import os
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor

Kept = TypeVar("Kept")

_ENTRIES = 16
_LARGEST = 2**26  # bytes of weights, above which laying out anew is not worth the memory

_kept: dict[Hashable, Any] = {}

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_kept.clear)


@contextmanager
def lent(weight: Tensor, kind: Hashable, make: Callable[[], Kept]) -> Iterator[Kept]:
    """What ``make`` makes of a weight for some ``kind`` of use, perhaps kept from before."""
    key = (weight.data_ptr(), weight.shape, weight.dtype, kind)
    found = _kept.pop(key, None)
    kept: Kept = make() if found is None else found
    try:
        yield kept
    finally:
        if weight.nbytes <= _LARGEST:
            _kept[key] = kept
            while len(_kept) > _ENTRIES:
                _kept.pop(next(iter(_kept)), None)
