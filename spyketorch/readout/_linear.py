"""A linear read-out: what a support vector machine makes of the first spikes of a network."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter

from spyketorch import _checks as check
from spyketorch._convolution import torch_threads
from spyketorch._processes import at_work
from spyketorch.readout._maps import OfMaps


class LinearReadout(OfMaps):
    r"""Class scores from first-spike times, linear in how early each neuron fires.

    .. math:: x = (T - t) / T, \qquad \text{score}_c = w_c \cdot x + b_c

    Scores are sums without rounding, rounded once at the end, and so the same to the bit for any batch and number of
    threads (not on Apple's GPUs, which have no float64).

    Args:
        shape: of the maps that are read, (features, rows, columns).
        classes: how many.
        time_steps: T, how many there are.

    The ``state_dict`` says ``shape`` and ``time_steps``, and does not load into a read-out of others; one of 0.1, which
    does not say, is taken by the number of inputs.

    Raises:
        ValueError: times above ``time_steps``; a Network also refuses a read-out of another T than its layers have.

    Shape:
        First-spike times ``(N, features, rows, columns)`` to scores ``(N, classes)``.

    Example:
        >>> readout = LinearReadout((150, 7, 7), 10, time_steps=15)
        >>> readout(torch.full((3, 150, 7, 7), 15, dtype=torch.uint8)).shape
        torch.Size([3, 10])
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, *, time_steps: int) -> None:
        super().__init__(shape, time_steps)
        check.storable((check.integer(classes, "classes", 2), self.inputs), "classes", classes)
        self.weight = Parameter(torch.zeros(classes, self.inputs), requires_grad=False)
        self.bias = Parameter(torch.zeros(classes), requires_grad=False)

    def __setstate__(self, state: dict[str, Any]) -> None:
        size = state["_parameters"]["weight"].shape[1]
        super().__setstate__({**state, "shape": state.get("shape", (size,))})  # type: ignore[no-untyped-call]  # 0.1 kept no more of it

    def read(self, times: Tensor) -> Tensor:
        """How early each neuron fires, ``(N, inputs)``: 1 at the first step, 0 for never."""
        return (self.time_steps - self._flat(times).to(self.weight)) / self.time_steps

    def forward(self, times: Tensor) -> Tensor:
        late = check.wide(self._heard(times))
        weight = _exact(self.weight.to(late), self.weight.shape[1] * self.time_steps)
        early = self.time_steps * weight.sum(1) - late @ weight.T  # the sum of weight (T - t), as nothing is rounded
        return (early / self.time_steps + self.bias).to(self.weight)

    def fit(
        self,
        times: Tensor,
        labels: Tensor,
        *,
        penalty: float = 1e-3,
        iterations: int = 100,
        batch: int = 128,
        tell: Callable[[float], None] | None = None,
    ) -> float:
        r"""Learn weights as a linear support vector machine does, one class against the rest.

        .. math::
            \min_{w, b} \; \frac{\lambda}{2} \|w\|^2 + \frac{1}{N} \sum_{n, c} \max(0, 1 - y_{nc}\,\text{score}_{nc})^2

        with y = 1 for the right class and -1 for the others; by L-BFGS, on times less their mean, where it needs fewer
        passes. There is no chance in it, so a seed is not needed, and the weights are the same to the bit for any
        batch, number of threads, and number of processes that a Trainer shares the images out to.

        Args:
            times: first-spike times ``(N, features, rows, columns)``; they may lie in a memory-mapped file.
            labels: integers ``(N,)``.
            penalty: lambda; the larger, the smaller the weights.
            iterations: of L-BFGS at most.
            batch: images read at once; it bounds memory.
            tell: called with the objective after each pass over the images.

        Returns:
            The objective that was reached.
        """
        flat, batch = self._flat(times), check.integer(batch, "batch", 1)
        labels = check.labels(labels, len(times), self.weight.device)
        check.labels_within(labels, len(self.bias))
        penalty = check.number(penalty, "penalty", 0)
        if tell is not None:
            check.callable_(tell, "tell")
        count, inputs, steps = len(times), flat.shape[1], self.time_steps
        dtype = check.widest(self.weight.device)
        points = [self.weight.detach().to(dtype, copy=True), self.bias.detach().to(dtype, copy=True)]
        optimizer = torch.optim.LBFGS(
            points, max_iter=check.integer(iterations, "iterations", 1), history_size=10, line_search_fn="strong_wolfe"
        )
        target = 2 * nn.functional.one_hot(labels, len(self.bias)).to(dtype).T - 1
        missing = torch.empty_like(target)  # how much each margin lacks, of all images
        room = points[0].new_empty(min(batch, count), inputs)  # one piece of memory, used again and again
        threads, processes = torch.get_num_threads(), at_work()
        share = processes.share(count)  # of what is summed without rounding

        def parts() -> Iterator[tuple[slice, Tensor]]:
            for start in range(share.start, share.stop, batch):
                part = slice(start, min(start + batch, share.stop))
                some = flat[part]
                yield part, room[: len(some)].copy_(some)

        total = sum((late.sum(0) for _, late in parts()), points[0].new_zeros(inputs))  # of integers, so exact
        mean = processes.sum_(total) / count

        def objective() -> float:
            weight, bias = points  # the bias is that of centred times: x less its mean is (mean - t) / T
            offset = (bias + weight @ mean / steps)[:, None]
            largest = (1 + bias.abs() + weight.abs().sum(1))[:, None]  # no margin lacks more
            rounded = _exact(weight, inputs * steps)
            slopes = torch.zeros_like(weight)
            missing.zero_()
            with torch_threads(threads):
                for part, late in parts():
                    y = target[:, part]
                    missing[:, part] = (1 - y * (offset - rounded @ late.T / steps)).clamp(min=0)
                    slopes += _exact(y * missing[:, part], count * steps, largest) @ late
            for part_of_all in (missing, slopes):
                processes.sum_(part_of_all)
            pulls = (target * missing).sum(1)
            weight.grad = penalty * weight - 2 / count * (torch.outer(pulls, mean) - slopes) / steps
            bias.grad = -2 / count * pulls
            loss = 0.5 * penalty * float(weight.square().sum()) + float(missing.square().sum()) / count
            if tell is not None:
                tell(loss)
            return loss

        with torch.no_grad(), torch_threads(1):  # sums of numbers that are no integers: in one order
            early = 1 - mean / steps
            points[1] += points[0] @ early
            optimizer.step(objective)  # type: ignore[no-untyped-call]
            self.weight.copy_(points[0])
            self.bias.copy_(points[1] - points[0] @ early)
            return objective()

    def extra_repr(self) -> str:
        return f"inputs={self.weight.shape[1]}, classes={len(self.bias)}, time_steps={self.time_steps}"


def _exact(values: Tensor, integers: int, largest: Tensor | None = None) -> Tensor:
    """Each row on a grid so coarse that its product with integers of a sum up to ``integers`` has no rounding.

    A sum without rounding is the same in any order: for any batch, thread count and matrix product. ``largest`` is a
    bound for each row, by default its largest entry.
    """
    bits = 52 if values.dtype == torch.float64 else 23
    bound = values.abs().amax(1, keepdim=True) if largest is None else largest
    step = torch.exp2(torch.frexp(bound).exponent.to(bound) + math.ceil(math.log2(integers)) - bits)
    return (values / step).round() * step
