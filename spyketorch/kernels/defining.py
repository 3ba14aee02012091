"""How operators are made known to torch: what one takes, gives and does is said once, for traces and for all devices.

Torch's own dispatch chooses: plain torch is the implementation for every device, the numba loops that for the CPU,
where they serve. Operators are defined by schemas: ``torch.library.custom_op`` would import torch._dynamo, a second, at
the first call.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

_LIBRARY = torch.library.Library("spyketorch", "FRAGMENT")  # type: ignore[no-untyped-call]

#: what operators do in plain torch, by their names; modes do not look into operators, but into these
IN_TORCH: dict[str, Callable[..., Any]] = {}


class Noun(NamedTuple):
    """What travels together: one argument of a function, and several of a schema, of which it is made."""

    schema: str
    of: Callable[..., Any]


def operator(
    name: str,
    takes: Sequence[str | Noun],
    gives: str,
    *,
    empty: Callable[..., Any],
    plain: Callable[..., Any],
    served: Callable[..., bool] | None = None,
    anywhere: bool = True,
) -> Callable[[Callable[..., Any]], Any]:
    """Define an operator; what is decorated is what the loops do.

    All functions take the same: the arguments of the schema, but one for each noun.

    Args:
        name: of the operator.
        takes: its arguments: in the words of a schema, and nouns.
        gives: what it gives, in the words of a schema.
        empty: an answer without values, laid out as all answers are, which is what a trace knows.
        plain: the answer in torch, on any device, which is then laid out so.
        served: whether the loops serve on a CPU; None where they always do.
        anywhere: on every device; else it is for the CPU alone.
    """
    full, nouns = f"spyketorch::{name}", _nouns(takes)
    schema = f"({', '.join(part if isinstance(part, str) else part.schema for part in takes)}) -> {gives}"

    def in_torch(*given: Any) -> Any:
        known = nouns(given)
        return _filled(empty(*known), plain(*known))

    def define(loops: Callable[..., Any]) -> Any:
        def on_cpu(*given: Any) -> Any:
            known = nouns(given)
            return loops(*known) if served is None or served(*known) else _filled(empty(*known), plain(*known))

        torch.library.define(full, schema, lib=_LIBRARY, tags=(torch.Tag.pt2_compliant_tag,))
        torch.library.register_fake(full, lambda *given: empty(*nouns(given)), lib=_LIBRARY)
        torch.library.impl(full, "CPU", on_cpu, lib=_LIBRARY)
        if anywhere:
            torch.library.impl(full, "CompositeExplicitAutograd", in_torch, lib=_LIBRARY)
            IN_TORCH[name] = in_torch
        return getattr(torch.ops.spyketorch, name).default

    return define


def _nouns(takes: Sequence[str | Noun]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """What makes nouns of the arguments of a schema; torch leaves out those at the end that are the usual ones."""
    parts: list[tuple[Callable[..., Any], int, int]] = []
    end = 0
    for part in takes:
        words, of = (part, None) if isinstance(part, str) else part
        begin, end = end, end + words.count(",") + 1
        if of is not None:
            parts.insert(0, (of, begin, end))  # the last first, so that the places of the others stay

    def made(given: Sequence[Any]) -> Sequence[Any]:
        for of, begin, end in parts:
            given = (*given[:begin], of(*given[begin:end]), *given[end:])
        return given

    return made


def _filled(empty: Any, answer: Any) -> Any:
    """An answer, laid out."""
    if isinstance(empty, Tensor):
        return empty.copy_(answer)
    return tuple(room.copy_(part) for room, part in zip(empty, answer, strict=True))
