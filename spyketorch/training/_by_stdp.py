"""What lessons by STDP share: their settings, rates that follow a schedule, and how far weights have decided."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch.learning._rates import names
from spyketorch.learning._stdp import STDP
from spyketorch.models._stage import Stage
from spyketorch.snn import SpikingConvolution
from spyketorch.training import _diagnosis as diagnosis


def layer_of(stage: Stage) -> SpikingConvolution:
    """The layer of what must be a stage."""
    if not isinstance(stage, Stage):
        raise check.fail_type("stage", "a models.Stage", stage)
    return stage.layer


def check_settings(lesson: Any, *rates: str) -> None:
    """What would fail when the layer's turn comes, perhaps hours later, or never end."""
    for name, minimum in (("kwta", 1), ("inhibition_radius", 0), ("epochs", 1), ("period", 1)):
        check.integer(getattr(lesson, name), name, minimum)
    for name in rates:
        pair = getattr(lesson, name)
        if not isinstance(pair, Sequence) or len(pair) != 2:
            raise check.fail(name, "a pair (LTP, LTD)", pair)
        for rate in pair:
            check.number(rate, name)
    for name in ("pointwise_inhibition", "use_stabilizer"):
        check.flag(getattr(lesson, name), name)
    check.span(lesson.bounds, "bounds")
    check.callable_(lesson.schedule, "schedule")


@contextmanager
def paced(rule: STDP, named: Sequence[float], factor: float) -> Iterator[float]:
    """The rates of a rule times a factor, for a while, and that of its thresholds; gives the largest of the rule.

    Where they are those that a lesson names, these count in all their digits.
    """
    adapting: Any = rule.thresholds
    stored, kept = rule._stored(), rule._rates
    rates = [stored[name] for name in names(range(rule.conv_layer.out_channels))]
    made, exact = kept.cpu(), torch.tensor(named, dtype=torch.float64, device="cpu")
    pairs = (factor * torch.where(exact.to(made.dtype) == made, exact, made.double())).tolist()
    try:
        if all(pair == pairs[0] for pair in pairs):
            rule.update_all_learning_rate(*pairs[0])
        else:
            for feature, pair in enumerate(pairs):
                rule.update_learning_rate(feature, *pair)
        if hasattr(adapting, "rate"):
            rule.thresholds = adapting._replace(rate=factor * adapting.rate)
        yield max(abs(rate) for pair in pairs for rate in pair)
    finally:
        if hasattr(adapting, "rate"):
            rule.thresholds = adapting
        with torch.no_grad():
            torch._foreach_zero_(rates)
            torch._foreach_add_(rates, kept.flatten().tolist())


def decided(weight: Tensor, bounds: tuple[float, float], use_stabilizer: bool) -> dict[str, float]:
    """What the history holds of weights: how far they have decided, where a stabilizer lets them."""
    return {"convergence": diagnosis.convergence(weight, bounds)} if use_stabilizer else {}
