"""What a call starts on a CUDA device, captured as a graph, which then is started at once."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from spyketorch import _checks as check


def why_not(value: Tensor) -> str | None:
    """Why what is done to a tensor cannot be captured, or None where it can."""
    if value.device.type != "cuda":
        return f"the layer is on {value.device}"
    return None if check.readable(value) else "tensors hold no values"


def captured(step: Callable[[], Tensor], changed: Sequence[Tensor]) -> tuple[Callable[[], None], Tensor]:
    """(what starts a step again, its answer, which is written anew then).

    The step must read no tensor, and find its inputs in the same tensors each time. Those that it changes are put back
    when it has been tried.

    Raises:
        RuntimeError: it cannot be captured.
    """
    with torch.cuda.device(changed[0].device):
        now, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        kept = [value.clone() for value in changed]
        aside.wait_stream(now)
        with torch.cuda.stream(aside):
            step()  # libraries choose their ways in a first call, which cannot be captured
        now.wait_stream(aside)
        for value, before in zip(changed, kept, strict=True):
            value.copy_(before)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # whatever others load meanwhile
            answer = step()
    return graph.replay, answer
