"""Thresholds that adapt while a layer learns, and patches: against what rule and slices give by hand."""

import math
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shared_out import bars
from test_training import T, network

from spyketorch import _checks as check
from spyketorch import latency, snn, testing
from spyketorch.learning import STDP, VDSP, MultiplicativeSTDP, Response, TargetTime
from spyketorch.learning._back_ends import InLoops, WinnersGathered, WinnersInLoops
from spyketorch.learning._back_ends import InTorch as AllInTorch
from spyketorch.training import Constant, Decaying, Progress, Trainer, TrainingWarning, Unsupervised
from spyketorch.training._patches import Patches, drawn, seen_alone

LESSON = Unsupervised(
    rates=(0.1, -0.1),
    steepness=1.0,
    thresholds=TargetTime(0.25, rate=0.5, floor=0.5),
    schedule=Decaying(0.1),
    patches=True,
    period=10,
)


def fit(lesson, count=40, made=None, **options):
    made = made or network()
    trainer = Trainer(made, [lesson], progress=False, shuffle=False, **options)
    (report,) = trainer.fit(bars(count)[0])
    return made.stages[0].layer, trainer, report


GEOMETRIES = [{}, {"padding": (2, 1)}, {"stride": 2, "dilation": (2, 1)}, {"groups": 2, "padding": 1, "stride": (1, 3)}]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_patches_are_what_a_neuron_sees(geometry):
    """Of the neuron at (row, column), place by place; what lies outside of the map is silent."""
    layer = snn.SpikingConvolution(4, 6, (3, 2), 1.0, time_steps=T, **geometry)
    times = torch.randint(0, T + 1, (50, 4, 9, 8), dtype=torch.uint8)
    patches = drawn(times, layer, np.random.default_rng(0))
    sizes = layer.output_size(9, 8)
    assert patches.times.shape == (50, 4, 3, 2)
    assert [set(places) for places in patches.places.T.tolist()] == [set(range(size)) for size in sizes]
    for image, patch, (row, column) in zip(times, patches.times, patches.places.tolist(), strict=True):
        for (c, i, j), time in np.ndenumerate(patch.numpy()):
            y = row * layer.stride[0] - layer.padding[0] + i * layer.dilation[0]
            x = column * layer.stride[1] - layer.padding[1] + j * layer.dilation[1]
            assert time == (image[c, y, x] if 0 <= y < 9 and 0 <= x < 8 else T)
    layer.load_weight(torch.randint(1, 64, layer.weight.shape) / 64)
    at = patches.places[:, None, None, :].expand(50, 6, 1, 2)
    whole = layer(times)
    with seen_alone(layer):
        alone = layer(patches.times)
    for n in range(50):
        assert torch.equal(alone[n, :, 0, 0], whole[n, :, at[n, 0, 0, 0], at[n, 0, 0, 1]])


def test_a_layer_is_itself_again_after_an_error():
    layer = snn.SpikingConvolution(1, 1, 3, 1.0, time_steps=T, padding=1, dilation=2)
    before = layer.geometry
    with pytest.raises(RuntimeError), seen_alone(layer):
        assert (layer.padding, layer.dilation) == ((0, 0), (1, 1))
        raise RuntimeError
    assert layer.geometry == before


def test_winners_are_named_by_their_place():
    patches = Patches(torch.zeros(2, 1, 1, 1), torch.tensor([[4, 5], [6, 7]]))
    winners = torch.tensor([[[1, 0, 0], [2, 0, 0]], [[3, 0, 0], [-1, -1, -1]]])
    assert patches.named(winners).tolist() == [[[1, 4, 5], [2, 4, 5]], [[3, 6, 7], [-1, -1, -1]]]


@pytest.mark.parametrize("patches", [True, False])
@pytest.mark.parametrize("steepness", [1.0, None])
def test_the_lesson_is_the_rule_with_rates_that_fade(patches, steepness):
    """Steps of weights and of thresholds alike, to the bit."""
    lesson = replace(LESSON, patches=patches, steepness=steepness)
    layer, trainer, _ = fit(lesson)
    made = network()
    times, mine = made.features(bars(40)[0], 0), made.stages[0].layer
    for start in range(0, 40, 10):
        factor = 0.1 ** (start / 40)
        rates, thresholds = (factor * 0.1, factor * -0.1), TargetTime(0.25, rate=factor * 0.5, floor=0.5)
        if steepness is None:
            rule = STDP(mine, rates, thresholds=thresholds)
        else:
            rule = MultiplicativeSTDP(mine, rates, steepness=steepness, thresholds=thresholds)
        part = times[start : start + 10]
        if patches:
            mine.padding = 0
            random = np.random.default_rng([0, 2, 0, start])
            rows, columns = (torch.from_numpy(random.integers(12, size=10)) for _ in "yx")
            around = latency.pad(part, (1, 1, 1, 1), T)
            part = torch.stack(
                [around[n, :, y : y + 3, x : x + 3] for n, (y, x) in enumerate(zip(rows, columns, strict=True))]
            )
        rule.learn(part)
        mine.padding = 1
    assert torch.equal(layer.weight, mine.weight)
    assert torch.equal(layer.threshold, mine.threshold)
    assert layer.threshold.shape == (4,)
    assert trainer._rules[0].thresholds == lesson.thresholds
    assert ("convergence" in trainer.history[0]) is (steepness is None)


