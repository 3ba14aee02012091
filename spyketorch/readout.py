"""A linear read-out: what a support vector machine makes of the first spikes of a network."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter

from spyketorch import _checks as check


class LinearReadout(nn.Module):
    r"""Class scores from first-spike times, linear in how early each neuron fires.

    .. math:: x = (T - t) / T, \qquad \text{score}_c = w_c \cdot x + b_c

    Args:
        shape: of the maps that are read, (features, rows, columns).
        classes: how many.
        time_steps: T, how many there are.

    Shape:
        First-spike times ``(N, features, rows, columns)`` to scores ``(N, classes)``.

    Example:
        >>> readout = LinearReadout((150, 7, 7), 10, time_steps=15)
        >>> readout(torch.full((3, 150, 7, 7), 15, dtype=torch.uint8)).shape
        torch.Size([3, 10])
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, *, time_steps: int) -> None:
        super().__init__()
        size = math.prod(check.integer(length, "shape", 1) for length in shape)
        self.time_steps = check.integer(time_steps, "time_steps", 1)
        self.weight = Parameter(torch.zeros(check.integer(classes, "classes", 2), size), requires_grad=False)
        self.bias = Parameter(torch.zeros(classes), requires_grad=False)

    def read(self, times: Tensor) -> Tensor:
        """How early each neuron fires, ``(N, inputs)``: 1 at the first step, 0 for never."""
        return (self.time_steps - self._flat(times).to(self.weight)) / self.time_steps

    def _flat(self, times: Tensor) -> Tensor:
        if times.ndim < 2 or times.shape[1:].numel() != self.weight.shape[1]:
            raise check.fail("times", f"of {self.weight.shape[1]} neurons per image", times)
        return times.flatten(1)

    def forward(self, times: Tensor) -> Tensor:
        return nn.functional.linear(self.read(times), self.weight, self.bias)

    def fit(
        self,
        times: Tensor,
        labels: Tensor,
        *,
        penalty: float = 1e-3,
        iterations: int = 100,
        batch: int = 500,
        tell: Callable[[float], None] | None = None,
    ) -> float:
        r"""Learn weights as a linear support vector machine does, one class against the rest.

        .. math::
            \min_{w, b} \; \frac{\lambda}{2} \|w\|^2 + \frac{1}{N} \sum_{n, c} \max(0, 1 - y_{nc}\,\text{score}_{nc})^2

        with y = 1 for the right class and -1 for the others; by L-BFGS, which adds in one order, so that a seed is not
        needed. It works on times less their mean, where it needs fewer passes.

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
        labels = check.labels(labels, len(times), self.weight.device)
        if int(labels.max()) >= len(self.bias):
            raise check.fail("labels", f"classes 0..{len(self.bias) - 1}", int(labels.max()))
        flat, batch = self._flat(times), check.integer(batch, "batch", 1)
        if check.number(penalty, "penalty") < 0:
            raise check.fail("penalty", "0 or more", penalty)
        target = 2 * nn.functional.one_hot(labels, len(self.bias)).to(self.weight).T - 1
        points = [self.weight.detach().clone(), self.bias.detach().clone()]
        optimizer = torch.optim.LBFGS(
            points, max_iter=check.integer(iterations, "iterations", 1), history_size=10, line_search_fn="strong_wolfe"
        )
        parts = range(0, len(times), batch)
        room = self.weight.new_empty(min(batch, len(times)), flat.shape[1])  # one piece of memory, used again and again

        def part(start: int) -> Tensor:
            some = flat[start : start + batch]
            return room[: len(some)].copy_(some)

        mean = torch.zeros_like(points[0][0])
        for i in parts:
            mean += part(i).sum(0) / len(times)

        def objective() -> float:
            weight, bias = points  # the bias is that of centred times: x less its mean is (mean - t) / T
            offset = (bias + weight @ mean / self.time_steps)[:, None]
            loss = 0.5 * penalty * float(weight.square().sum())
            weight.grad, bias.grad = torch.zeros_like(weight), torch.zeros_like(bias)
            for i in parts:
                t, y = part(i), target[:, i : i + batch]
                missing = (1 - y * (offset - weight @ t.T / self.time_steps)).clamp(min=0)
                slope = -2 * y * missing / len(times)
                weight.grad += slope @ t
                bias.grad += slope.sum(1)
                loss += float(missing.square().sum()) / len(times)
            weight.grad = penalty * weight + (torch.outer(bias.grad, mean) - weight.grad) / self.time_steps
            if tell is not None:
                tell(loss)
            return loss

        with torch.no_grad():
            early = 1 - mean / self.time_steps
            points[1] += points[0] @ early
            optimizer.step(objective)  # type: ignore[no-untyped-call]
            self.weight.copy_(points[0])
            self.bias.copy_(points[1] - points[0] @ early)
            return objective()

    def extra_repr(self) -> str:
        return f"inputs={self.weight.shape[1]}, classes={len(self.bias)}, time_steps={self.time_steps}"
