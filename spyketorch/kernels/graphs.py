"""What a step starts on a CUDA device, captured as a graph, which then is started at once."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spyketorch import _checks as check


def why_not(value: Tensor) -> str | None:
    """Why what is done to a tensor cannot be captured, or None where it can."""
    if value.device.type != "cuda":
        return f"the layer is on {value.device}"
    return None if check.readable(value) else "tensors hold no values"


class Graph(NamedTuple):
    """A captured step.

    Attributes:
        graph: of CUDA.
        answer: what the step gives, which is written anew each time.
        step: as it was given. The graph knows the places of its tensors and does not keep them.
    """

    graph: Any
    answer: Tensor
    step: Callable[[], Tensor]

    def start(self) -> None:
        self.graph.replay()


def captured(step: Callable[[], Tensor], changed: Sequence[Tensor]) -> Graph:
    """A step that can be started again.

    It must read no tensor, and find its inputs in the same tensors each time. Those that it changes are put back
    when it has been tried.

    Raises:
        RuntimeError: it cannot be captured.
    """
    with torch.cuda.device(changed[0].device), check.validation(False):  # all samples have been looked at before
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
    return Graph(graph, answer, step)