def test_features_come_to_fire_at_the_wanted_time():
    late = {}
    for target in (0.3, 0.5):
        lesson = Unsupervised(rates=(0.0, 0.0), schedule=Constant(), thresholds=TargetTime(target, 0.02, 0.5), epochs=5)
        layer, _, _ = fit(lesson, 200)
        times = network().features(bars(200)[0], 0)
        winners = layer.winners(times, pointwise_inhibition=True)[:, 0]
        late[target] = float(layer(times)[torch.arange(200), *winners.T].float().mean()) / T
    assert late[0.3] == pytest.approx(0.3, abs=0.1)
    assert late[0.5] == pytest.approx(0.5, abs=0.1)


def test_the_layer_answers_with_a_share_of_what_it_learned():
    whole, _, _ = fit(LESSON)
    part, trainer, _ = fit(replace(LESSON, answering=0.5, epochs=1))
    assert torch.equal(part.threshold, whole.threshold * 0.5)
    assert torch.equal(part.weight, whole.weight)
    with pytest.warns(UserWarning, match="has finished"):
        trainer.fit(bars(40)[0])
    assert torch.equal(part.threshold, whole.threshold * 0.5)


def test_a_layer_that_is_left_behind_is_told():
    high = replace(LESSON, thresholds=TargetTime(0.99, rate=20.0))
    with pytest.warns(TrainingWarning, match=r"thresholds are beyond .*: at the end nobody answers to \d+% of the s"):
        _, trainer, report = fit(high, 600)
    assert "TargetTime" not in report.warnings[0]
    assert "earlier time (target)" in report.warnings[0]
    assert trainer.history[-1]["unanswered"] > 0.1


class InTorch(MultiplicativeSTDP):
    """The same, without a compiled twin."""

    def compiled(self):
        return None


@pytest.mark.parametrize("kind", [MultiplicativeSTDP, InTorch])
@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"padding": 1}, {"groups": 2}])
@pytest.mark.parametrize("filled, falls", [(3, True), (2, False)])
def test_thresholds_beyond_all_reach_fall_on_sparse_maps_too(kind, options, filled, falls):
    """Of a map little may have fired; what counts is what one neuron sees, here 3 x 3 places of two features."""
    layer = snn.SpikingConvolution(2, 4, 3, 100.0, time_steps=T, **options)
    rule = kind(layer, thresholds=TargetTime(0.75, rate=2.0))
    times = torch.full((1, 2, 20, 20), T, dtype=torch.uint8)
    times[0, 0, 4 : 4 + filled, 8:10] = 0  # 6 of 18, or 4 of 18: with groups 6, or 4, of 9
    assert (rule.learn(times) == -1).all()
    fallen = falls or "groups" in options
    assert torch.equal(layer.threshold, torch.full((4,), 99.5 if fallen else 100.0))


def test_blank_patches_are_no_fault():
    """Though nobody answers to them."""
    _, trainer, report = fit(LESSON, 600)
    late = trainer.history[-20:]
    assert sum(row["silent"] for row in late) > 20 * 0.1
    assert sum(row["unanswered"] for row in late) < 20 * 0.1
    assert report.warnings == ()


def test_a_fall_and_a_rise_are_told():
    """Thresholds that start beyond all reach fall until somebody answers."""
    lesson = Unsupervised(
        **{**vars(LESSON), "thresholds": TargetTime(0.25, rate=0.05, floor=0.5), "schedule": Constant()}
    )
    with pytest.warns(TrainingWarning) as told:
        _, trainer, _ = fit(lesson, 600, network(threshold=12.0), on_silence="warn")
    assert "thresholds were beyond what the layer reaches, and fell again" in str(told[-1].message)
    assert trainer.history[0]["unanswered"] == 1
    assert trainer.history[-1]["unanswered"] < 0.2


class Tiring(NamedTuple):
    """Winners become harder to win with; there is no `rate` that could fade."""

    step: float = 0.125
    excess: bool = False

    def adapt(self, threshold, response):
        for k in range(len(response.winners)):
            threshold[response.winners[k, 0]] += self.step


