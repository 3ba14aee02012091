"""NaN never teaches nor decides in silence, and settings of a rule are checked whenever they are assigned."""

import pytest
import torch
from strategies import same
from torch import nn
from torch.nn.parameter import Parameter

import spyketorch.functional as sf
from spyketorch import latency, learning, models, snn
from spyketorch.kernels import serving

NAN = float("nan")
STEPS = 5
RATES, ANTI = (1 / 4, -1 / 8), (-1 / 8, 1 / 16)

pytestmark = pytest.mark.filterwarnings("ignore::spyketorch.PerformanceWarning")


def made(kind=snn.SpikingConvolution, **options):
    torch.manual_seed(0)
    return kind(2, 4, 3, **({"threshold": 2.0, "time_steps": STEPS, **options} if kind is not snn.Convolution else {}))


def samples():
    return torch.randint(0, STEPS + 1, (6, 2, 7, 7), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def on_times(rule):
    return lambda: rule.learn(samples(), 2)


def rewarded(rule):
    return lambda: rule.learn(samples(), [0, 1] * 3, [0, 0, 1, 1])


def on_waves(rule):
    waves = latency.to_wave(samples(), STEPS)
    spikes, potentials = sf.fire(sf.convolution(waves, rule.conv_layer.weight), 2, True)
    return lambda: rule(waves, potentials, spikes, kwta=2)


def rewarded_on_waves(rule):
    waves = latency.to_wave(samples(), STEPS)
    spikes, potentials = sf.fire(sf.convolution(waves, rule.reward.conv_layer.weight), 2, True)
    return lambda: rule(waves, potentials, spikes, [1, -1] * 3)


def lose_rates(rule):
    for one in rule._pair():
        for pair in one.learning_rate:
            pair[0].fill_(NAN)


def lose_modulation(rule):
    for one in rule._pair():
        one.modulation = lambda s: (s.weight - s.weight) / 0


def rules(layer):
    yield learning.STDP(layer, RATES), on_times
    yield learning.STDP(layer, RATES, False), on_times
    yield learning.STDP(layer, RATES, rate=lambda s: torch.where(s.causal, s.ltp, s.ltd)), on_times
    yield learning.STDP(layer, RATES), on_waves
    yield learning.RSTDP(layer, RATES, ANTI), rewarded
    yield learning.RSTDP(layer, RATES, ANTI), rewarded_on_waves


@pytest.mark.parametrize("lose", [lose_rates, lose_modulation])
@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("loops", [True, False])
def test_no_weight_becomes_nan(lose, number, loops, monkeypatch):
    if not loops:
        monkeypatch.setattr(serving, "has_numba", lambda: False)
    layer = made()
    rule, way = list(rules(layer))[number]
    use = way(rule)
    use()
    before = layer.weight.clone()
    lose(rule)
    with pytest.raises(ValueError, match=r"`(learning_rate|rate)`"):
        use()
    same(layer.weight, before)


def lose_threshold(layer):
    layer.threshold.fill_(NAN)


def lose_weight(layer):
    layer.weight.data[0, 0, 0, 0] = NAN


@pytest.mark.parametrize("lose, name", [(lose_threshold, "threshold"), (lose_weight, "weight")])
@pytest.mark.parametrize("threshold", [2.0, [2.0] * 4, None])
@pytest.mark.parametrize("inhibit", [False, True])
def test_a_layer_with_nan_says_so(lose, name, threshold, inhibit):
    layer = made(threshold=threshold)
    if lose is lose_threshold and threshold is None:
        return
    rule, network = learning.STDP(layer, RATES), models.Network(nn.Identity(), [models.Stage(layer)], [0, 1, 2, 3])
    lose(layer)
    times = samples()
    uses = {
        "forward": lambda: layer(times),
        "respond": lambda: layer.respond(times),
        "winners": lambda: layer.winners(times, 2, pointwise_inhibition=inhibit),
        "learn": lambda: rule.learn(times, 2, pointwise_inhibition=inhibit),
        "decide": lambda: network(times),
    }
    for use in uses.values():
        with pytest.raises(ValueError, match=f"{name}`.*(NaN|finite)"):
            use()


def test_functions_of_times_say_that_a_weight_is_nan():
    layer = made()
    lose_weight(layer)
    for function in (latency.convolution_fire, latency.convolution_winners):
        with pytest.raises(ValueError, match="`weight`"):
            function(samples(), layer.weight, 2.0, time_steps=STEPS)


# settings of a rule


@pytest.mark.parametrize(
    "name, value, error",
    [
        ("upper_bound", -5.0, ValueError),
        ("lower_bound", 1, ValueError),
        ("lower_bound", NAN, ValueError),
        ("upper_bound", torch.full((4, 1, 1, 1), 0.9), TypeError),
        ("upper_bound", "1", TypeError),
        ("use_stabilizer", "no", TypeError),
        ("rate", None, TypeError),
        ("modulation", 0.5, TypeError),
        ("weight_dependence", torch.ones(1), TypeError),
        ("ltp_0", Parameter(torch.tensor([0.1, 0.2]), requires_grad=False), ValueError),
        ("ltd_3", 0.5, ValueError),
    ],
)
def test_what_a_rule_is_assigned_is_checked(name, value, error):
    rule = learning.STDP(made(), RATES)
    before = getattr(rule, name)
    with pytest.raises(error, match=f"`{name}`"):
        setattr(rule, name, value)
    assert getattr(rule, name) is before
    rule.learn(samples())


def test_rates_of_another_size_are_refused_where_they_are_used():
    for way, kind in ((on_times, snn.SpikingConvolution), (on_waves, snn.Convolution)):
        rule = learning.STDP(made(kind), RATES)
        use = way(rule)
        for pair in rule.learning_rate:
            pair[0].data = torch.tensor([0.1, 0.2])
        with pytest.raises(ValueError, match=r"`ltp_[0-3]` must be one number"):
            use()


def test_bounds_that_are_assigned_are_in_use():
    first, second = (made() for _ in range(2))
    rule = learning.STDP(first, RATES)
    setattr(rule, "upper_bound", torch.tensor(0.5))  # noqa: B010  a tensor of one number is taken, and kept as a number
    rule.lower_bound = 0.25
    rule.learn(samples(), 2)
    learning.STDP(second, RATES, lower_bound=0.25, upper_bound=0.5).learn(samples(), 2)
    same(first.weight, second.weight)
