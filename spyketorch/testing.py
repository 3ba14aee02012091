"""Contracts: what a user's own learning rule, lesson, filter kernel or encoder should keep, as functions for a test.

    >>> from spyketorch import encoding, learning, neurons, testing
    >>> testing.check_kernel(encoding.DoGKernel(7, 1, 2))
    >>> testing.check_encoder(encoding.LatencyEncoder(torch.nn.Identity(), 15), torch.rand(4, 2, 9, 9))
    >>> testing.check_rule(lambda conv: learning.STDP(conv, (0.25, -0.125)))
    >>> testing.check_neuron(neurons.Leaky(0.9))

Each raises an AssertionError that says what is broken and for which input. The checks run on small seeded data, whose
weights are multiples of 1/64: sums of those are exact in float32, so that different ways to compute must agree to the
bit.
"""

import copy
import itertools
import tempfile
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch import _identity as identity
from spyketorch import functional as sf
from spyketorch import latency, neurons
from spyketorch._convolution import geometry
from spyketorch._identity import Content
from spyketorch._plasticity import Response, Thresholds
from spyketorch._warnings import quiet
from spyketorch.encoding._filter import Filter
from spyketorch.encoding._fitted import Fitted, fit
from spyketorch.encoding._latency import LatencyEncoder
from spyketorch.kernels import plain
from spyketorch.kernels.layers import Spiking
from spyketorch.learning._back_ends import BACK_ENDS, BackEnd
from spyketorch.learning._stdp import STDP
from spyketorch.learning._synapses import Synapses, as_option
from spyketorch.learning._thresholds import in_torch
from spyketorch.models._network import Network
from spyketorch.models._stage import Stage
from spyketorch.snn import Convolution, SpikingConvolution
from spyketorch.training._checkpoint import state
from spyketorch.training._lesson import FinalLesson, Learned, Lesson, Period
from spyketorch.training._trainer import Trainer


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