def test_thresholds_of_ones_own():
    layer, trainer, _ = fit(replace(LESSON, thresholds=Tiring()))
    assert torch.equal(layer.threshold, 6 + trainer._wins[0] * 0.125)
    assert "code of thresholds" in Unsupervised(thresholds=Tiring()).identity()
    assert "code of thresholds" not in LESSON.identity()


class Halved(STDP):
    """Learns half as much."""

    def __init__(self, *args, share=0.5, **options):
        super().__init__(*args, **options)
        self.share = share

    def change(self, synapses):
        return self.share * super().change(synapses)


LOOPS, IN_TORCH = InLoops(), (WinnersInLoops(), WinnersGathered(), AllInTorch())


def learned(way, rule, times, kwta=1):
    """(winners, thresholds) after learning in one of the ways."""
    task = rule._task(times, kwta, 1)
    assert way.why_not(task) is None
    return way.learn(task), rule.conv_layer.threshold


def adapting(thresholds, steps=T, start=3.0, dtype=torch.float32, kind=STDP):
    """A rule whose weights stay."""
    layer = snn.SpikingConvolution(2, 5, 2, start, time_steps=steps)
    layer.load_weight(torch.randint(16, 48, layer.weight.shape, generator=torch.Generator().manual_seed(0)) / 64)
    return kind(layer.to(dtype), (0.0, 0.0), thresholds=thresholds)


@given(
    thresholds=st.builds(TargetTime, st.floats(0, 1), st.floats(0, 3), st.floats(0, 3)),
    steps=st.sampled_from([1, 5, 15, 64]),
    kwta=st.integers(1, 4),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 99),
)
def test_tensors_move_as_the_loops_do(thresholds, steps, kwta, dtype, seed):
    """To the bit: nobody, one or several win, more or less of what a neuron sees fired, and the floor holds."""
    pytest.importorskip("numba")
    draw = torch.Generator().manual_seed(seed)
    times = torch.randint(2 * steps, (12, 2, 6, 6), generator=draw).clamp(max=steps).to(torch.uint8)
    times[::4] = steps
    times[0, 0, 0, :2] = 0  # 2 of the 8 inputs of a neuron, a quarter
    times[4, 0, :2, :2] = torch.tensor([[0, 0], [0, steps]])
    found = [learned(way, adapting(thresholds, steps, 3.0, dtype), times, kwta) for way in (LOOPS, *IN_TORCH)]
    for winners, threshold in found[1:]:
        assert torch.equal(winners, found[0][0])
        assert torch.equal(threshold, found[0][1])


class Upwards(TargetTime):
    """What it inherits for tensors says nothing of its own `adapt`."""

    def adapt(self, threshold, response):
        threshold += 1


class UpwardsInTorch(Upwards):
    def adapt_in_torch(self, threshold, response):
        threshold.add_(1)


class Watching(STDP):
    """Its own `adapt` is given numpy arrays, wherever it learns."""

    def adapt(self, response):
        assert isinstance(response.winners, np.ndarray) and isinstance(response.heard, float)
        super().adapt(response)


