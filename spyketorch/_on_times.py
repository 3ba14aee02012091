"""Learning from first-spike times: one sample after the other, each on the weights that the one before left.

:func:`learn` hands a chunk to the compiled loops where they do exactly what the rule and the layer would do; everything
else is walked in torch, on any device.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch import functional as sf
from spyketorch import latency
from spyketorch._convolution import layer_geometry, learnable
from spyketorch._teacher import Teacher
from spyketorch._winners import Choice
from spyketorch._winners import choice as winner_choice
from spyketorch.kernels import operators

if TYPE_CHECKING:
    from spyketorch.learning import RSTDP, STDP


def layer_of(rule: "STDP", times: Any) -> Any:
    """The layer of a rule, once it can learn from these times."""
    layer = rule.conv_layer
    if not hasattr(layer, "respond"):
        raise check.fail_type("conv_layer", "an snn.SpikingConvolution, to learn from first-spike times", layer)
    if check.times(times, "times").ndim != 4:
        raise check.fail("times", "a batch of shape (N, C, H, W)", times)
    return layer


def _own_answer(layer: Any) -> list[str]:
    """The methods of the standard layer in whose place this one has its own."""
    return layer._own() if hasattr(layer, "_own") else ["respond"]


def answer(layer: Any, times: Tensor) -> tuple[Tensor, Tensor]:
    """(first-spike times, potentials there) of a layer, its hooks and whatever else it has of its own included."""
    answered: tuple[Tensor, Tensor] = layer._heard(times) if hasattr(layer, "_heard") else layer.respond(times)
    return answered


def learn(
    rule: "STDP | RSTDP",
    layer: Any,
    times: Tensor,
    choice: tuple[Any, Any, bool],
    minibatch: Any,
    teacher: Teacher | None,
) -> Tensor:
    """The winners of each sample, ``(N, kwta, 3)``; the weights of the layer have learned."""
    minibatch = check.integer(minibatch, "minibatch", 1)
    learnable(layer)
    shape = layer_geometry(times, "times", layer.weight, layer.stride, layer.padding, layer.dilation, layer.groups)
    kwta, radius = winner_choice(*choice[:2], layer.out_channels, *shape.output_size(*times.shape[-2:]))
    choice = Choice(kwta, radius, choice[2])
    check.times_within(times, "times", layer.time_steps)
    for value, name in ((layer.weight, "conv_layer.weight"), (layer.threshold, "conv_layer.threshold")):
        if value is not None:
            check.finite_if_free(value, name)
    rates = [one._rates for one in rule._pair()[: 1 + (teacher is not None)]]
    for one in rates:
        check.finite_if_free(one, "learning_rate")
    reason = _why_walk(rule, layer, minibatch) or operators.why_no_search(
        layer.weight, layer.threshold, shape, choice.inhibit, choice.kwta
    )
    if reason is not None:
        operators.say_slow("`learn` runs", layer.weight, reason)
        return _walk(rule, layer, times, choice, minibatch, teacher)
    from spyketorch.kernels.engine import engine

    reward, _ = rule._pair()
    bounds = reward.lower_bound, reward.upper_bound
    with engine(layer.weight.data, layer.limit(), layer.time_steps, shape, times.shape[2:]) as loops:
        both = torch.stack((rates[0], rates[-1]))
        return loops.learn(times, choice, both, bounds, reward._dependence() is not None, teacher)


def _why_walk(rule: "STDP | RSTDP", layer: Any, minibatch: int) -> str | None:
    """Why the loops do not learn what this rule and this layer would, or None where they do."""
    own = {"rule": rule._own(), "layer": _own_answer(layer)}
    if any(own.values()):
        return " and ".join(f"the {who} has its own {', '.join(names)}" for who, names in own.items() if names)
    if minibatch > 1:
        return "`minibatch` is above 1, which suits a GPU: on a CPU 1, exactly online, is the fastest"
    return None


def _walk(
    rule: "STDP | RSTDP", layer: Any, times: Tensor, choice: Choice, minibatch: int, teacher: Teacher | None
) -> Tensor:
    """The loop over samples in torch, on any device, without a wait for it."""
    teach = _teach_on_waves if rule._on_waves() else _teach
    history = []
    for i, sample in enumerate(times):
        if i % minibatch == 0:
            answers = answer(layer, times[i : i + minibatch])
        fired, potentials = (part[i % minibatch] for part in answers)
        if teacher is None:
            fired, winners = _decide(fired, potentials, layer.time_steps, choice)
            history.append(winners)
            teach(rule, layer, sample, fired, winners, None)
            continue
        allowed, label = teacher.active[i], teacher.labels[i]
        for turn in range(teacher.turns):
            if turn:
                fired, potentials = answer(layer, sample)
            fired = torch.where(allowed.view(-1, 1, 1), fired, layer.time_steps)
            fired, winners = _decide(fired, potentials, layer.time_steps, choice)
            if turn == 0:
                history.append(winners)
            first = winners[:1, 0]  # with its axis: an index of no axis would be read
            decided, exists = teacher.classes[first.clamp(min=0)], first >= 0
            right, wrong = exists & (decided == label), exists & (decided != label)
            known = teacher.correction > 0 and turn == 0  # what is right at once is not reinforced any further
            outcome = (torch.zeros_like(right) if known else right).to(layer.weight) - wrong.to(layer.weight)
            teach(rule, layer, sample, fired, winners, outcome)
            others = teacher.classes != decided if teacher.correction == 1 else teacher.classes == label
            allowed = allowed & others & wrong  # nobody is left to answer again where there was no mistake
            if check.free_to_read(allowed) and not bool(allowed.any()):
                break
    return torch.stack(history)


def _decide(fired: Tensor, potentials: Tensor, steps: int, choice: Choice) -> tuple[Tensor, Tensor]:
    """(first-spike times after inhibition, winners)."""
    potentials = torch.where(fired < steps, potentials, 0)
    if choice.inhibit:
        fired, potentials = latency.pointwise_inhibition(fired, potentials, time_steps=steps)
    return fired, latency.k_winners(fired, potentials, choice.kwta, choice.radius, time_steps=steps)


def _teach(
    rule: "STDP | RSTDP", layer: Any, sample: Tensor, fired: Tensor, winners: Tensor, outcome: Tensor | None
) -> None:
    rule._learn_times(sample, fired, winners, layer.time_steps, *(() if outcome is None else (outcome,)))


def _teach_on_waves(
    rule: "STDP | RSTDP", layer: Any, sample: Tensor, fired: Tensor, winners: Tensor, outcome: Tensor | None
) -> None:
    """For a rule with a ``forward`` of its own: what a loop on waves would call it with."""
    weight, steps = layer.weight, layer.time_steps
    wave, spikes = (latency.to_wave(x, steps, weight.dtype) for x in (sample, fired))
    potentials = torch.where(spikes > 0, sf.convolution(wave, weight, **layer.geometry.options()), 0)
    existing = [tuple(winner) for winner in winners.tolist() if winner[0] >= 0]
    rule(wave, potentials, spikes, *(() if outcome is None else (float(outcome),)), existing)
