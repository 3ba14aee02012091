"""The contracts: what the project ships passes them, and each break is found."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spyketorch import encoding, latency, learning, snn, testing
from spyketorch.encoding import DoGKernel, FilterKernel, GaborKernel, Intensity2Latency


def fading(s):
    return torch.where(s.causal, s.ltp * torch.exp((s.pre_times - s.post_times) / 5), s.ltd)


RULES = {
    "stdp": lambda conv: snn.STDP(conv, (0.25, -0.125)),
    "without stabilizer": lambda conv: snn.STDP(conv, (0.25, -0.125), use_stabilizer=False),
    "narrow bounds": lambda conv: snn.STDP(conv, (0.25, -0.125), False, 0.25, 0.75),
    "one rate per feature": lambda conv: snn.STDP(conv, [(i / 64, -i / 64) for i in range(1, 7)]),
    "own timing": lambda conv: snn.STDP(conv, (0.25, -0.125), rate=fading),
    "own weight dependence": lambda conv: snn.STDP(conv, (0.1, -0.1), weight_dependence=lambda s: 1 - s.weight),
    "mask": lambda conv: snn.STDP(conv, (0.1, -0.1), modulation=lambda s: (s.weight > 0.5).to(s.weight)),
    "a number": lambda conv: snn.STDP(conv, (0.1, -0.1), modulation=lambda s: 0.5),
    "multiplicative": lambda conv: learning.MultiplicativeSTDP(conv, (0.25, -0.125)),
    "target time": lambda conv: learning.STDP(conv, (0.25, -0.125), thresholds=learning.TargetTime(0.5, 0.25, 1.0)),
    "noise of a type": lambda conv: snn.STDP(conv, (0.1, -0.1), modulation=lambda s: torch.rand_like(s.weight)),
    "noise": lambda conv: snn.STDP(conv, (0.1, -0.1), modulation=lambda s: torch.rand(s.weight.shape).to(s.weight)),
}


@pytest.mark.parametrize("rule", [pytest.param(rule, id=name) for name, rule in RULES.items()])
def test_rules(rule):
    testing.check_rule(rule)


def test_signed_weights():
    testing.check_rule(lambda conv: snn.STDP(conv, (0.25, -0.125), True, -1, 1), negative_weights=True)


class ForgetsBounds(learning.STDP):
    def _learn(self, *args):
        super()._learn(*args)
        self.conv_layer.weight.data += 1


class OtherTwin(learning.MultiplicativeSTDP):
    """Compiled it learns twice as fast as in torch."""

    def change(self, synapses):
        return super().change(synapses) / 2

    def compiled(self):
        return super().compiled()


class Forgetful(learning.STDP):
    """Has a state that it does not save."""

    def __init__(self, *args):
        super().__init__(*args)
        self.seen = 0

    def change(self, synapses):
        self.seen += 1
        return super().change(synapses) / self.seen


class TouchesAll(learning.STDP):
    def forward(self, *args, **kwargs):
        super().forward(*args, **kwargs)
        self.conv_layer.weight.data.mul_(0.5)


class SkipsSamples(learning.STDP):
    def _samples(self, *args):
        return super()._samples(*args)[:1]


class ChangesItsInput(learning.STDP):
    def forward(self, wave, *args, **kwargs):
        super().forward(wave, *args, **kwargs)
        wave.zero_()


class AnotherOnTimes(learning.STDP):
    def _learn_times(self, *args):
        super()._learn_times(*args)
        super()._learn_times(*args)


class SinglePrecision(learning.STDP):
    def double(self):
        return self


@pytest.mark.parametrize(
    ("rule", "message"),
    [(ForgetsBounds, "did not win|within"), (TouchesAll, "did not win"), (SkipsSamples, "one after the other"),
     (ChangesItsInput, "batch of one|argument"), (AnotherOnTimes, "`learn` on times"),
     (OtherTwin, "`learn` on times.* at a time"), (Forgetful, "a batch of one against"),
     (SinglePrecision, "float64|conv_layer.weight")],
)  # fmt: skip
def test_broken_rules_are_found(rule, message):
    with pytest.raises((AssertionError, TypeError), match=message):
        testing.check_rule(lambda conv: rule(conv, (0.25, -0.125)))


@pytest.mark.parametrize("kernel", [DoGKernel(3, 1 / 3, 2 / 3), DoGKernel(7, 2, 1), DoGKernel(4, 1, 2),
                                    GaborKernel(5, 22.5), GaborKernel(8, 135, 3)])  # fmt: skip
def test_kernels(kernel):
    testing.check_kernel(kernel)


class Kernel(FilterKernel):
    def __init__(self, make):
        super().__init__(3)
        self.make = make

    def __call__(self):
        return self.make()


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda: torch.rand(3, 3), "second call"), (lambda: torch.zeros(3, 3), "0 everywhere"),
     (lambda: torch.full((3, 3), torch.nan), "finite"), (lambda: torch.rand(3), "rows, columns"),
     (lambda: torch.ones(3, 3, dtype=torch.int64), "floating"), (lambda: [[1.0]], "rows, columns")],
)  # fmt: skip
def test_broken_kernels_are_found(make, message):
    with pytest.raises(AssertionError, match=message):
        testing.check_kernel(Kernel(make))


@given(seed=st.integers(0, 99), steps=st.integers(1, 20))
def test_encoders(seed, steps):
    images = testing.dyadic(3, 2, 5, 6, generator=torch.Generator().manual_seed(seed))
    testing.check_encoder(Intensity2Latency(steps, to_spike=True), images)
    ranks = Intensity2Latency(steps, to_spike=True)
    testing.check_encoder(torch.nn.Sequential(encoding.LocalNormalization(1), ranks), images)
    testing.check_encoder(torch.nn.Sequential(encoding.LateralIntencityInhibition([0.25]), ranks), images)
    retina = encoding.Filter([DoGKernel(3, 0.5, 1), DoGKernel(3, 1, 0.5)], padding=1, thresholds=0.25)
    testing.check_encoder(torch.nn.Sequential(retina, ranks), images[:, :1])


@given(seed=st.integers(0, 99), steps=st.sampled_from([1, 7, 254, 300]), radius=st.sampled_from([None, 2]))
def test_encoders_into_times(seed, steps, radius):
    images = testing.dyadic(3, 2, 5, 6, generator=torch.Generator().manual_seed(seed))
    waves = Intensity2Latency(steps, to_spike=True)
    testing.check_encoder(encoding.LatencyEncoder(torch.nn.Identity(), steps), images, waves=waves)
    retina = encoding.Filter([DoGKernel(5, 0.5, 1), DoGKernel(5, 1, 0.5)], padding=2, thresholds=0.25)
    testing.check_encoder(encoding.LatencyEncoder(retina, steps, radius), images[:, :1])
    for per_place in (False, True):
        linear = encoding.LinearLatency(retina, steps, per_place=per_place).fit(images[:, :1])
        testing.check_encoder(linear, images[:, :1], waves=lambda x, f=linear: latency.to_wave(f(x), steps))
        testing.check_encoder(torch.nn.Sequential(torch.nn.Identity(), linear), images[:, :1])


@pytest.mark.parametrize(
    ("encoder", "message"),
    [(Intensity2Latency(4), "zeros and ones"),
     (lambda x: torch.eye(4).view(1, 4, 4, 1, 1).expand(len(x), -1, -1, -1, -1) if x.ndim == 4 else x, "cumulative"),
     (lambda x: torch.ones(4, *x.shape[-3:]), "a batch must give"),
     (lambda x: torch.ones(*x.shape[:-3], 4, *x.shape[-3:]), "blank"),
     (lambda x: Intensity2Latency(4, to_spike=True)(x.mul_(0.5)), "after the call"),
     (lambda x: Intensity2Latency(4, to_spike=True)(x if x.ndim == 3 else x.flip(0)), "one image at a time")],
)  # fmt: skip
def test_broken_encoders_are_found(encoder, message):
    with pytest.raises(AssertionError, match=message):
        testing.check_encoder(encoder, torch.rand(3, 2, 4, 4))


class Times(torch.nn.Module):
    """First-spike times by value, with one thing wrong."""

    def __init__(self, wrong, steps=4, told=4):
        super().__init__()
        self.wrong, self.time_steps, self.steps, self.calls = wrong, told, steps, 0

    def forward(self, x):
        times = latency.linear(x, self.steps)
        self.calls += 1
        return self.wrong(self, x, times)


class Forgets(torch.nn.Module):
    """Its scale is in no state_dict."""

    time_steps, scale = 4, 1.0

    def fit(self, images):
        self.scale = float(images.max())

    def forward(self, x):
        return latency.linear((x / self.scale).clamp(max=1), 4)


BROKEN = {
    "beyond T": (Times(lambda self, x, t: t, told=3), r"within 0\.\.3; got 0 to 4"),
    "negative": (Times(lambda self, x, t: t.long() - 1), "within 0..4; got -1"),
    "a type that is too small": (Times(lambda self, x, t: t.to(torch.int8), 100, 200), "does not hold T = 200"),
    "floats": (Times(lambda self, x, t: t.float()), "of an integer type"),
    "no T": (lambda x: latency.linear(x, 4), "tell one `time_steps`; got none"),
    "another T within": (torch.nn.Sequential(Times(lambda self, x, t: x, told=5), Times(lambda self, x, t: t)), "4, 5"),
    "in place": (Times(lambda self, x, t: latency.linear(x.mul_(0.5), 4)), "after the call"),
    "a memory": (Times(lambda self, x, t: t if self.calls == 1 else t.flip(-1)), "second call"),
    "a batch of its own": (Times(lambda self, x, t: t if x.ndim == 3 else t.flip(0)), "one image at a time"),
    "spikes of nothing": (Times(lambda self, x, t: t.clamp(max=3)), "blank"),
    "a scale that is not saved": (Forgets(), "fitted to other images"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_times_are_found(broken):
    encoder, message = BROKEN[broken]
    images = torch.rand(3, 2, 4, 4)
    images[0, 0, 0] = 0
    with pytest.raises(AssertionError, match=message):
        testing.check_encoder(encoder, images)


def test_waves_beside_times_are_compared():
    images, encode = torch.rand(3, 2, 4, 4), encoding.LatencyEncoder(torch.nn.Identity(), 4)
    with pytest.raises(AssertionError, match="waves beside the times"):
        testing.check_encoder(encode, images, waves=Intensity2Latency(3, to_spike=True))
    with pytest.raises(AssertionError, match="stand beside times"):
        testing.check_encoder(Intensity2Latency(3, to_spike=True), images, waves=encode)


@given(seed=st.integers(0, 99), steps=st.integers(1, 9), silent=st.floats(0, 1))
def test_random_waves_are_waves(seed, steps, silent):
    draw = torch.Generator().manual_seed(seed)
    testing.assert_wave(testing.random_wave(2, steps, 3, 4, 4, silent=silent, generator=draw))


def test_random_waves_cover_silence_and_all_steps():
    times = testing.random_times(2000, time_steps=4, silent=0.3, generator=torch.Generator().manual_seed(0))
    share = torch.bincount(times, minlength=5) / 2000
    assert share[4] == pytest.approx(0.3, abs=0.05)
    assert share[:4].tolist() == pytest.approx([0.175] * 4, abs=0.04)


@pytest.mark.parametrize("name", ["rate", "weight_dependence", "modulation"])
@pytest.mark.parametrize(
    ("factor", "message"),
    [(lambda s: torch.zeros(3), "must return a number"), (lambda s: torch.zeros(2, 3, 1, 1), "fits"),
     (lambda s: None, "fits"), (lambda s: s.weight.numpy(), "fits"), (lambda s: [0.5], "fits"),
     (lambda s: s.weight.mul_(0.5), "`weight` of the synapses after"),
     (lambda s: s.ltp.neg_() * s.causal, "`ltp` of the synapses after")],
)  # fmt: skip
def test_broken_factors_are_found(name, factor, message):
    with pytest.raises(AssertionError, match=rf"`{name}`|{message}") as caught:
        testing.check_rule(lambda conv: snn.STDP(conv, (0.25, -0.125), **{name: factor}))
    assert name in str(caught.value) and message in str(caught.value)


@pytest.mark.parametrize(
    "call",
    [lambda: testing.check_rule(snn.STDP(snn.Convolution(3, 6, 3), (0.1, -0.1))), lambda: testing.check_rule(None),
     lambda: testing.check_rule(lambda conv: conv), lambda: testing.check_rule(lambda conv: None),
     lambda: testing.check_encoder(Intensity2Latency(4), torch.rand(3, 1, 4, 4).numpy()),
     lambda: testing.check_encoder(None, torch.rand(3, 1, 4, 4)), lambda: testing.check_kernel(torch.rand(3, 3))],
)  # fmt: skip
def test_what_is_no_argument_of_a_contract_is_refused(call):
    with pytest.raises(TypeError, match=r"`(make_rule|images|encoder|kernel)` must be"):
        call()
