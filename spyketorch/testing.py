"""Contracts: what a user's own learning rule, filter kernel or encoder should keep, as functions to call in a test.

    >>> from spyketorch import encoding, learning, testing
    >>> testing.check_kernel(encoding.DoGKernel(7, 1, 2))
    >>> testing.check_encoder(encoding.Intensity2Latency(15, to_spike=True), torch.rand(4, 2, 9, 9))
    >>> testing.check_rule(lambda conv: learning.STDP(conv, (0.25, -0.125)))

Each raises an AssertionError that says what is broken and for which input. The checks run on small seeded data, whose
weights are multiples of 1/64: sums of those are exact in float32, so that different ways to compute must agree to the
bit.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch import functional as sf
from spyketorch import latency
from spyketorch._warnings import quiet
from spyketorch.encoding._filter import Filter
from spyketorch.learning import STDP, Synapses
from spyketorch.snn import Convolution, SpikingConvolution


def random_times(*shape: int, time_steps: int, silent: float = 0.3, generator: torch.Generator | None = None) -> Tensor:
    """Random first-spike times, int64 in 0..time_steps, about a share ``silent`` of them time_steps (silent)."""
    times = torch.randint(time_steps, shape, generator=generator)
    return torch.where(torch.rand(shape, generator=generator) < silent, time_steps, times)


def random_wave(
    *shape: int, silent: float = 0.3, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """A random spike wave of the shape given, ``(T, C, H, W)`` or ``(N, T, C, H, W)``.

    Example:
        >>> assert_wave(random_wave(15, 2, 4, 4))
    """
    *batch, time_steps, channels, height, width = shape
    times = random_times(*batch, channels, height, width, time_steps=time_steps, silent=silent, generator=generator)
    steps = torch.arange(time_steps).view(-1, 1, 1, 1)
    return (times.unsqueeze(-4) <= steps).to(dtype)


def dyadic(*shape: int, low: float = 0.0, high: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
    """Random multiples of 1/64 in low..high, float32."""
    return torch.randint(round(low * 64), round(high * 64) + 1, shape, generator=generator) / 64


def assert_wave(wave: Tensor, name: str = "wave") -> None:
    """Assert that a tensor is a spike wave: zeros and ones, and cumulative in time."""
    assert isinstance(wave, Tensor) and wave.ndim in (4, 5), (
        f"{name} must be a tensor (T, C, H, W) or (N, T, C, H, W); got {type(wave).__name__} "
        f"{tuple(getattr(wave, 'shape', ()))}"
    )
    assert bool(((wave == 0) | (wave == 1)).all()), (
        f"{name} must hold zeros and ones only; got {set(wave.flatten().tolist())}"
    )
    falls = check.falls(wave)
    assert not bool(falls.any()), (
        f"{name} must be cumulative, but {int(falls.sum())} entries fall, the first at {falls.nonzero()[0].tolist()}"
    )


def _assert_same(got: Tensor, wanted: Tensor, what: str) -> None:
    assert got.shape == wanted.shape, f"{what}: shape {tuple(got.shape)}, wanted {tuple(wanted.shape)}"
    differing = int((got != wanted).sum())
    assert differing == 0, f"{what}: {differing} of {got.numel()} values differ"


def check_kernel(kernel: Callable[[], Tensor]) -> None:
    """Check a kernel: each call gives the same finite 2-D tensor, and :class:`~spyketorch.encoding.Filter` takes it."""
    check.callable_(kernel, "kernel")
    made = kernel()
    assert isinstance(made, Tensor) and made.ndim == 2, f"a kernel must return a (rows, columns) tensor; got {made!r}"
    assert made.is_floating_point(), f"a kernel must return a floating tensor; got {made.dtype}"
    assert bool(torch.isfinite(made).all()), "a kernel must be finite everywhere"
    assert bool((made != 0).any()), "a kernel must not be 0 everywhere"
    _assert_same(kernel(), made, "a second call of the kernel")
    bank = Filter([kernel])
    side = bank.max_window_size
    impulse = torch.zeros(1, 2 * side - 1, 2 * side - 1)
    impulse[0, side - 1, side - 1] = 1
    response = bank(impulse).squeeze(0).flip(0, 1)
    _assert_same(response, bank.kernels[0, 0], "the response of Filter to one bright pixel")


def check_encoder(encoder: Callable[[Tensor], Tensor], images: Tensor, *, blank_is_silent: bool = True) -> None:
    """Check an encoder of images into spike waves.

    Waves are binary and cumulative; a batch is the stack of its images; the input is left as it was; a second call
    gives the same; and a blank image is silent.

    Args:
        encoder: takes ``(C, H, W)`` or ``(N, C, H, W)``, gives ``(T, C', H', W')`` or ``(N, T, C', H', W')``.
        images: a batch ``(N, C, H, W)`` of two or more.
        blank_is_silent: whether an image of zeros must give no spike.
    """
    check.callable_(encoder, "encoder")
    assert len(check.images(images)) > 1, f"images must be (N, C, H, W) with N > 1; got {tuple(images.shape)}"
    before = images.clone()
    waves = encoder(images)
    assert isinstance(waves, Tensor), f"an encoder must return a tensor; got {check.describe(waves)}"
    _assert_same(images, before, "the images after the call")
    assert waves.ndim == 5, f"a batch must give (N, T, C, H, W); got {tuple(waves.shape)}"
    assert_wave(waves, "the encoder's answer")
    _assert_same(encoder(images), waves, "a second call of the encoder")
    _assert_same(torch.stack([encoder(image) for image in images]), waves, "one image at a time")
    if blank_is_silent:
        assert not bool(encoder(torch.zeros_like(images[0])).any()), "a blank image must give a silent wave"


def check_rule(make_rule: Callable[[Convolution], Any], *, negative_weights: bool = False) -> None:
    """Check a learning rule: a subclass of :class:`spyketorch.learning.STDP`, or one with factors of your own.

    Only the filters of winners change, and weights stay within the bounds; without a winner nothing changes; a batch of
    one is the sample, and a batch the samples one after the other; ``learn`` on first-spike times, in any chunks, does
    what ``online`` does on waves, silent samples included; inputs are left as they were; factors fit the synapses and
    leave them alone; the ``state_dict`` reloads; and it works in float64. Rules that draw random numbers pass when they
    draw them from torch's generator.

    Args:
        make_rule: builds the rule for a layer of 3 input and 6 output features, whose kernels have 4 x 2 places.
        negative_weights: start from weights of both signs, for rules with such bounds.

    Raises:
        AssertionError: what is broken.
        TypeError: ``make_rule`` builds no rule.
    """
    if isinstance(make_rule, STDP) or not callable(make_rule):
        raise check.fail_type("make_rule", "a function that builds the rule, `lambda conv: STDP(conv, ...)`", make_rule)
    with quiet():
        for seed, settings in enumerate([{}, {"stride": 2, "padding": 1}, {"groups": 3}, {"dilation": 2}]):
            _check_rule_on(make_rule, seed, settings, negative_weights)


def _check_factors(rule: STDP) -> None:
    """Factors, on five winners: an answer for each synapse, which are left as they were."""
    winners, shape = 5, (5, *rule.conv_layer.weight.shape[1:])  # no two sizes alike, so that none passes for another
    draw = torch.Generator().manual_seed(0)
    pre, post = (random_times(*size, time_steps=5, generator=draw) for size in (shape, (winners, 1, 1, 1)))
    weight = rule.conv_layer.weight.detach()[:winners].clone()
    ltp, ltd = (torch.full((winners, 1, 1, 1), rate) for rate in (0.25, -0.125))
    bounds = (rule.lower_bound, rule.upper_bound)
    synapses = Synapses(torch.arange(winners), weight, pre <= post, pre, post, ltp, ltd, *bounds)
    for name in ("rate", "weight_dependence", "modulation"):
        factor = getattr(rule, name)
        if factor is None:
            continue
        kept = copy.deepcopy(synapses)
        given = factor(synapses)
        fits = isinstance(given, int | float) or (isinstance(given, Tensor) and check.broadcasts(given.shape, shape))
        assert fits, (
            f"`{name}` must return a number, or a tensor that fits (winners, features, rows, columns), here {shape}; "
            f"got {check.describe(given)}"
        )
        for field, was in vars(kept).items():
            if isinstance(was, Tensor):
                _assert_same(getattr(synapses, field), was, f"`{field}` of the synapses after `{name}`")


def _check_learning(rule: Any, on_waves: Any, waves: Tensor, start: dict[str, Tensor], seed: int) -> None:
    """`learn` on times against `online` on waves: one sample, a silent one, and others."""
    waves = torch.cat((waves[:1], torch.zeros_like(waves[:1]), waves[1:]))
    times = latency.from_wave(waves)

    def respond(wave: Tensor) -> tuple[Tensor, Tensor]:
        spikes, potentials = sf.fire(on_waves.conv_layer(wave), 1, True, latch=True)
        return sf.pointwise_inhibition(potentials), spikes

    def restart(rule: Any) -> None:
        torch.manual_seed(seed)
        rule.load_state_dict(start)

    restart(on_waves)
    wanted = on_waves.online(waves, respond, 2, 1)
    for size in (len(times), 1, 2):
        restart(rule)
        found = torch.cat([rule.learn(part, 2, 1) for part in torch.split(times, size)])
        got = [[tuple(winner) for winner in one if winner[0] >= 0] for one in found.tolist()]
        assert got == wanted, f"`learn` on times, {size} at a time, finds {got}, `online` on waves {wanted}"
        assert torch.allclose(rule.conv_layer.weight, on_waves.conv_layer.weight, atol=1e-5), (
            f"`learn` on times, {size} at a time, and `online` on waves learn different weights"
        )


def _check_rule_on(
    make_rule: Callable[[Convolution], Any], seed: int, settings: dict[str, int], negative_weights: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    conv = Convolution(3, 6, (4, 2), **settings)
    waves = random_wave(4, 5, 3, 9, 9, generator=generator)
    conv.load_weight(dyadic(*conv.weight.shape, low=-0.5 if negative_weights else 0.25, high=0.75, generator=generator))
    rule = make_rule(conv)
    if not isinstance(rule, STDP):
        raise check.fail_type("make_rule", "a function that returns a learning.STDP", rule)
    start = copy.deepcopy(rule.state_dict())
    _check_factors(rule)

    def layer(wave: Tensor) -> tuple[Tensor, Tensor]:
        spikes, potentials = sf.fire(rule.conv_layer(wave), 1, True, latch=True)
        return sf.pointwise_inhibition(potentials), spikes

    def run(rule: Any, waves: Tensor, respond: tuple[Tensor, Tensor], winners: Any) -> Tensor:
        torch.manual_seed(seed)
        rule.load_state_dict(start)
        rule(waves, *respond, winners)
        weight: Tensor = rule.conv_layer.weight
        return weight.detach().clone()

    potentials, spikes = layer(waves)
    winners = sf.get_k_winners(potentials, 2, 1, spikes)
    kept = [t.clone() for t in (waves, potentials, spikes)]
    first = run(rule, waves[0], (potentials[0], spikes[0]), winners[0])
    learned = [f for f, _, _ in winners[0]]
    others = [f for f in range(6) if f not in learned]
    assert learned, "the check needs a winner; got none"
    _assert_same(first[others], start["conv_layer.weight"][others], f"filters that did not win ({settings})")
    assert bool((first >= rule.lower_bound).all()) and bool((first <= rule.upper_bound).all()), (
        f"weights must stay within {rule.lower_bound}..{rule.upper_bound}; got {first.min()}..{first.max()}"
    )
    silent = run(rule, waves[0], (torch.zeros_like(potentials[0]), torch.zeros_like(spikes[0])), None)
    _assert_same(silent, start["conv_layer.weight"], "the weight after a sample without winners")
    one = run(rule, waves[:1], (potentials[:1], spikes[:1]), winners[:1])
    _assert_same(one, first, "a batch of one against the sample")
    batch = run(rule, waves, (potentials, spikes), winners)
    torch.manual_seed(seed)
    rule.load_state_dict(start)
    for sample in zip(waves, potentials, spikes, winners, strict=True):
        rule(*sample)
    _assert_same(batch, rule.conv_layer.weight, "a batch against its samples one after the other")
    layer_on_times = SpikingConvolution(3, 6, (4, 2), 1, time_steps=5, **settings)
    _check_learning(make_rule(layer_on_times), rule, waves, start, seed)
    for after, was in zip((waves, potentials, spikes), kept, strict=True):
        _assert_same(after, was, "an argument after the call")
    torch.manual_seed(seed)
    rule.load_state_dict(start)
    rule.double()(waves[0].double(), potentials[0].double(), spikes[0].double(), winners[0])
    assert rule.conv_layer.weight.dtype == torch.float64, f"in float64 the weight became {rule.conv_layer.weight.dtype}"
    assert torch.allclose(rule.conv_layer.weight.float(), first, atol=1e-5), (
        "float64 and float32 learn different weights"
    )