@pytest.mark.parametrize("thresholds", [Upwards(), UpwardsInTorch(), Tiring()], ids=lambda made: type(made).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", [STDP, Watching])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_thresholds_of_ones_own_in_torch(thresholds, dtype, kind, elsewhere, monkeypatch):
    """Those of a subclass, and of a rule, are heard; on a device, which is waited for, too."""
    if elsewhere:
        monkeypatch.setattr(check, "free_to_read", lambda _: False)
    rule, times = adapting(thresholds, dtype=dtype, kind=kind), torch.randint(T, (7, 2, 5, 5), dtype=torch.uint8)
    winners, threshold = learned(IN_TORCH[-1], rule, times)
    raised = 0.125 * torch.bincount(winners.flatten(0, 1)[:, 0], minlength=5) if isinstance(thresholds, Tiring) else 7
    assert torch.equal(threshold, (3.0 + torch.ones(5) * raised).to(dtype))


class Otherwise(TargetTime):
    def adapt(self, threshold, response):
        super().adapt(threshold, response)

    def adapt_in_torch(self, threshold, response):
        super().adapt_in_torch(threshold, response._replace(heard=response.heard * 0))


class Looking(TargetTime):
    def adapt_in_torch(self, threshold, response):
        existing = response.winners[:, 0] >= 0
        self.adapt(threshold, Response(response.winners[existing], response.post_times[existing], *response[2:]))


@pytest.mark.parametrize(
    ("thresholds", "told"),
    [(Otherwise(), r"`adapt_in_torch` of Otherwise must do what its `adapt` does; with 0 winners, 0\.75 heard"),
     (Looking(), "`adapt_in_torch` of Looking must not look at the values of tensors")],
)  # fmt: skip
def test_forms_for_tensors_that_are_none_are_found(thresholds, told):
    with pytest.raises(AssertionError, match=told):
        testing.check_rule(lambda conv: STDP(conv, (0.25, -0.125), thresholds=thresholds))


def test_a_rule_of_ones_own():
    """By its class, and with settings of its own; its code tells a run from another."""
    rates, learned = (0.125, -0.125), []
    for plasticity, factor in ((None, 0.5), (Halved, 1), (partial(Halved, share=0.25), 2)):
        made = Unsupervised(rates=(rates[0] * factor, rates[1] * factor), schedule=Constant(), plasticity=plasticity)
        learned.append(fit(made)[0].weight)
        assert ("code of plasticity" in made.identity()) is (plasticity is not None)
    for weight in learned[1:]:
        torch.testing.assert_close(weight, learned[0])
    assert "code of plasticity" not in Unsupervised(plasticity=VDSP).identity()
    with pytest.raises(TypeError, match=r"`plasticity` must be None, or what makes a learning\.STDP"):
        Unsupervised(plasticity=lambda *args, **options: torch.nn.Identity()).rule(network().stages[0])


def test_steepness_is_short_for_the_multiplicative_rule():
    short, made = replace(LESSON, epochs=1), partial(MultiplicativeSTDP, steepness=1.0)
    same = replace(short, steepness=None, plasticity=made)
    assert torch.equal(fit(short)[0].weight, fit(same)[0].weight)


def test_settings_that_cannot_be():
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"thresholds": 0.75}, "`thresholds` must be None, or a NamedTuple"),
        ({"thresholds": TargetTime(2)}, r"`thresholds\.target` must be a share of all time steps, 0 to 1; got 2"),
        ({"homeostasis": 0.1}, "`homeostasis` must be 0 with `thresholds`"),
        ({"threshold": 4}, "`threshold` must be None with `thresholds`"),
        ({"answering": 0}, "`answering` must be a share above 0"),
        ({"steepness": "no"}, "`steepness`"),
        ({"plasticity": VDSP}, "`steepness` must be None with `plasticity`"),
        ({"steepness": None, "plasticity": "no"}, "`plasticity`"),
        ({"patches": "no"}, "`patches`"),
    ]
    for settings, told in wrong:
        with pytest.raises((ValueError, TypeError), match=told):
            replace(LESSON, **settings)
    with pytest.raises(ValueError, match=r"`answering` must be 1 without `thresholds` or `homeostasis`; got 0\.7"):
        Unsupervised(answering=0.7)
    with pytest.raises(ValueError, match="`thresholds` needs a layer with a threshold"):
        Trainer(network(threshold=None), [LESSON])
    with pytest.raises(ValueError, match="`to` must be above 0"):
        Decaying(0)


@pytest.mark.parametrize(
    ("thresholds", "told"),
    [
        (TargetTime(2), r"`thresholds\.target` must be a share of all time steps, 0 to 1; got 2"),
        (TargetTime(-0.1), r"`thresholds\.target` must be a share .*; got -0\.1"),
        (TargetTime(math.nan), r"`thresholds\.target` must be a finite number"),
        (TargetTime(rate=-1), r"`thresholds\.rate` must be 0 or more; got -1"),
        (TargetTime(rate=math.inf), r"`thresholds\.rate` must be a finite number"),
        (TargetTime(floor=-1), r"`thresholds\.floor` must be 0 or more; got -1"),
    ],
)
def test_target_times_that_cannot_be(thresholds, told):
    """Said where a rule or a lesson takes them, also later; both ends of the range can be."""
    layer = snn.SpikingConvolution(1, 1, 3, 1.0, time_steps=T)
    for take in (
        lambda given: STDP(layer, (0.1, -0.1), thresholds=given),
        lambda given: setattr(STDP(layer, (0.1, -0.1)), "thresholds", given),
        lambda given: Unsupervised(thresholds=given),
    ):
        with pytest.raises(ValueError, match=told):
            take(thresholds)
        for possible in (TargetTime(0, 0, 0), TargetTime(1)):
            take(possible)


def test_decaying_leaves_the_same_share_in_each_epoch():
    schedule = Decaying(0.85**30)
    for epoch in range(30):
        factor, other = schedule(Progress(epoch * 100, 3000))
        assert factor == other == pytest.approx(0.85**epoch)
        assert not math.isclose(factor, 1) or epoch == 0