def check_encoder(
    encoder: Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    blank_is_silent: bool = True,
    waves: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Check an encoder of images into first-spike times, an :class:`~spyketorch.encoding.Encoder`, or into waves.

    Times lie within 0..T in an integer type that holds T; waves are binary and cumulative; a batch is the stack of its
    images; the input is left as it was; a second call gives the same; and a blank image is silent. An encoder that is
    :class:`~spyketorch.encoding.Fitted` asks for ``fit`` before it is fitted, and answers the same whether it was
    fitted to one tensor or to batches. What an encoder has learned is saved: a copy that was put out of order, or
    fitted to other images, answers as the encoder again once it has loaded its ``state_dict``.

    Args:
        encoder: takes ``(C, H, W)`` or ``(N, C, H, W)``; gives times ``(C', H', W')`` or ``(N, C', H', W')``, and tells
            ``time_steps``; or waves ``(T, C', H', W')`` or ``(N, T, C', H', W')``. If it is not fitted yet, a copy is
            fitted to the images, and checked.
        images: a batch ``(N, C, H, W)`` of two or more.
        blank_is_silent: whether an image of zeros must give no spike.
        waves: for an encoder that gives times, what gives the same as waves: they must be ``to_wave`` of the times.
    """
    check.callable_(encoder, "encoder")
    assert len(check.images(images)) > 1, f"images must be (N, C, H, W) with N > 1; got {tuple(images.shape)}"
    before = images.clone()
    if isinstance(encoder, Fitted):
        encoder = _check_fit(encoder, images)
    answers = encoder(images)
    assert isinstance(answers, Tensor), f"an encoder must return a tensor; got {check.describe(answers)}"
    _assert_same(images, before, "the images after the call")
    gives_times = answers.dtype in check.TIMES and answers.ndim == 4
    if gives_times:
        time_steps = _assert_times(answers, encoder)
        silence = torch.full_like(answers[0], time_steps)
    else:
        assert answers.ndim == 5, (
            f"a batch must give waves (N, T, C, H, W), or times (N, C, H, W) of an integer type; got a {answers.dtype} "
            f"tensor of shape {tuple(answers.shape)}"
        )
        assert_wave(answers, "the encoder's answer")
        silence = torch.zeros_like(answers[0])
    _assert_same(encoder(images), answers, "a second call of the encoder")
    _assert_same(torch.stack([encoder(image) for image in images]), answers, "one image at a time")
    if blank_is_silent:
        blank = encoder(torch.zeros_like(images[0]))
        assert torch.equal(blank, silence), (
            f"a blank image must give {'times of T' if gives_times else 'a silent wave'}"
        )
    if isinstance(encoder, nn.Module):
        _check_saved(encoder, images, answers)
    if waves is not None:
        assert gives_times, "`waves` stand beside times: an encoder that gives waves is checked by itself"
        check_encoder(waves, images, blank_is_silent=blank_is_silent)
        _assert_same(waves(images), latency.to_wave(answers, time_steps), "waves beside the times")


def _assert_times(times: Tensor, encoder: Any) -> int:
    """T, once it is told and the times lie within."""
    parts = encoder.modules() if isinstance(encoder, nn.Module) else [encoder]
    told: set[Any] = {part.time_steps for part in parts if hasattr(part, "time_steps")}
    assert len(told) == 1, f"an encoder that gives times must tell one `time_steps`; got {sorted(told) or 'none'}"
    time_steps: int = told.pop()
    assert torch.iinfo(times.dtype).max >= time_steps, f"{times.dtype} does not hold T = {time_steps}, silence"
    low, high = int(times.amin()), int(times.amax())
    assert low >= 0 and high <= time_steps, f"times must lie within 0..{time_steps}; got {low} to {high}"
    return time_steps


def _check_fit(encoder: Any, images: Tensor) -> Any:
    """The encoder, or where it is not fitted a copy that is, once it is known to be fitted alike to any batches."""
    alike = []
    if not encoder.fitted:
        try:
            encoder(images)
        except ValueError as error:
            assert "fit" in str(error), f"an encoder that is not fitted must name `fit`; it says {error}"
        else:
            raise AssertionError("an encoder that is not fitted must raise a ValueError that names `fit`")
    for given in (images, list(torch.split(images, 1))):
        copied = copy.deepcopy(encoder)
        fitted = copied.fit(given)
        assert fitted is copied, f"`fit` must give the encoder itself; got {check.describe(fitted)}"
        assert copied.fitted is True, f"`fitted` must be True once it is; got {copied.fitted!r}"
        alike.append(copied)
    _assert_same(alike[1](images), alike[0](images), "an encoder that was fitted to batches of one image")
    return encoder if encoder.fitted else alike[0]


def _check_saved(encoder: nn.Module, images: Tensor, answers: Tensor) -> None:
    """The ``state_dict`` holds all that an encoder has learned."""
    state, copies = copy.deepcopy(encoder.state_dict()), [copy.deepcopy(encoder) for _ in range(2)]
    for value in copies[0].state_dict().values():
        if isinstance(value, Tensor):
            value.zero_()
    if hasattr(encoder, "fit"):
        copies[1].fit(images.flip(-1)[:1] / 2)  # type: ignore[operator]
    for twin, changed in zip(copies, ("whose state was zeros", "that was fitted to other images"), strict=True):
        twin.load_state_dict(state)
        _assert_same(twin(images), answers, f"a copy {changed}, with the state loaded,")


def check_rule(make_rule: Callable[[Convolution], Any], *, negative_weights: bool = False) -> None:
    """Check a learning rule: a subclass of :class:`spyketorch.learning.STDP`, or one with factors of your own.

    Only the filters of winners change, and weights stay within the bounds; without a winner nothing changes; a batch
    of one is the sample, and a batch the samples one after the other; ``learn`` on first-spike times, in any chunks,
    compiled and in torch, does what ``online`` does on waves, with silent samples, and with potentials of the inputs
    that are told; another rule that takes over the ``state_dict`` half-way goes on as this one would; inputs are left
    as they were; factors fit the synapses and leave them alone; thresholds move tensors as they move arrays, without a
    look at a value; and it works in float64. Rules that draw random numbers pass when they draw them from torch's
    generator.

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


def _check_thresholds(thresholds: Thresholds | None) -> None:
    """Of thresholds that move tensors, too: both ways, whoever answered; of tensors no value is looked at."""
    move = in_torch(thresholds)
    if thresholds is None or move is None:
        return
    draw = torch.Generator().manual_seed(0)
    for several, heard in itertools.product((0, 1, 3), (0.125, 0.25, 0.75)):
        winners = torch.stack([torch.randperm(6, generator=draw)[:several] for _ in range(3)], 1)
        post, before = torch.randint(5, (several,), generator=draw), dyadic(6, high=8.0, generator=draw)
        share = torch.tensor(1.0 if several else heard)
        moved, tensor = before.clone(), before.clone()
        thresholds.adapt(moved.numpy(), Response(winners.numpy(), post.numpy(), float(share), 5))
        nobody = torch.full((1, 3), -1)  # in a row that is there, as it is not known how many answered
        given = torch.cat((nobody, winners, nobody)), torch.cat((nobody[:, 0], post, nobody[:, 0]))
        move(tensor, Response(*given, share, 5))
        name, what = type(thresholds).__qualname__, f"{several} winners, {float(share)} heard"
        assert torch.allclose(tensor, moved, atol=1e-5), (
            f"`adapt_in_torch` of {name} must do what its `adapt` does; with {what} it makes {before.tolist()} "
            f"{tensor.tolist()}, not {moved.tolist()}"
        )
        try:
            rows, times, heard_of = (value.to("meta") for value in (*given, share))
            move(before.to("meta"), Response(rows, times, heard_of, 5))
        except (RuntimeError, TypeError, ValueError) as error:
            raise AssertionError(
                f"`adapt_in_torch` of {name} must not look at the values of tensors, which a GPU is waited for: "
                f"use operations on tensors such as torch.where; on tensors without values it says {error}"
            ) from error


def _answered(rule: Any, wave: Tensor) -> tuple[Tensor, Tensor]:
    """(potentials of those that are heard, spikes) of a rule's layer; of potentials what winners are ranked by."""
    layer, thresholds = rule.conv_layer, rule.thresholds
    threshold: Tensor = torch.ones(()) if thresholds is None else layer.threshold
    heard = sf.convolution(wave, layer.weight, **layer.geometry.options())
    spikes, potentials = sf.fire(heard, threshold, True, latch=True)
    if thresholds is not None and thresholds.excess:
        potentials = torch.where(spikes > 0, potentials - threshold.view(-1, 1, 1), 0)
    return sf.pointwise_inhibition(potentials), spikes


def _assert_alike(got: Any, wanted: Any, what: str) -> None:
    """What two rules have learned, but for rounding."""
    for name, value in wanted.state_dict().items():
        assert torch.allclose(got.state_dict()[name].double(), value.double(), atol=1e-5), (
            f"{what} learn differently: `{name}` is another"
        )


def _check_learning(make: Callable[[], Any], on_waves: Any, waves: Tensor, start: dict[str, Tensor], seed: int) -> None:
    """`learn` on times, in all ways that serve the rule, against `online` on waves; one of the samples is silent.

    Every other time the potentials of the inputs are told, to rules that learn from times.
    """
    waves = torch.cat((waves[:1], torch.zeros_like(waves[:1]), waves[1:]))
    times = latency.from_wave(waves)
    potentials = dyadic(*times.shape, generator=torch.Generator().manual_seed(seed))
    told = seed % 2 == 1 and not on_waves._on_waves()

    def part_of(samples: slice) -> tuple[Tensor, dict[str, Tensor]]:
        return times[samples], as_option(potentials[samples] if told else None)

    def restart(rule: Any) -> None:
        torch.manual_seed(seed)
        rule.load_state_dict(start)

    def learned(rule: Any, learn: Callable[..., Tensor], size: int, what: str) -> None:
        parts = [part_of(slice(i, i + size)) for i in range(0, len(times), size)]
        found = torch.cat([learn(part, 2, 1, **options) for part, options in parts])
        got = [[tuple(winner) for winner in one if winner[0] >= 0] for one in found.tolist()]
        assert got == wanted, f"{what} finds {got}, `online` on waves {wanted}"
        _assert_alike(rule, on_waves, f"{what} and `online` on waves")

    restart(on_waves)
    every = part_of(slice(None))[1]
    wanted = on_waves.online(waves, lambda wave: _answered(on_waves, wave), 2, 1, **every)
    rule = make()
    for size in (len(times), 1, 2):
        restart(rule)
        learned(rule, rule.learn, size, f"`learn` on times, {size} at a time,")
    for way in BACK_ENDS:
        restart(rule)
        if way.why_not(rule._task(times, 2, 1)) is None:

            def learn(*given: Any, way: BackEnd = way, **options: Any) -> Tensor:
                return way.learn(rule._task(*given, **options))

            learned(rule, learn, len(times), f"`learn` on times by {type(way).__name__}")
    resumed = make()
    restart(rule)
    (first, told_first), (rest, told_rest) = part_of(slice(2)), part_of(slice(2, None))
    rule.learn(first, 2, 1, **told_first)
    resumed.load_state_dict(copy.deepcopy(rule.state_dict()))
    resumed.learn(rest, 2, 1, **told_rest)
    _assert_alike(
        resumed, on_waves, "a rule that takes over the `state_dict` of another half-way, and one that goes on,"
    )


def _check_rule_on(
    make_rule: Callable[[Convolution], Any], seed: int, settings: dict[str, int], negative_weights: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def on_times() -> Any:
        return make_rule(SpikingConvolution(3, 6, (4, 2), 1, time_steps=5, **settings))  # type: ignore[arg-type]

    adapts = getattr(on_times(), "thresholds", None) is not None
    conv = on_times().conv_layer if adapts else Convolution(3, 6, (4, 2), **settings)
    waves = random_wave(4, 5, 3, 9, 9, generator=generator)
    conv.load_weight(dyadic(*conv.weight.shape, low=-0.5 if negative_weights else 0.25, high=0.75, generator=generator))
    rule = make_rule(conv)
    if not isinstance(rule, STDP):
        raise check.fail_type("make_rule", "a function that returns a learning.STDP", rule)
    start = copy.deepcopy(rule.state_dict())
    _check_factors(rule)
    _check_thresholds(rule.thresholds)

    def run(rule: Any, waves: Tensor, respond: tuple[Tensor, Tensor], winners: Any) -> Tensor:
        torch.manual_seed(seed)
        rule.load_state_dict(start)
        rule(waves, *respond, winners)
        weight: Tensor = rule.conv_layer.weight
        return weight.detach().clone()

    potentials, spikes = _answered(rule, waves)
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
    _check_learning(on_times, rule, waves, start, seed)
    for after, was in zip((waves, potentials, spikes), kept, strict=True):
        _assert_same(after, was, "an argument after the call")
    undrawn = torch.manual_seed(seed).get_state()
    rule.load_state_dict(start)
    rule.double()(waves[0].double(), potentials[0].double(), spikes[0].double(), winners[0])
    assert rule.conv_layer.weight.dtype == torch.float64, f"in float64 the weight became {rule.conv_layer.weight.dtype}"
    drawn = not torch.equal(torch.get_rng_state(), undrawn)  # what is drawn may depend on the type
    assert drawn or torch.allclose(rule.conv_layer.weight.float(), first, atol=1e-5), (
        "float64 and float32 learn different weights"
    )


class _Stop(Exception):
    """Ends a run in the middle of a period."""


class _Writer:
    """Looks at each period while it is learned, and stops a run in one of them."""

    def __init__(self, stop: int) -> None:
        self.stop, self.turn, self.last = stop, 0, ("", 0)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        period = name.partition("/")[0], step
        self.turn += period != self.last
        self.last = period
        if self.turn == self.stop > 0:
            self.stop = 0
            raise _Stop


class _Runs:
    """Runs of the same lessons, compared by what they leave.

    Args:
        make_lessons: builds the lessons.
        network: is copied for each run.
        images, labels: of all.
        left: what a run leaves, by name.
    """

    def __init__(
        self,
        make_lessons: Callable[[], list[Lesson | FinalLesson]],
        network: Network,
        images: Tensor,
        labels: Tensor | None,
        left: Callable[[Trainer], dict[str, Any]],
    ) -> None:
        self.make_lessons, self.network, self.left = make_lessons, network, left
        self.images, self.labels = images, labels
        self.drawn = itertools.count()  # other numbers in each run
        self.whole = self.fit(self.start())

    def start(self, stop: int = 0, directory: str | None = None) -> Trainer:
        """A new process, stopped in a period if that is above 0: nothing is left but the directory."""
        torch.manual_seed(next(self.drawn))
        return Trainer(
            copy.deepcopy(self.network),
            self.make_lessons(),
            directory,
            progress=False,
            on_silence="warn",
            writer=_Writer(stop),
            resume=True,
            checkpoint_seconds=0,
        )

    def fit(self, trainer: Trainer) -> Trainer:
        trainer.fit(self.images, self.labels)
        return trainer

    def unchanged(self, *but: str) -> None:
        """Assert that all other parts of the network stayed as they are."""
        networks = self.network, self.whole.network
        found = identity.unlike(*(identity.written(identity.settings(network, "network")) for network in networks))
        assert not found, f"a lesson changes tensors alone, not how the network is built: {found}"
        after = _tensors(self.whole.network)
        for name, value in _tensors(self.network).items():
            same = name.startswith(but) or torch.equal(value, after[name])
            assert same, f"only {', '.join(but)} may change, not {name}"

    def alike(self, period: str, stops: Iterable[int], below: int = 0) -> None:
        """Assert that each run, and each that is stopped in one of these periods and goes on, leaves what one did.

        Args:
            period: its name.
            stops: numbers of periods, from 1 on.
            below: periods of lessons before.
        """
        self._same(self.fit(self.start()), "the same seed must give the same bits; draw from what the trainer seeds")
        rule = "the state of its rule must be in buffers or parameters"
        for number in stops:
            trainer = self._stopped(self.start(below + number))
            self._same(self.fit(trainer), f"stopped in {period} {number} and fitted again; {rule}")
            with tempfile.TemporaryDirectory() as directory:
                self._stopped(self.start(below + number, directory))
                told = f"stopped in {period} {number} and resumed from the checkpoint; {rule}"
                self._same(self.fit(self.start(0, directory)), told)

    def _same(self, trainer: Trainer, what: str) -> None:
        wanted = self.left(self.whole)
        for name, value in self.left(trainer).items():
            assert Content()(value) == Content()(wanted[name]), f"{what}: other {name}"

    def _stopped(self, trainer: Trainer) -> Trainer:
        try:
            self.fit(trainer)
        except _Stop:
            return trainer
        raise AssertionError("the run was to be stopped, but ended")


@dataclass(frozen=True)
class _Still(Lesson):
    """Leaves a layer as it is, in one period."""

    epochs: int = 1
    period: int = 2**62

    def rule(self, stage: Stage) -> torch.nn.Module:
        return torch.nn.Module()

    def learn(self, rule: Any, period: Period) -> Learned:
        return Learned(torch.full((len(period.times), 1, 3), -1))


def check_lesson(
    make_lesson: Callable[[], Lesson], network: Network, images: Tensor, labels: Tensor | None = None, *, stage: int = 0
) -> None:
    """Check a lesson of :class:`spyketorch.training.Trainer`, by training a copy of a network with it.

    The same seed gives the same bits, whatever was drawn before; a run that is stopped in any period and goes on, by
    another call or from its checkpoint, ends as one that never stopped: weights, thresholds, the state of the rule, the
    history; all other parts of the network stay as they are, and so does the lesson; the rule is made without a change
    of the layer; winners are neurons of the layer; two lessons made alike have one ``repr``.

    Args:
        make_lesson: builds the lesson.
        network: one with a stage that the lesson fits; it is left alone.
        images, labels: enough for three periods or more.
        stage: that gets the lesson; those below stay as they are.

    Raises:
        AssertionError: what is broken.
        TypeError: ``make_lesson`` builds no lesson.

    Example:
        >>> from spyketorch import models, training
        >>> network, images = models.mozafari2018(), torch.rand(6, 1, 97, 97)
        >>> check_lesson(lambda: training.Reinforced(period=2), network, images, torch.arange(6) % 2)
    """
    check.callable_(make_lesson, "make_lesson")
    lesson = make_lesson()
    if not isinstance(lesson, Lesson):
        raise check.fail_type("make_lesson", "a function that builds a training.Lesson", lesson)
    _check_told(make_lesson)
    periods = lesson.epochs * -(-len(images) // lesson.period)
    assert periods > 2, f"the check needs three periods or more; {len(images)} images of {lesson} make {periods}"

    def left(trainer: Trainer) -> dict[str, Any]:
        layer = trainer.network.stages[stage].layer
        return {
            "weights": layer.weight,
            "thresholds": layer.threshold,
            "state of the rule": state(trainer._rule(stage), layer),
            "history": trainer.history,
            "wins": trainer._wins,
        }

    with quiet(), warnings.catch_warnings(), torch.random.fork_rng([]):
        warnings.simplefilter("ignore")
        _check_parts(lesson, copy.deepcopy(network), images, labels, stage)
        runs = _Runs(lambda: [*[_Still()] * stage, make_lesson()], network, images, labels, left)
        learned = runs.whole.network.stages[stage].layer.weight
        assert not torch.equal(learned, network.stages[stage].layer.weight), "the lesson learned nothing"
        runs.unchanged(f"stages.{stage}.layer.weight", f"stages.{stage}.layer.threshold")
        runs.alike("period", sorted({1, periods // 2, periods}), below=stage)  # each layer below takes one period


def check_final_lesson(
    make_lesson: Callable[[], FinalLesson], network: Network, images: Tensor, labels: Tensor | None = None
) -> None:
    """Check a final lesson of :class:`spyketorch.training.Trainer`, by teaching it to a copy of a network.

    The same seed gives the same bits, whatever was drawn before; a run that is stopped in a pass and goes on, by
    another call or from its checkpoint, ends as one that never stopped: the part that learns, the state of the rule,
    the history. A lesson that tells of no passes is not stopped. All other parts of the network stay as they are, and
    so does the lesson; the rule is made without a change of the part that learns; two lessons made alike have one
    ``repr``.

    Args:
        make_lesson: builds the lesson.
        network: one with the part that the lesson teaches, such as a ``readout``, before it; it is left alone.
        images, labels: what is learned.

    Raises:
        AssertionError: what is broken.
        TypeError: ``make_lesson`` builds no final lesson.

    Example:
        >>> from spyketorch import models, training
        >>> network, images = models.goupy2024(features=4, image_shape=(1, 20, 20)), torch.rand(6, 1, 20, 20)
        >>> check_final_lesson(lambda: training.Supervised(epochs=3), network, images, torch.arange(6) % 2)
    """
    check.callable_(make_lesson, "make_lesson")
    lesson = make_lesson()
    if not isinstance(lesson, FinalLesson):
        raise check.fail_type("make_lesson", "a function that builds a training.FinalLesson", lesson)
    _check_told(make_lesson)
    content, sample = Content(code=False)(lesson), copy.deepcopy(network)

    def left(trainer: Trainer) -> dict[str, Any]:
        module = lesson.module(trainer.network)
        return {
            "weights": module.state_dict(),
            "state of the rule": state(trainer._final(lesson), module),
            "history": trainer.history,
        }

    with quiet(), warnings.catch_warnings(), torch.random.fork_rng([]):
        warnings.simplefilter("ignore")
        fit(sample.encoder, images)
        module = lesson.module(sample)
        before = copy.deepcopy(module.state_dict())
        lesson.rule(module)
        assert Content()(module.state_dict()) == Content()(before), "`rule` must leave the part that learns as it is"
        runs = _Runs(lambda: [make_lesson()], sample, images, labels, left)
        after = lesson.module(runs.whole.network).state_dict()
        assert Content()(after) != Content()(before), "the lesson learned nothing"
        runs.unchanged(*(name for name, part in sample.named_modules() if part is module))
        passes = len(runs.whole.history)
        runs.alike("pass", sorted({1, -(-passes // 2), passes}) if passes else ())
        Trainer(sample, [lesson], progress=False, on_silence="warn").fit(images, labels)
    assert Content(code=False)(lesson) == content, (
        f"a lesson must stay as it is, state belongs to its rule; {lesson} changed"
    )


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return dict(itertools.chain(module.named_parameters(), module.named_buffers()))


def _check_told(make_lesson: Callable[[], Any]) -> None:
    same = repr(make_lesson()), repr(make_lesson())
    assert same[0] == same[1], f"lessons made alike must have one `repr`, which tells them from others; got {same}"


def _check_parts(lesson: Lesson, network: Network, images: Tensor, labels: Tensor | None, stage: int) -> None:
    """The rule, and one period by hand."""
    layer, content = network.stages[stage].layer, Content(code=False)(lesson)
    before = copy.deepcopy(layer.state_dict())
    lesson.rule(network.stages[stage])
    for name, value in layer.state_dict().items():
        same = torch.equal(value, before[name].expand_as(value))  # a threshold for all features may become one for each
        assert same, f"`rule` must leave the layer as it is; its {name} changed"
    trainer = Trainer(network, [_Still()] * stage + [lesson], progress=False, on_silence="warn")
    period = trainer._period(stage, lesson, network.features(images, stage), labels)
    winners = lesson.learn(trainer._rule(stage), period).winners
    sizes = layer.out_channels, *layer.output_size(*period.times.shape[-2:])
    valid = ((winners >= 0) & (winners < torch.tensor(sizes, device=winners.device))).all(-1) | (winners < 0).all(-1)
    assert bool(valid.all()), f"winners must be (feature, row, column) below {sizes}, or -1; got {winners[~valid][0]}"
    assert Content(code=False)(lesson) == content, (
        f"a lesson must stay as it is, state belongs to its rule; {lesson} changed"
    )


def check_neuron(neuron: neurons.Neuron) -> None:
    """Check a neuron of one's own: a layer of it is the same on times and on waves, compiled and plain.

    Its potentials are tried with and without a threshold, with weights of both signs, in float32 and float64. A neuron
    fires at most once, an image answers as it does in a batch, and a learning rule finds the winners that the answers
    hold. A network of such neurons is saved and loaded, and refused where the neurons are others. What numba cannot
    compile runs in torch, with a :class:`spyketorch.PerformanceWarning`.

    Args:
        neuron: a named tuple of numbers with a ``step``, see :class:`spyketorch.neurons.Neuron`.

    Example:
        >>> check_neuron(neurons.Leaky(0.75))
    """
    neuron = neurons._checked(neuron)
    generator = torch.Generator().manual_seed(0)
    times = random_times(6, 3, 7, 6, time_steps=8, generator=generator).to(torch.uint8)
    for low, dtype in ((0.0, torch.float32), (-1.0, torch.float32), (0.0, torch.float64)):
        weight = dyadic(5, 3, 3, 2, low=low, generator=generator).to(dtype)
        for threshold in (1.5, None):
            _check_answers(neuron, times, weight, threshold)
    layer = SpikingConvolution(3, 5, (3, 2), 1.5, time_steps=8, neuron=neuron)
    layer.load_weight(dyadic(5, 3, 3, 2, generator=generator))
    fired, potentials = layer.respond(times)
    winners = STDP(layer, (0.0, 0.0)).learn(times, 2, 1, pointwise_inhibition=False)
    _assert_same(winners, latency.k_winners(fired, potentials, 2, 1, time_steps=8), "the winners that `learn` finds")
    _check_saved_neurons(layer)


def _check_answers(neuron: neurons.Neuron, times: Tensor, weight: Tensor, threshold: float | None) -> None:
    """One layer, on times and on waves, compiled and plain."""
    steps, name = 8, f"of {neuron} with threshold {threshold} in {weight.dtype}"
    heard = sf.convolution(latency.to_wave(times, steps, weight.dtype), weight)
    kept = heard.clone()
    potentials = neurons.potentials(heard, neuron)
    _assert_same(heard, kept, f"what neurons {name} heard, after their step,")
    assert potentials.dtype == weight.dtype, f"potentials {name} became {potentials.dtype}"
    assert potentials.shape == heard.shape, f"potentials {name} must be of shape {tuple(heard.shape)}"
    above = potentials > (0 if threshold is None else threshold)
    if threshold is None:
        above[:, :-1] = False
    fires, when = above.any(1), torch.arange(steps).view(-1, 1, 1, 1)
    first = torch.where(above, when, steps).amin(1).to(times.dtype)
    at_first = torch.where(fires, potentials.gather(1, first.clamp(max=steps - 1).long()[:, None])[:, 0], 0)
    fired, values = latency.convolution_fire(times, weight, threshold, time_steps=steps, neuron=neuron)
    _assert_same(fired, first, f"first spikes {name} on times against waves")
    _assert_same(values, at_first, f"potentials {name} on times against waves")
    one, _ = latency.convolution_fire(times[0], weight, threshold, time_steps=steps, neuron=neuron)
    _assert_same(one, fired[0], f"first spikes {name} of one image against the batch")
    limit = None if threshold is None else torch.full((len(weight),), threshold, dtype=weight.dtype)
    shape = geometry(tuple(weight.shape[2:]), features=len(weight))
    plainly, plain_values = plain.neuron_fire(times, Spiking(weight, limit, steps, shape), neuron, True)
    _assert_same(plainly, fired, f"first spikes {name} in plain torch against the loops")
    _assert_same(plain_values, values, f"potentials {name} in plain torch against the loops")


def _check_saved_neurons(layer: SpikingConvolution) -> None:
    """A network of such neurons takes its own state, one of others refuses it."""
    images = torch.rand(2, 3, 7, 6, generator=torch.Generator().manual_seed(0))
    network = Network(LatencyEncoder(torch.nn.Identity(), layer.time_steps), [Stage(layer)])
    answer = network.features(images)
    state = copy.deepcopy(network.state_dict())
    again = copy.deepcopy(network)
    again.stages[0].layer.reset_weight()
    again.load_state_dict(state)
    _assert_same(again.features(images), answer, "the answer of a network that took the state of another")
    other = neurons.Leaky(0.25) if type(layer.neuron) is neurons.IntegrateAndFire else neurons.IntegrateAndFire()
    again.stages[0].layer.neuron = other
    try:
        again.load_state_dict(state)
    except ValueError:
        return
    raise AssertionError(f"a network of {other} must refuse the state of one of {layer.neuron}")
