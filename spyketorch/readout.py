"""A linear read-out: what a support vector machine makes of the first spikes of a network."""

import math

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
        time_steps: T.

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
        return (self.time_steps - times.flatten(1).to(self.weight)) / self.time_steps

    def forward(self, times: Tensor) -> Tensor:
        return nn.functional.linear(self.read(times), self.weight, self.bias)

    def fit(
        self, times: Tensor, labels: Tensor, *, penalty: float = 1e-3, iterations: int = 100, batch: int = 2000
    ) -> float:
        r"""Learn weights as a linear support vector machine does, one class against the rest.

        .. math::
            \min_{w, b} \; \frac{\lambda}{2} \|w\|^2 + \frac{1}{N} \sum_{n, c} \max(0, 1 - y_{nc}\,\text{score}_{nc})^2

        with y = 1 for the right class and -1 for the others; by L-BFGS, which adds in one order, so that a seed is not
        needed.

        Args:
            times: first-spike times ``(N, features, rows, columns)``; they may lie in a memory-mapped file.
            labels: integers ``(N,)``.
            penalty: lambda; the larger, the smaller the weights.
            iterations: of L-BFGS at most.
            batch: images read at once; it bounds memory.

        Returns:
            The objective that was reached.
        """
        labels = check.indices(labels, "labels", len(times), self.weight.device)
        target = 2 * nn.functional.one_hot(labels, len(self.bias)).to(self.weight) - 1
        points = [self.weight.detach().clone(), self.bias.detach().clone()]
        optimizer = torch.optim.LBFGS(
            points, max_iter=check.integer(iterations, "iterations", 1), history_size=10, line_search_fn="strong_wolfe"
        )

        def objective() -> float:
            weight, bias = points
            loss = 0.5 * penalty * float(weight.square().sum())
            weight.grad, bias.grad = penalty * weight, torch.zeros_like(bias)
            for i in range(0, len(times), batch):
                x, y = self.read(times[i : i + batch].to(weight.device)), target[i : i + batch]
                missing = (1 - y * (x @ weight.T + bias)).clamp(min=0)
                slope = -2 * y * missing / len(times)
                weight.grad += slope.T @ x
                bias.grad += slope.sum(0)
                loss += float(missing.square().sum()) / len(times)
            return loss

        with torch.no_grad():
            optimizer.step(objective)  # type: ignore[no-untyped-call]
            self.weight.copy_(points[0])
            self.bias.copy_(points[1])
            return objective()
