"""Bad input gets one clear exception of the right type: the message names the argument, what came and what is accepted.

Each row of a table: id, call, exception, then regular expressions that must all be found in the message.
"""

import re

import numpy as np
import pytest
import torch

import spyketorch
from spyketorch import functional as sf
from spyketorch import snn, utils
from spyketorch import visualization as vis
from spyketorch.encoding import Chromaticity, LocalContrast, LocalNormalization
from spyketorch.latency import from_wave, rank_order

NAN = float("nan")
EITHER = (TypeError, ValueError)
RANK_WAVE = r"T, *C, *H, *W"  # a message that says which shapes are accepted
POSITIVE = r"at least 1|positive|>= *1|1 or more|greater than 0|above 0|> *0"
NOT_NEGATIVE = r"at least 0|non-?negative|not negative|>= *0|0 or more"
INTEGER = r"\bint(eger)?s?\b|whole"
FINITE = r"nan|NaN|finite"


def wave(*shape, dtype=torch.float32, device=None):
    """A spike wave that fires everywhere from the first step on."""
    return torch.ones(*shape, dtype=dtype, device=device)


def nan(*shape):
    return torch.full(shape, NAN)


def conv(**options):
    return snn.Convolution(2, 3, 3, **options)


def stdp(**options):
    return snn.STDP(conv(), **{"learning_rate": (0.004, -0.003), **options})


def rstdp(**options):
    return snn.RSTDP(conv(), **{"reward_rate": (0.004, -0.003), "punishment_rate": (-0.004, 0.0005), **options})


def learn(winners=None, rule=None, inputs=None, potentials=None, outputs=None, **options):
    """One STDP call on T = 4, a 2x6x6 input and a 3x4x4 output; an argument given replaces the good one."""
    inputs = wave(4, 2, 6, 6) if inputs is None else inputs
    outputs = wave(4, 3, 4, 4) if outputs is None else outputs
    return (rule or stdp())(inputs, outputs if potentials is None else potentials, outputs, winners, **options)


def reward(outcomes, *batch, winners=None):
    outputs = wave(*batch, 4, 3, 4, 4)
    return rstdp()(wave(*batch, 4, 2, 6, 6), outputs, outputs, outcomes, winners)


def table(*rows):
    cases = [pytest.param(call, exception, parts, id=name) for name, call, exception, *parts in rows]
    return pytest.mark.parametrize(("call", "exception", "parts"), cases)


def expect(call, exception, parts):
    with pytest.raises(exception) as caught:
        call()
    message = str(caught.value)
    for part in parts:
        assert re.search(part, message), f"{part!r} not found in: {message}"


# ---------------------------------------------------------------------------------------------- dense operations

# One good call per operation, given the wave; every one refuses the same bad waves.
WAVE_OPERATIONS = {
    "pad": ("input", lambda x: sf.pad(x, (1, 1, 1, 1))),
    "pooling": ("input", lambda x: sf.pooling(x, 1)),
    "Pooling": ("input", lambda x: snn.Pooling(1)(x)),
    "convolution": ("input", lambda x: sf.convolution(x, torch.ones(3, 2, 1, 1))),
    "Convolution": ("input", lambda x: snn.Convolution(2, 3, 1)(x)),
    "fire": ("potentials", lambda x: sf.fire(x, 1.0)),
    "fire_": ("potentials", lambda x: sf.fire_(x, 1.0)),
    "fire_last_step": ("potentials", lambda x: sf.fire(x)),
    "threshold": ("potentials", lambda x: sf.threshold(x, 1.0)),
    "threshold_": ("potentials", lambda x: sf.threshold_(x, 1.0)),
    "pointwise_inhibition": ("thresholded_potentials", lambda x: sf.pointwise_inhibition(x)),
    "feature_inhibition": ("potentials", lambda x: sf.feature_inhibition(x, [0])),
    "feature_inhibition_": ("potentials", lambda x: sf.feature_inhibition_(x, [0])),
    "get_k_winners": ("potentials", lambda x: sf.get_k_winners(x)),
    "k_winners": ("potentials", lambda x: sf.k_winners(x)),
}
BAD_WAVES = {
    "list": ([[1.0]], TypeError, (r"\blist\b", r"[Tt]ensor")),
    "array": (wave(3, 2, 4, 4).numpy(), TypeError, (r"ndarray", r"[Tt]ensor")),
    "rank_2": (wave(4, 5), ValueError, (r"4, 5", RANK_WAVE)),
    "rank_3": (wave(2, 4, 5), ValueError, (r"2, 4, 5", RANK_WAVE)),
    "rank_6": (wave(1, 1, 2, 2, 3, 5), ValueError, (r"1, 1, 2, 2, 3, 5", RANK_WAVE)),
    "no_time_steps": (wave(0, 2, 4, 5), ValueError, (r"0, 2, 4, 5",)),
    "no_rows": (wave(3, 2, 0, 5), ValueError, (r"3, 2, 0, 5",)),
    "no_samples": (wave(0, 3, 2, 4, 5), ValueError, (r"0, 3, 2, 4, 5",)),
}


@pytest.mark.parametrize("bad", BAD_WAVES)
@pytest.mark.parametrize("operation", WAVE_OPERATIONS)
def test_bad_wave(operation, bad):
    name, call = WAVE_OPERATIONS[operation]
    value, exception, parts = BAD_WAVES[bad]
    expect(lambda: call(value), exception, (rf"\b{name}\b", *parts))


@table(
    (
        "pad_length",
        lambda: sf.pad(wave(3, 2, 4, 4), (1, 2, 3)),
        ValueError,
        r"\bpad\b",
        r"1, 2, 3",
        r"left.*right.*top.*bottom|four|4",
    ),
    ("pad_not_integer", lambda: sf.pad(wave(3, 2, 4, 4), (1, 1, 1, 1.5)), TypeError, r"\bpad\b", r"1\.5", INTEGER),
    ("pad_text", lambda: sf.pad(wave(3, 2, 4, 4), "same"), EITHER, r"\bpad\b", r"same|'s'|str"),
    ("pooling_kernel_zero", lambda: sf.pooling(wave(3, 2, 4, 4), 0), ValueError, r"kernel_size", r"\b0\b", POSITIVE),
    (
        "pooling_kernel_negative",
        lambda: sf.pooling(wave(3, 2, 4, 4), (2, -2)),
        ValueError,
        r"kernel_size",
        r"-2",
        POSITIVE,
    ),
    (
        "pooling_kernel_not_integer",
        lambda: sf.pooling(wave(3, 2, 4, 4), 1.5),
        TypeError,
        r"kernel_size",
        r"1\.5",
        INTEGER,
    ),
    (
        "pooling_kernel_triple",
        lambda: sf.pooling(wave(3, 2, 4, 4), (2, 2, 2)),
        ValueError,
        r"kernel_size",
        r"2, 2, 2",
        r"pair|two",
    ),
    (
        "pooling_kernel_too_large",
        lambda: sf.pooling(wave(3, 2, 4, 5), 6),
        ValueError,
        r"kernel",
        r"\b6\b",
        r"4, 5|4 *x *5|4 by 5",
    ),
    ("pooling_stride_zero", lambda: sf.pooling(wave(3, 2, 4, 4), 2, 0), ValueError, r"stride", r"\b0\b", POSITIVE),
    ("pooling_padding_negative", lambda: sf.pooling(wave(3, 2, 4, 4), 2, 2, -1), ValueError, r"padding", r"-1"),
    ("pooling_padding_large", lambda: sf.pooling(wave(3, 2, 4, 4), 2, 2, 2), ValueError, r"padding", r"\b2\b", r"half"),
    (
        "conv_channels",
        lambda: sf.convolution(wave(3, 5, 4, 4), torch.ones(3, 2, 3, 3)),
        ValueError,
        r"input",
        r"\b5\b",
        r"\b2\b",
    ),
    (
        "conv_dtype",
        lambda: sf.convolution(wave(3, 2, 4, 4, dtype=torch.float64), torch.ones(3, 2, 3, 3)),
        TypeError,
        r"input",
        r"float64",
        r"float32",
    ),
    (
        "conv_device",
        lambda: sf.convolution(wave(3, 2, 4, 4, device="meta"), torch.ones(3, 2, 3, 3)),
        ValueError,
        r"input",
        r"meta",
        r"cpu",
    ),
    (
        "conv_kernel_too_large",
        lambda: sf.convolution(wave(3, 2, 4, 5), torch.ones(3, 2, 5, 5)),
        ValueError,
        r"kernel|weight",
        r"5, 5|5 *x *5",
        r"4, 5|4 *x *5",
    ),
    (
        "conv_weight_rank",
        lambda: sf.convolution(wave(3, 2, 4, 4), torch.ones(2, 3, 3)),
        ValueError,
        r"weight",
        r"2, 3, 3",
    ),
    ("conv_weight_list", lambda: sf.convolution(wave(3, 2, 4, 4), [[1.0]]), TypeError, r"weight", r"\blist\b"),
    (
        "conv_stride_zero",
        lambda: sf.convolution(wave(3, 2, 4, 4), torch.ones(3, 2, 3, 3), stride=0),
        ValueError,
        r"stride",
        r"\b0\b",
        POSITIVE,
    ),
    (
        "conv_padding_negative",
        lambda: sf.convolution(wave(3, 2, 4, 4), torch.ones(3, 2, 3, 3), padding=-1),
        ValueError,
        r"padding",
        r"-1",
        NOT_NEGATIVE,
    ),
    (
        "conv_dilation_zero",
        lambda: sf.convolution(wave(3, 2, 4, 4), torch.ones(3, 2, 3, 3), dilation=0),
        ValueError,
        r"dilation",
        r"\b0\b",
        POSITIVE,
    ),
    (
        "conv_groups_zero",
        lambda: sf.convolution(wave(3, 2, 4, 4), torch.ones(3, 2, 3, 3), groups=0),
        ValueError,
        r"groups",
        r"\b0\b",
        POSITIVE,
    ),
    (
        "conv_groups_divide",
        lambda: sf.convolution(wave(3, 2, 4, 4), torch.ones(3, 1, 3, 3), groups=2),
        ValueError,
        r"groups",
        r"\b2\b",
        r"\b3\b",
    ),
    ("fire_threshold_nan", lambda: sf.fire(wave(3, 2, 4, 4), NAN), ValueError, r"threshold", FINITE),
    (
        "fire_threshold_nan_tensor",
        lambda: sf.fire(wave(3, 2, 4, 4), torch.tensor([1.0, NAN])),
        ValueError,
        r"threshold",
        FINITE,
    ),
    ("fire_threshold_text", lambda: sf.fire(wave(3, 2, 4, 4), "high"), TypeError, r"threshold", r"str|high", r"number"),
    (
        "fire_threshold_length",
        lambda: sf.fire(wave(3, 2, 4, 4), torch.ones(5)),
        ValueError,
        r"threshold",
        r"\b5\b",
        r"\b2\b",
    ),
    (
        "fire_threshold_device",
        lambda: sf.fire(wave(3, 2, 4, 4), torch.ones(2, device="meta")),
        ValueError,
        r"threshold",
        r"meta",
        r"cpu",
    ),
    ("fire__threshold_nan", lambda: sf.fire_(wave(3, 2, 4, 4), NAN), ValueError, r"threshold", FINITE),
    ("threshold_nan", lambda: sf.threshold(wave(3, 2, 4, 4), NAN), ValueError, r"threshold", FINITE),
    ("threshold__nan", lambda: sf.threshold_(wave(3, 2, 4, 4), NAN), ValueError, r"threshold", FINITE),
    (
        "inhibited_too_high",
        lambda: sf.feature_inhibition(wave(3, 2, 4, 4), [0, 2]),
        IndexError,
        r"inhibited_features",
        r"\b2\b",
        r"0.*1|< *2|2 features",
    ),
    (
        "inhibited_too_low",
        lambda: sf.feature_inhibition_(wave(3, 2, 4, 4), [-5]),
        IndexError,
        r"inhibited_features",
        r"-5",
    ),
    (
        "inhibited_tensor",
        lambda: sf.feature_inhibition(wave(3, 2, 4, 4), torch.tensor([7])),
        IndexError,
        r"inhibited_features",
        r"\b7\b",
    ),
    (
        "inhibited_float",
        lambda: sf.feature_inhibition(wave(3, 2, 4, 4), [0.5]),
        TypeError,
        r"inhibited_features",
        r"float|0\.5",
        INTEGER + "|indices",
    ),
    (
        "inhibited_mask_length",
        lambda: sf.feature_inhibition(wave(3, 2, 4, 4), torch.ones(3, dtype=torch.bool)),
        (TypeError, ValueError, IndexError),
        r"inhibited_features",
        r"\b3\b",
        r"\b2\b",
    ),
    (
        "inhibited_batch_length",
        lambda: sf.feature_inhibition(wave(2, 3, 2, 4, 4), [[0], [1], []]),
        ValueError,
        r"inhibited_features",
        r"\b3\b|\[\[0\], \[1\], \[\]\]",
        r"\b2\b",
    ),
    (
        "inhibited_in_second_sample",
        lambda: sf.feature_inhibition(wave(2, 3, 2, 4, 4), [[0], [4]]),
        IndexError,
        r"inhibited_features",
        r"\b4\b",
    ),
)
def test_dense_operations(call, exception, parts):
    expect(call, exception, parts)


@pytest.mark.parametrize("function", [sf.get_k_winners, sf.k_winners])
@pytest.mark.parametrize(
    ("options", "exception", "parts"),
    [
        ({"kwta": 0}, ValueError, (r"kwta", r"\b0\b", POSITIVE)),
        ({"kwta": -2}, ValueError, (r"kwta", r"-2", POSITIVE)),
        ({"kwta": 1.5}, TypeError, (r"kwta", r"1\.5", INTEGER)),
        ({"kwta": None}, TypeError, (r"kwta", r"None", INTEGER)),
        ({"inhibition_radius": -1}, ValueError, (r"inhibition_radius", r"-1", NOT_NEGATIVE)),
        ({"inhibition_radius": 0.5}, TypeError, (r"inhibition_radius", r"0\.5", INTEGER)),
        ({"spikes": [1]}, TypeError, (r"spikes", r"\blist\b", r"[Tt]ensor")),
        ({"spikes": wave(3, 2, 4, 5)}, ValueError, (r"spikes", r"3, 2, 4, 5", r"3, 2, 4, 4")),
        ({"spikes": wave(3, 2, 4, 4, device="meta")}, ValueError, (r"spikes", r"meta", r"cpu")),
    ],
    ids=lambda value: next(iter(value)) + "_" + str(next(iter(value.values())))[:9] if isinstance(value, dict) else "",
)
def test_winners(function, options, exception, parts):
    expect(lambda: function(wave(3, 2, 4, 4), **options), exception, parts)


@table(
    ("nan", lambda: sf.get_k_winners(nan(3, 2, 4, 4)), ValueError, r"potentials", FINITE),
    (
        "one_nan",
        lambda: sf.get_k_winners(wave(3, 2, 4, 4).index_fill(0, torch.tensor(2), NAN), 2),
        ValueError,
        r"potentials",
        FINITE,
    ),
    (
        "nan_with_spikes",
        lambda: sf.get_k_winners(nan(2, 3, 2, 4, 4), 1, 0, wave(2, 3, 2, 4, 4)),
        ValueError,
        r"potentials",
        FINITE,
    ),
)
def test_winners_of_nan(call, exception, parts):
    expect(call, exception, parts)


def test_in_place_operations_leave_the_tensor_when_they_refuse():
    for call in (
        lambda x: sf.fire_(x, NAN),
        lambda x: sf.threshold_(x, torch.ones(5)),
        lambda x: sf.feature_inhibition_(x, [0, 9]),
    ):
        potentials = wave(3, 2, 4, 4)
        with pytest.raises((ValueError, IndexError)):
            call(potentials)
        assert torch.equal(potentials, wave(3, 2, 4, 4))


# -------------------------------------------------------------------------------------------------------- layers


@table(
    ("in_channels_zero", lambda: snn.Convolution(0, 3, 3), ValueError, r"in_channels", r"\b0\b", POSITIVE),
    ("out_channels_negative", lambda: snn.Convolution(2, -3, 3), ValueError, r"out_channels", r"-3", POSITIVE),
    ("in_channels_float", lambda: snn.Convolution(2.0, 3, 3), TypeError, r"in_channels", r"2\.0", INTEGER),
    ("kernel_zero", lambda: snn.Convolution(2, 3, 0), ValueError, r"kernel_size", r"\b0\b", POSITIVE),
    ("kernel_triple", lambda: snn.Convolution(2, 3, (3, 3, 3)), ValueError, r"kernel_size", r"3, 3, 3", r"pair|two"),
    ("kernel_text", lambda: snn.Convolution(2, 3, "3"), TypeError, r"kernel_size", r"3", INTEGER),
    ("mean_nan", lambda: conv(weight_mean=NAN), ValueError, r"weight_mean", FINITE),
    ("std_negative", lambda: conv(weight_std=-0.1), ValueError, r"weight_std", r"-0\.1", NOT_NEGATIVE),
    ("std_nan", lambda: conv().reset_weight(0.8, NAN), ValueError, r"weight_std", FINITE),
    ("reset_std_negative", lambda: conv().reset_weight(weight_std=-1), ValueError, r"weight_std", r"-1", NOT_NEGATIVE),
    ("stride_zero", lambda: conv(stride=(1, 0)), ValueError, r"stride", r"\b0\b", POSITIVE),
    ("stride_float", lambda: conv(stride=1.5), TypeError, r"stride", r"1\.5", INTEGER),
    ("padding_negative", lambda: conv(padding=-1), ValueError, r"padding", r"-1", NOT_NEGATIVE),
    ("dilation_zero", lambda: conv(dilation=0), ValueError, r"dilation", r"\b0\b", POSITIVE),
    ("groups_zero", lambda: conv(groups=0), ValueError, r"groups", r"\b0\b", POSITIVE),
    (
        "groups_in",
        lambda: snn.Convolution(3, 4, 3, groups=2),
        ValueError,
        r"groups",
        r"\b2\b",
        r"in_channels",
        r"\b3\b",
    ),
    (
        "groups_out",
        lambda: snn.Convolution(4, 3, 3, groups=2),
        ValueError,
        r"groups",
        r"\b2\b",
        r"out_channels|output features",
        r"\b3\b",
    ),
    ("wave_channels", lambda: conv()(wave(4, 5, 6, 6)), ValueError, r"input", r"\b5\b", r"\b2\b"),
    (
        "wave_channels_batched",
        lambda: conv()(wave(2, 4, 5, 6, 6)),
        ValueError,
        r"input",
        r"2, 4, 5, 6, 6|\b5\b",
        r"\b2\b",
    ),
    (
        "wave_float64",
        lambda: conv()(wave(4, 2, 6, 6, dtype=torch.float64)),
        TypeError,
        r"input",
        r"float64",
        r"float32",
    ),
    (
        "wave_float16",
        lambda: conv()(wave(4, 2, 6, 6, dtype=torch.float16)),
        TypeError,
        r"input",
        r"float16",
        r"float32",
    ),
    (
        "double_layer_float32_wave",
        lambda: conv().double()(wave(4, 2, 6, 6)),
        TypeError,
        r"input",
        r"float32",
        r"float64",
    ),
    ("wave_elsewhere", lambda: conv()(wave(4, 2, 6, 6, device="meta")), ValueError, r"input", r"meta", r"cpu"),
    ("layer_elsewhere", lambda: conv().to("meta")(wave(4, 2, 6, 6)), ValueError, r"input", r"cpu", r"meta"),
    ("kernel_too_large", lambda: conv()(wave(4, 2, 2, 6)), ValueError, r"kernel", r"3, 3|3 *x *3", r"2, 6|2 *x *6"),
    (
        "dilated_kernel_too_large",
        lambda: conv(dilation=3)(wave(4, 2, 6, 6)),
        ValueError,
        r"kernel",
        r"6, 6|6 *x *6",
        r"dilation|7",
    ),
    ("output_size_small", lambda: conv().output_size(2, 2), ValueError, r"kernel|height", r"\b2\b", r"\b3\b"),
    ("output_size_zero", lambda: conv(padding=2).output_size(0, 4), ValueError, r"height", r"\b0\b"),
    (
        "load_shape",
        lambda: conv().load_weight(torch.ones(3, 2, 5, 5)),
        ValueError,
        r"target",
        r"3, 2, 5, 5",
        r"3, 2, 3, 3",
    ),
    (
        "load_broadcastable",
        lambda: conv().load_weight(torch.ones(1, 1, 1, 1)),
        ValueError,
        r"target",
        r"1, 1, 1, 1",
        r"3, 2, 3, 3",
    ),
    ("load_nan", lambda: conv().load_weight(nan(3, 2, 3, 3)), ValueError, r"target", FINITE),
    ("load_list", lambda: conv().load_weight([1.0]), TypeError, r"target", r"\blist\b", r"[Tt]ensor"),
    ("pool_zero", lambda: snn.Pooling(0), ValueError, r"kernel_size", r"\b0\b", POSITIVE),
    ("pool_float", lambda: snn.Pooling(2.5), TypeError, r"kernel_size", r"2\.5", INTEGER),
    ("pool_stride", lambda: snn.Pooling(2, -1), ValueError, r"stride", r"-1", POSITIVE),
    ("pool_padding_negative", lambda: snn.Pooling(2, 2, -1), ValueError, r"padding", r"-1", r"0"),
    ("pool_padding_large", lambda: snn.Pooling(2, 2, 2)(wave(4, 2, 3, 4)), ValueError, r"padding", r"\b2\b", r"half"),
    ("pool_too_large", lambda: snn.Pooling(5)(wave(4, 2, 3, 4)), ValueError, r"kernel", r"\b5\b", r"3, 4|3 *x *4"),
)
def test_layers(call, exception, parts):
    expect(call, exception, parts)


def test_load_weight_keeps_the_weight_it_had_when_it_refuses():
    layer = conv()
    before = layer.weight.clone()
    for bad in (nan(3, 2, 3, 3), torch.ones(2, 2, 3, 3)):
        with pytest.raises(ValueError, match="target"):
            layer.load_weight(bad)
        assert torch.equal(layer.weight, before)


def test_checkpoint_of_another_shape_names_the_key():
    net = torch.nn.ModuleDict({"conv1": conv()})
    net["stdp1"] = snn.STDP(net["conv1"], (0.004, -0.003))
    state = {**net.state_dict(), "conv1.weight": torch.ones(3, 2, 5, 5)}
    expect(lambda: net.load_state_dict(state), RuntimeError, (r"conv1\.weight", r"3, 2, 5, 5", r"3, 2, 3, 3"))
    state = {**net.state_dict(), "stdp1.ltp_1": torch.ones(2)}
    expect(lambda: net.load_state_dict(state), RuntimeError, (r"stdp1\.ltp_1", r"\b2\b"))
    fewer = {key: value for key, value in net.state_dict().items() if key != "stdp1.ltd_2"}
    expect(lambda: net.load_state_dict(fewer), RuntimeError, (r"stdp1\.ltd_2",))
    more = {**net.state_dict(), "stdp1.ltp_3": torch.ones(1)}
    expect(lambda: net.load_state_dict(more), RuntimeError, (r"stdp1\.ltp_3",))


# ------------------------------------------------------------------------------------------------------ learning


@table(
    ("conv_layer_none", lambda: snn.STDP(None, (0.1, -0.1)), TypeError, r"conv_layer", r"None", r"Convolution"),
    (
        "conv_layer_linear",
        lambda: snn.STDP(torch.nn.Linear(2, 3), (0.1, -0.1)),
        TypeError,
        r"conv_layer",
        r"Linear",
        r"Convolution",
    ),
    (
        "rates_two_of_three",
        lambda: stdp(learning_rate=[(0.1, -0.1)] * 2),
        ValueError,
        r"learning_rate",
        r"(\(0\.1, -0\.1\)(, )?){2}",
        r"\b3\b",
    ),
    (
        "rates_four_of_three",
        lambda: stdp(learning_rate=[(0.1, -0.1)] * 4),
        ValueError,
        r"learning_rate",
        r"(\(0\.1, -0\.1\)(, )?){4}",
        r"\b3\b",
    ),
    ("rates_empty", lambda: stdp(learning_rate=[]), ValueError, r"learning_rate", r"\[\]|\b0\b"),
    ("rates_triple", lambda: stdp(learning_rate=(0.1, 0.2, 0.3)), EITHER, r"learning_rate", r"0\.1|\b3\b", r"pair"),
    (
        "rates_list_of_triples",
        lambda: stdp(learning_rate=[(0.1, 0.2, 0.3)] * 3),
        ValueError,
        r"learning_rate",
        r"0\.1, 0\.2, 0\.3",
        r"pair",
    ),
    ("rates_number", lambda: stdp(learning_rate=0.1), EITHER, r"learning_rate", r"0\.1", r"pair"),
    ("rates_text", lambda: stdp(learning_rate=("a", "b")), EITHER, r"learning_rate", r"\ba\b|str", r"number|pair"),
    ("rates_nan", lambda: stdp(learning_rate=(NAN, -0.1)), ValueError, r"learning_rate", FINITE),
    (
        "rates_infinite",
        lambda: stdp(learning_rate=[(0.1, -0.1), (0.1, float("inf")), (0.1, -0.1)]),
        ValueError,
        r"learning_rate",
        r"inf",
    ),
    (
        "bounds_order",
        lambda: stdp(lower_bound=0.8, upper_bound=0.2),
        ValueError,
        r"lower_bound",
        r"0\.8",
        r"upper_bound",
        r"0\.2",
    ),
    ("bounds_nan", lambda: stdp(upper_bound=NAN), ValueError, r"upper_bound", FINITE),
    ("bounds_text", lambda: stdp(lower_bound="0"), TypeError, r"lower_bound", r"str|'0'", r"number"),
    ("rate_not_callable", lambda: stdp(rate=0.1), TypeError, r"\brate\b", r"0\.1|float", r"callable|function"),
    (
        "dependence_not_callable",
        lambda: stdp(weight_dependence=1),
        TypeError,
        r"weight_dependence",
        r"\b1\b|int",
        r"callable|function",
    ),
    (
        "modulation_not_callable",
        lambda: stdp(modulation=1),
        TypeError,
        r"modulation",
        r"\b1\b|int",
        r"callable|function",
    ),
    (
        "update_feature",
        lambda: stdp().update_learning_rate(3, 0.1, -0.1),
        IndexError,
        r"feature",
        r"\b3\b",
        r"0.*2|< *3|3 features",
    ),
    (
        "update_feature_float",
        lambda: stdp().update_learning_rate(1.5, 0.1, -0.1),
        TypeError,
        r"feature",
        r"1\.5",
        INTEGER,
    ),
    ("update_nan", lambda: stdp().update_learning_rate(0, 0.1, NAN), ValueError, r"\ban\b", FINITE),
    ("update_all_nan", lambda: stdp().update_all_learning_rate(NAN, 0.1), ValueError, r"\bap\b", FINITE),
    (
        "update_all_text",
        lambda: stdp().update_all_learning_rate("0.1", 0.1),
        TypeError,
        r"\bap\b",
        r"str|0\.1",
        r"number",
    ),
    (
        "reward_length",
        lambda: rstdp(reward_rate=[(0.1, -0.1)] * 2),
        ValueError,
        r"reward_rate|learning_rate",
        r"(\(0\.1, -0\.1\)(, )?){2}",
        r"\b3\b",
    ),
    (
        "punishment_length",
        lambda: rstdp(punishment_rate=[(0.1, -0.1)] * 4),
        ValueError,
        r"punishment_rate|learning_rate",
        r"(\(0\.1, -0\.1\)(, )?){4}",
        r"\b3\b",
    ),
    ("reward_nan", lambda: rstdp(reward_rate=(NAN, 0.1)), ValueError, r"reward_rate|learning_rate", FINITE),
    (
        "rstdp_judge",
        lambda: rstdp().online(wave(1, 4, 2, 6, 6), lambda x: (wave(4, 3, 4, 4),) * 2, 3),
        TypeError,
        r"judge",
        r"\b3\b|int",
        r"callable|function",
    ),
    ("rstdp_bounds", lambda: rstdp(lower_bound=1, upper_bound=0), ValueError, r"lower_bound", r"upper_bound"),
    (
        "rstdp_conv_layer",
        lambda: snn.RSTDP(3, (0.1, 0.1), (0.1, 0.1)),
        TypeError,
        r"conv_layer",
        r"3|int",
        r"Convolution",
    ),
)
def test_rules(call, exception, parts):
    expect(call, exception, parts)


@table(
    ("feature_too_high", lambda r: learn([(3, 0, 0)], r), IndexError, r"winner", r"\b3\b"),
    ("row_too_high", lambda r: learn([(0, 4, 0)], r), IndexError, r"winner", r"\b4\b"),
    ("column_too_high", lambda r: learn([(0, 0, 4)], r), IndexError, r"winner", r"\b4\b"),
    ("row_negative", lambda r: learn([(0, -1, 2)], r), IndexError, r"winner", r"-1"),
    ("tensor_out_of_range", lambda r: learn(torch.tensor([[9, 0, 0]]), r), IndexError, r"winner", r"\b9\b"),
    ("winner_pairs", lambda r: learn([(1, 2)], r), EITHER, r"winners", r"1, 2", r"feature, *row, *column|three|3"),
    ("winner_float", lambda r: learn([(1.5, 0, 0)], r), TypeError, r"winners", r"1\.5|float", INTEGER),
    ("winner_float_tensor", lambda r: learn(torch.zeros(1, 3), r), TypeError, r"winners", r"float32", INTEGER),
    ("winners_text", lambda r: learn("abc", r), EITHER, r"winners", r"abc|str"),
    (
        "winners_tensor_shape",
        lambda r: learn(torch.zeros(2, 4, dtype=torch.int64), r),
        ValueError,
        r"winners",
        r"2, 4",
        r"3",
    ),
    (
        "winners_batch_length",
        lambda r: learn([[], []], r, wave(3, 4, 2, 6, 6), outputs=wave(3, 4, 3, 4, 4)),
        ValueError,
        r"winners",
        r"\b2\b|\[\[\], \[\]\]",
        r"\b3\b",
    ),
    (
        "winners_in_second_sample",
        lambda r: learn([[(0, 0, 0)], [(0, 0, 5)]], r, wave(2, 4, 2, 6, 6), outputs=wave(2, 4, 3, 4, 4)),
        IndexError,
        r"winner",
        r"\b5\b",
    ),
    ("input_list", lambda r: learn(None, r, [[1]]), TypeError, r"input_spikes", r"\blist\b", r"[Tt]ensor"),
    ("input_rank", lambda r: learn(None, r, wave(2, 6, 6)), ValueError, r"input_spikes", r"2, 6, 6", RANK_WAVE),
    ("input_no_time", lambda r: learn(None, r, wave(0, 2, 6, 6)), ValueError, r"input_spikes", r"0, 2, 6, 6"),
    ("input_channels", lambda r: learn(None, r, wave(4, 5, 6, 6)), ValueError, r"input_spikes", r"\b5\b", r"\b2\b"),
    (
        "input_elsewhere",
        lambda r: learn(None, r, wave(4, 2, 6, 6, device="meta")),
        ValueError,
        r"input_spikes",
        r"meta",
        r"cpu",
    ),
    (
        "batched_and_not",
        lambda r: learn(None, r, wave(2, 4, 2, 6, 6)),
        ValueError,
        r"input_spikes",
        r"output_spikes",
        r"2, 4, 2, 6, 6",
        r"4, 3, 4, 4",
    ),
    (
        "batches_differ",
        lambda r: learn(None, r, wave(2, 4, 2, 6, 6), outputs=wave(3, 4, 3, 4, 4)),
        ValueError,
        r"input_spikes",
        r"output_spikes",
        r"\b2\b",
        r"\b3\b",
    ),
    (
        "output_features",
        lambda r: learn(None, r, outputs=wave(4, 5, 4, 4)),
        ValueError,
        r"output_spikes",
        r"\b5\b",
        r"\b3\b",
    ),
    (
        "output_larger_than_its_input",
        lambda r: learn([(0, 4, 4)], r, outputs=wave(4, 3, 5, 5)),
        (IndexError, ValueError),
        r"winners|output_spikes",
        r"4, 4",
        r"\b(6|5), (6|5)",
    ),
    (
        "output_list",
        lambda r: learn([], r, outputs=[1], potentials=wave(4, 3, 4, 4)),
        TypeError,
        r"output_spikes",
        r"\blist\b",
    ),
    (
        "potentials_shape",
        lambda r: learn(None, r, potentials=wave(4, 3, 3, 4)),
        ValueError,
        r"potentials",
        r"4, 3, 3, 4",
        r"4, 3, 4, 4",
    ),
    ("potentials_list", lambda r: learn(None, r, potentials=[1]), TypeError, r"potentials", r"\blist\b"),
    ("potentials_nan", lambda r: learn(None, r, potentials=nan(4, 3, 4, 4)), ValueError, r"potentials", FINITE),
    ("kwta", lambda r: learn(None, r, kwta=0), ValueError, r"kwta", r"\b0\b", POSITIVE),
    ("radius", lambda r: learn(None, r, inhibition_radius=-2), ValueError, r"inhibition_radius", r"-2", NOT_NEGATIVE),
)
def test_a_refused_update_leaves_the_weight(call, exception, parts):
    rule = stdp()
    before = rule.conv_layer.weight.clone()
    expect(lambda: call(rule), exception, parts)
    assert torch.equal(rule.conv_layer.weight, before)


@table(
    (
        "winner",
        lambda: stdp().get_pre_post_ordering(wave(4, 2, 6, 6), wave(4, 3, 4, 4), [(7, 0, 0)]),
        IndexError,
        r"winner",
        r"\b7\b",
    ),
    (
        "channels",
        lambda: stdp().get_pre_post_ordering(wave(4, 5, 6, 6), wave(4, 3, 4, 4), [(0, 0, 0)]),
        ValueError,
        r"input_spikes",
        r"\b5\b",
        r"\b2\b",
    ),
    (
        "rank",
        lambda: stdp().get_pre_post_ordering(wave(6, 6), wave(4, 3, 4, 4), [(0, 0, 0)]),
        ValueError,
        r"input_spikes",
        r"6, 6",
        RANK_WAVE,
    ),
    (
        "online_respond",
        lambda: stdp().online(wave(2, 4, 2, 6, 6), None),
        TypeError,
        r"respond",
        r"None",
        r"callable|function",
    ),
    (
        "online_one_sample",
        lambda: stdp().online(wave(4, 2, 6, 6), lambda x: (x, x)),
        ValueError,
        r"input_spikes",
        r"4, 2, 6, 6",
        r"N, *T, *C, *H, *W",
    ),
    (
        "online_kwta",
        lambda: stdp().online(wave(2, 4, 2, 6, 6), lambda x: (wave(4, 3, 4, 4),) * 2, 0),
        ValueError,
        r"kwta",
        r"\b0\b",
        POSITIVE,
    ),
    (
        "online_answer",
        lambda: stdp().online(wave(2, 4, 2, 6, 6), lambda x: None),
        TypeError,
        r"respond",
        r"None",
        r"potentials.*output_spikes",
    ),
    (
        "minibatch_respond",
        lambda: stdp().minibatch(wave(2, 4, 2, 6, 6), 3),
        TypeError,
        r"respond",
        r"3|int",
        r"callable|function",
    ),
    (
        "minibatch_one_sample",
        lambda: stdp().minibatch(wave(4, 2, 6, 6), lambda x: (x, x)),
        ValueError,
        r"input_spikes",
        r"4, 2, 6, 6",
        r"N, *T, *C, *H, *W",
    ),
    (
        "minibatch_answer",
        lambda: stdp().minibatch(wave(2, 4, 2, 6, 6), lambda x: x[0]),
        EITHER,
        r"respond",
        r"[Tt]ensor",
        r"potentials.*output_spikes",
    ),
)
def test_learner_calls(call, exception, parts):
    expect(call, exception, parts)


@table(
    ("two_for_one_sample", lambda: reward([1, -1]), ValueError, r"outcomes", r"\b2\b|\[1, -1\]", r"one|\b1\b"),
    ("number_for_three_samples", lambda: reward(1.0, 3), EITHER, r"outcomes", r"1", r"\b3\b"),
    ("two_for_three_samples", lambda: reward([1, -1], 3), ValueError, r"outcomes", r"\b2\b|\[1, -1\]", r"\b3\b"),
    ("matrix", lambda: reward(torch.ones(3, 2), 3), EITHER, r"outcomes", r"3, 2|1\.0, 1\.0", r"number"),
    ("true", lambda: reward(True), TypeError, r"outcomes", r"True|bool", r"number"),
    ("false_in_list", lambda: reward([1.0, False], 2), TypeError, r"outcomes", r"False|bool", r"number"),
    ("bool_tensor", lambda: reward(torch.tensor([True, False]), 2), TypeError, r"outcomes", r"bool", r"number"),
    ("text", lambda: reward("good"), EITHER, r"outcomes", r"good|str", r"number"),
    ("none", lambda: reward(None), TypeError, r"outcomes", r"None", r"number"),
    ("nan", lambda: reward(NAN), ValueError, r"outcomes", FINITE),
    ("nan_in_tensor", lambda: reward(torch.tensor([1.0, NAN]), 2), ValueError, r"outcomes", FINITE),
    ("winner", lambda: reward(1, winners=[(5, 0, 0)]), IndexError, r"winner", r"\b5\b"),
)
def test_outcomes(call, exception, parts):
    expect(call, exception, parts)


# ------------------------------------------------------------------------------------------------------ encoding


@table(
    ("pair_triple", lambda: utils.to_pair((1, 2, 3)), ValueError, r"1, 2, 3", r"pair|two"),
    ("percents_nan", lambda: utils.generate_inhibition_kernel([0.1, NAN]), ValueError, r"percents", FINITE),
    (
        "percents_number",
        lambda: utils.generate_inhibition_kernel(0.1),
        TypeError,
        r"percents",
        r"0\.1",
        r"sequence|list",
    ),
    ("percents_text", lambda: utils.generate_inhibition_kernel(["a"]), TypeError, r"percents", r"'a'|str", r"number"),
    ("dog_window_zero", lambda: utils.DoGKernel(0, 1, 2), ValueError, r"window_size", r"\b0\b"),
    ("dog_window_negative", lambda: utils.DoGKernel(-3, 1, 2), ValueError, r"window_size", r"-3"),
    ("dog_window_float", lambda: utils.DoGKernel(3.5, 1, 2), TypeError, r"window_size", r"3\.5", INTEGER),
    ("dog_window_one", lambda: utils.DoGKernel(1, 1, 2)(), ValueError, r"window_size", r"\b1\b"),
    ("dog_sigma_zero", lambda: utils.DoGKernel(3, 0, 2), ValueError, r"sigma1", r"\b0\b|0\.0", POSITIVE),
    ("dog_sigma_negative", lambda: utils.DoGKernel(3, 1, -2), ValueError, r"sigma2", r"-2", POSITIVE),
    ("dog_sigma_nan", lambda: utils.DoGKernel(3, NAN, 2), ValueError, r"sigma1", FINITE),
    ("dog_sigma_text", lambda: utils.DoGKernel(3, "1", 2), TypeError, r"sigma1", r"'1'|str", r"number"),
    (
        "dog_sigmas_equal",
        lambda: utils.DoGKernel(3, 1.5, 1.5)(),
        ValueError,
        r"sigma1",
        r"sigma2",
        r"1\.5",
        r"differ|equal|same",
    ),
    ("gabor_window_zero", lambda: utils.GaborKernel(0, 45), ValueError, r"window_size", r"\b0\b"),
    ("gabor_window_one", lambda: utils.GaborKernel(1, 45)(), ValueError, r"window_size", r"\b1\b"),
    ("gabor_orientation_nan", lambda: utils.GaborKernel(5, NAN), ValueError, r"orientation", FINITE),
    (
        "gabor_orientation_text",
        lambda: utils.GaborKernel(5, "north"),
        TypeError,
        r"orientation",
        r"north|str",
        r"number",
    ),
    ("gabor_div_zero", lambda: utils.GaborKernel(5, 45, 0), ValueError, r"\bdiv\b", r"\b0\b|0\.0", POSITIVE),
    ("gabor_div_negative", lambda: utils.GaborKernel(5, 45, -4), ValueError, r"\bdiv\b", r"-4", POSITIVE),
    ("filter_empty", lambda: utils.Filter([]), ValueError, r"filter_kernels", r"empty|\[\]|\b0\b|at least one"),
    ("filter_number", lambda: utils.Filter([3]), EITHER, r"filter_kernels", r"\b3\b|int", r"callable|tensor"),
    ("filter_rank", lambda: utils.Filter([torch.ones(2, 3, 3)]), ValueError, r"filter_kernels", r"2, 3, 3"),
    ("filter_nan", lambda: utils.Filter([nan(3, 3)]), ValueError, r"filter_kernels", FINITE),
    (
        "filter_thresholds_length",
        lambda: make_filter(thresholds=[0.1, 0.2, 0.3]),
        ValueError,
        r"thresholds",
        r"\b3\b|0\.1, 0\.2, 0\.3",
        r"\b2\b",
    ),
    ("filter_thresholds_nan", lambda: make_filter(thresholds=NAN), ValueError, r"thresholds", FINITE),
    ("filter_thresholds_nan_in_list", lambda: make_filter(thresholds=[0.1, NAN]), ValueError, r"thresholds", FINITE),
    ("filter_thresholds_text", lambda: make_filter(thresholds="50"), TypeError, r"thresholds", r"50|str", r"number"),
    ("filter_padding_negative", lambda: make_filter(padding=-1), ValueError, r"padding", r"-1", NOT_NEGATIVE),
    ("filter_padding_float", lambda: make_filter(padding=0.5), TypeError, r"padding", r"0\.5", INTEGER),
    ("filter_two_channels", lambda: make_filter()(torch.ones(2, 8, 9)), ValueError, r"input", r"2, 8, 9", r"1, *H, *W"),
    (
        "filter_colour_batch",
        lambda: make_filter()(torch.ones(4, 3, 8, 9)),
        ValueError,
        r"input",
        r"4, 3, 8, 9",
        r"N, *1, *H, *W",
    ),
    ("filter_rank_two", lambda: make_filter()(torch.ones(8, 9)), ValueError, r"input", r"8, 9", r"[1C], *H, *W"),
    ("filter_image_nan", lambda: make_filter()(nan(1, 8, 9)), ValueError, r"input", FINITE),
    ("filter_image_list", lambda: make_filter()([[1.0]]), TypeError, r"input", r"\blist\b", r"[Tt]ensor"),
    (
        "filter_image_small",
        lambda: make_filter()(torch.ones(1, 4, 9)),
        ValueError,
        r"input|window",
        r"4, 9|4 *x *9",
        r"\b5\b",
    ),
    (
        "filter_image_elsewhere",
        lambda: make_filter()(torch.ones(1, 8, 9, device="meta")),
        ValueError,
        r"input",
        r"meta",
        r"cpu",
    ),
    ("bins_zero", lambda: utils.Intensity2Latency(0), ValueError, r"number_of_spike_bins", r"\b0\b", POSITIVE),
    ("bins_negative", lambda: utils.Intensity2Latency(-15), ValueError, r"number_of_spike_bins", r"-15", POSITIVE),
    ("bins_float", lambda: utils.Intensity2Latency(1.5), TypeError, r"number_of_spike_bins", r"1\.5", INTEGER),
    (
        "latency_rank",
        lambda: utils.Intensity2Latency(3)(torch.ones(8, 9)),
        ValueError,
        r"intencities|intensities|input",
        r"8, 9",
        r"C, *H, *W",
    ),
    (
        "latency_wave",
        lambda: utils.Intensity2Latency(3)(torch.ones(2, 3, 1, 8, 9)),
        ValueError,
        r"intencities|intensities|input",
        r"2, 3, 1, 8, 9",
        r"C, *H, *W",
    ),
    (
        "latency_nan",
        lambda: utils.Intensity2Latency(3)(nan(1, 8, 9)),
        ValueError,
        r"intencities|intensities|input",
        FINITE,
    ),
    (
        "latency_list",
        lambda: utils.Intensity2Latency(3)([1.0]),
        TypeError,
        r"intencities|intensities|input",
        r"\blist\b",
        r"[Tt]ensor",
    ),
    (
        "latency_no_pixels",
        lambda: utils.Intensity2Latency(3)(torch.ones(1, 0, 9)),
        ValueError,
        r"intencities|intensities|input",
        r"1, 0, 9",
    ),
    (
        "latency_not_batched",
        lambda: utils.Intensity2Latency(3, batched=False)(torch.ones(4, 2, 8, 9)),
        ValueError,
        r"intencities|intensities|input",
        r"4, 2, 8, 9",
        r"batched",
    ),
    ("rank_order_steps", lambda: rank_order(torch.ones(2, 3, 3), 0), ValueError, r"time_steps", r"\b0\b", POSITIVE),
    (
        "rank_order_steps_float",
        lambda: rank_order(torch.ones(2, 3, 3), 2.5),
        TypeError,
        r"time_steps",
        r"2\.5",
        INTEGER,
    ),
    ("rank_order_nan", lambda: rank_order(nan(2, 3, 3), 4), ValueError, r"intensities", FINITE),
    ("rank_order_rank", lambda: rank_order(torch.ones(3, 3), 4), ValueError, r"intensities", r"3, 3", r"C, *H, *W"),
    ("lateral_percents_nan", lambda: utils.LateralIntencityInhibition([NAN]), ValueError, r"percents", FINITE),
    (
        "lateral_percents_number",
        lambda: utils.LateralIntencityInhibition(0.5),
        TypeError,
        r"percents",
        r"0\.5",
        r"sequence|list",
    ),
    (
        "lateral_nan",
        lambda: utils.LateralIntencityInhibition([0.5])(nan(1, 2, 4, 4)),
        ValueError,
        r"intencities",
        FINITE,
    ),
    (
        "lateral_rank",
        lambda: utils.LateralIntencityInhibition([0.5])(torch.ones(4, 4)),
        ValueError,
        r"intencities",
        r"4, 4",
        r"C, *H, *W",
    ),
    ("lateral_list", lambda: utils.LateralIntencityInhibition([0.5])([1]), TypeError, r"intencities", r"\blist\b"),
    (
        "lateral_even_kernel",
        lambda: sf.intensity_lateral_inhibition(torch.ones(1, 2, 6, 6), torch.ones(1, 1, 4, 4)),
        ValueError,
        r"inhibition_kernel",
        r"4, 4|\b4\b",
        r"odd",
    ),
    (
        "lateral_kernel_one_even_side",
        lambda: sf.intensity_lateral_inhibition(torch.ones(1, 2, 6, 6), torch.ones(1, 1, 3, 2)),
        ValueError,
        r"inhibition_kernel",
        r"3, 2",
        r"odd",
    ),
    (
        "lateral_kernel_rank",
        lambda: sf.intensity_lateral_inhibition(torch.ones(1, 2, 6, 6), torch.ones(3)),
        ValueError,
        r"inhibition_kernel",
        r"\b3\b",
    ),
    (
        "lateral_kernel_list",
        lambda: sf.intensity_lateral_inhibition(torch.ones(1, 2, 6, 6), [[1]]),
        TypeError,
        r"inhibition_kernel",
        r"\blist\b",
    ),
    (
        "lateral_kernel_nan",
        lambda: sf.intensity_lateral_inhibition(torch.ones(1, 2, 6, 6), nan(1, 1, 3, 3)),
        ValueError,
        r"inhibition_kernel",
        FINITE,
    ),
    (
        "normalization_radius",
        lambda: sf.local_normalization(torch.ones(1, 2, 6, 6), -1),
        ValueError,
        r"normalization_radius",
        r"-1",
        NOT_NEGATIVE,
    ),
    (
        "normalization_radius_float",
        lambda: sf.local_normalization(torch.ones(1, 2, 6, 6), 1.5),
        TypeError,
        r"normalization_radius",
        r"1\.5",
        INTEGER,
    ),
    ("normalization_nan", lambda: sf.local_normalization(nan(1, 2, 6, 6), 1), ValueError, r"input", FINITE),
    (
        "normalization_rank",
        lambda: sf.local_normalization(torch.ones(6, 6), 1),
        ValueError,
        r"input",
        r"6, 6",
        r"C, *H, *W",
    ),
    ("normalization_list", lambda: sf.local_normalization([1], 1), TypeError, r"input", r"\blist\b"),
    (
        "normalization_module_radius",
        lambda: LocalNormalization(-1),
        ValueError,
        r"normalization_radius",
        r"-1",
        NOT_NEGATIVE,
    ),
    ("contrast_radius", lambda: LocalContrast(-1), ValueError, r"radius", r"-1", NOT_NEGATIVE),
    ("contrast_floor", lambda: LocalContrast(4, 0), ValueError, r"floor", r"above 0", r"got 0"),
    (
        "contrast_reach",
        lambda: LocalContrast(2**40)(torch.ones(1, 3, 3)),
        ValueError,
        r"radius",
        r"\b1099511627776\b",
        r"small enough",
    ),
    ("chromaticity_floor", lambda: Chromaticity(-0.5), ValueError, r"floor", r"0 or more", r"-0\.5"),
    (
        "normalization_module_float",
        lambda: LocalNormalization(0.5),
        TypeError,
        r"normalization_radius",
        r"0\.5",
        INTEGER,
    ),
)
def test_encoding(call, exception, parts):
    expect(call, exception, parts)


def make_filter(**options):
    return utils.Filter([utils.DoGKernel(3, 1, 2), utils.DoGKernel(5, 1, 2)], **options)


# --------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ()),
        ("2,3\n", (r"line|values",)),
        ("2,3", (r"line|values",)),
        ("2,3\n1,2,3,4,5", (r"\b5\b", r"\b6\b|2x3")),
        ("2,3\n1,2,3,4,5,6,7", (r"\b7\b", r"\b6\b|2x3")),
        ("2,3\n1,2,x,4,5,6", (r"x",)),
        ("2,3\n1,2,,4,5,6", ()),
        ("two,3\n1,2,3", (r"two",)),
        ("-2,3\n1,2,3", (r"-2",)),
        ("2,3\n1,2,3\n4,5,6", ()),
        ("2,3\n1,2,3,4,5,6\n7", ()),
    ],
    ids=lambda value: repr(value) if isinstance(value, str) else "",
)
def test_damaged_text(tmp_path, text, parts):
    path = tmp_path / "weights.txt"
    path.write_text(text, encoding="utf-8")
    expect(lambda: utils.text_to_tensor(str(path)), ValueError, (r"weights\.txt", *parts))


def test_every_truncation_of_a_text_file_is_refused_or_whole(tmp_path):
    path = tmp_path / "weights.txt"
    data = torch.tensor([[12.5, 25.0], [50.0, 75.0]])
    utils.tensor_to_text(data, str(path))
    text = path.read_text(encoding="utf-8")
    for length in range(text.rindex("75")):  # cut inside the last number it may still read as a number
        path.write_text(text[:length], encoding="utf-8")
        expect(lambda: utils.text_to_tensor(str(path)), ValueError, (r"weights\.txt",))


@table(
    ("missing", lambda d: utils.text_to_tensor(str(d / "no.txt")), FileNotFoundError, r"no\.txt"),
    ("directory", lambda d: utils.text_to_tensor(str(d)), (ValueError, OSError), r"\w"),
    ("binary", lambda d: utils.text_to_tensor(str(binary(d))), ValueError, r"binary\.txt"),
    (
        "type_unknown",
        lambda d: utils.text_to_tensor(str(text(d)), "complex"),
        ValueError,
        r"\btype\b",
        r"complex",
        r"float",
        r"double",
    ),
    (
        "type_not_text",
        lambda d: utils.text_to_tensor(str(text(d)), torch.float32),
        EITHER,
        r"\btype\b",
        r"float32",
        r"float",
        r"double",
    ),
    ("fraction_as_int", lambda d: utils.text_to_tensor(str(text(d)), "int"), ValueError, r"values\.txt", r"1\.5"),
    ("byte_range", lambda d: utils.text_to_tensor(str(text(d, "300")), "byte"), ValueError, r"values\.txt", r"300"),
    ("byte_negative", lambda d: utils.text_to_tensor(str(text(d, "-1")), "byte"), ValueError, r"values\.txt", r"-1"),
    (
        "int_range",
        lambda d: utils.text_to_tensor(str(text(d, "3000000000")), "int"),
        ValueError,
        r"values\.txt",
        r"3000000000",
    ),
    ("address_number", lambda d: utils.text_to_tensor(3), TypeError, r"address", r"3|int", r"path|str"),
    (
        "write_list",
        lambda d: utils.tensor_to_text([1.0], str(d / "x.txt")),
        TypeError,
        r"data",
        r"\blist\b",
        r"[Tt]ensor",
    ),
    ("write_address", lambda d: utils.tensor_to_text(torch.ones(1), None), TypeError, r"address", r"None", r"path|str"),
    ("cache_number", lambda d: utils.CacheDataset(3), TypeError, r"dataset", r"3|int"),
    ("cache_without_length", lambda d: utils.CacheDataset(iter([1])), TypeError, r"dataset", r"iterator", r"len"),
    (
        "cache_address_number",
        lambda d: utils.CacheDataset([(1, 2)], 3),
        TypeError,
        r"cache_address",
        r"3|int",
        r"path|str",
    ),
    (
        "cache_address_file",
        lambda d: utils.CacheDataset([(torch.ones(1), 2)], str(text(d)))[0],
        (ValueError, OSError),
        r"values\.txt",
    ),
    (
        "cache_key",
        lambda d: utils.CacheDataset([(torch.ones(1), 2)], str(d / "c"), key=3),
        TypeError,
        r"\bkey\b",
        r"\b3\b",
        r"str",
    ),
    ("cache_index", lambda d: utils.CacheDataset([(torch.ones(1), 2)])[1], IndexError, r"index", r"\b1\b"),
    (
        "cache_index_disk",
        lambda d: utils.CacheDataset([(torch.ones(1), 2)], str(d / "c"))[-2],
        IndexError,
        r"index",
        r"-2",
    ),
)
def test_files(call, exception, parts, tmp_path):
    expect(lambda: call(tmp_path), exception, parts)


def binary(folder):
    path = folder / "binary.txt"
    path.write_bytes(bytes(range(256)))
    return path


def text(folder, value="1.5"):
    path = folder / "values.txt"
    path.write_text(f"1\n{value}", encoding="utf-8")
    return path


@pytest.mark.parametrize("damage", ["garbage", "empty", "truncated", "other_file"])
def test_damaged_cache_file(tmp_path, damage):
    dataset = [(torch.arange(6.0).reshape(2, 3), 7)]
    utils.CacheDataset(dataset, str(tmp_path / "cache"), key="k")[0]
    (path,) = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    data = path.read_bytes()
    path.write_bytes({"garbage": b"not a cache", "empty": b"", "truncated": data[: len(data) // 2]}.get(damage, b""))
    if damage == "other_file":
        torch.save(torch.ones(3), path)
    again = utils.CacheDataset(dataset, str(tmp_path / "cache"), key="k")
    expect(lambda: again[0], ValueError, (re.escape(repr(str(path))), r"reset_cache\(\)"))
    again.reset_cache()
    assert torch.equal(again[0][0], dataset[0][0])
    assert again[0][1] == 7


# ------------------------------------------------------------------------------------------------- visualization


def deep(weights):
    return vis.get_deep_feature(torch.ones(2, 3, 3), (1, 1), (3, 3), (1, 1), weights)


@table(
    (
        "field_short",
        lambda: vis.get_deep_receptive_field((5, 5, 1)),
        EITHER,
        r"layers_details",
        r"5, 5, 1",
        r"four|4|row[_ ]stride",
    ),
    ("field_number", lambda: vis.get_deep_receptive_field(5), TypeError, r"layers_details", r"5"),
    (
        "field_zero_stride",
        lambda: vis.get_deep_receptive_field((5, 5, 0, 1)),
        ValueError,
        r"layers_details|stride",
        r"\b0\b",
    ),
    (
        "feature_rank",
        lambda: vis.get_deep_feature(torch.ones(3, 3), (1, 1), (3, 3), (2, 2)),
        ValueError,
        r"pre_feature",
        r"3, 3",
        r"C, *(H, *W|height, *width)",
    ),
    ("feature_list", lambda: vis.get_deep_feature([1], (1, 1), (3, 3), (2, 2)), TypeError, r"pre_feature", r"\blist\b"),
    (
        "feature_window",
        lambda: vis.get_deep_feature(torch.ones(2, 3, 3), (1, 1), (0, 3), (2, 2)),
        ValueError,
        r"window_size",
        r"\b0\b",
    ),
    (
        "feature_stride",
        lambda: vis.get_deep_feature(torch.ones(2, 3, 3), (1, 0), (3, 3), (2, 2)),
        ValueError,
        r"feature_stride",
        r"\b0\b",
    ),
    ("feature_weight_channels", lambda: deep(torch.ones(4, 5, 3, 3)), ValueError, r"weights", r"4, 5, 3, 3", r"\b2\b"),
    ("feature_weight_window", lambda: deep(torch.ones(4, 2, 5, 5)), ValueError, r"weights", r"4, 2, 5, 5", r"3, 3"),
    ("feature_weight_rank", lambda: deep(torch.ones(2, 3, 3)), ValueError, r"weights", r"2, 3, 3"),
    ("show_list", lambda: vis.show_tensor([[1]]), TypeError, r"aTensor", r"\blist\b", r"[Tt]ensor"),
    ("image_list", lambda: vis.plot_tensor_in_image("x.png", [[1]]), TypeError, r"aTensor", r"\blist\b", r"[Tt]ensor"),
)
def test_visualization(call, exception, parts):
    expect(call, exception, parts)


# -------------------------------------------------------------------------------- the checks that read the data


def graded(*shape):
    """Between 0 and 1: potentials passed where a wave is expected."""
    return torch.full(shape, 0.5)


def one_hot(*shape):
    """Spikes at the first step only: not cumulative."""
    out = torch.zeros(*shape)
    out.select(-4, 0).fill_(1)
    return out


NOT_BINARY = r"binary|zeros and ones|0 *(and|or|/) *1|0s and 1s|only 0"
NOT_CUMULATIVE = r"cumulative|stays|latch|one-hot|monoton"
WITH_VALIDATION = {
    # wave operations: both a graded and a one-hot wave are refused
    "convolution": ("input", 2, lambda x: sf.convolution(x, torch.ones(3, 2, 3, 3))),
    "Convolution": ("input", 2, lambda x: conv()(x)),
    "winners": ("spikes", 2, lambda x: sf.get_k_winners(wave(*x.shape), 1, 0, x)),
    "stdp_input": ("input_spikes", 2, lambda x: learn([(0, 0, 0)], inputs=x)),
    "stdp_output": ("output_spikes", 3, lambda x: learn([(0, 0, 0)], None, None, wave(4, 3, 4, 4), x[..., :4, :4])),
    "stdp_ordering": ("input_spikes", 2, lambda x: stdp().get_pre_post_ordering(x, wave(4, 3, 4, 4), [(0, 0, 0)])),
}


@pytest.mark.parametrize("operation", WITH_VALIDATION)
def test_validation_of_waves(operation):
    name, channels, call = WITH_VALIDATION[operation]
    shape = (4, channels, 6, 6)
    bad_waves = [(graded, NOT_BINARY), (one_hot, NOT_CUMULATIVE), (nan, f"{FINITE}|{NOT_BINARY}")]
    for make, complaint in bad_waves:
        bad = make(*shape)
        if not bad.isnan().any():
            call(bad)  # computed as given: checking is opt-in
        with spyketorch.validation():
            expect(lambda bad=bad: call(bad), ValueError, (rf"\b{name}\b", complaint))
    with spyketorch.validation():
        call(wave(*shape))
        call(torch.zeros(*shape))


@pytest.mark.parametrize("operation", [name for name in WAVE_OPERATIONS if "k_winners" not in name])
def test_validation_of_nan(operation):
    name, call = WAVE_OPERATIONS[operation]
    call(nan(3, 2, 4, 4))  # outside, only what could not be answered is refused
    with spyketorch.validation():
        expect(lambda: call(nan(3, 2, 4, 4)), ValueError, (rf"\b{name}\b", FINITE))


def test_validation_ends_with_its_block():
    bad = graded(4, 2, 6, 6)
    with spyketorch.validation():
        with spyketorch.validation():
            pass
        with pytest.raises(ValueError, match="input"):
            conv()(bad)
    conv()(bad)
    with pytest.raises(KeyError), spyketorch.validation():
        raise KeyError
    conv()(bad)


OPTIONS = {
    "return_thresholded_potentials": lambda option: sf.fire(wave(2, 1, 3, 3), 1, option),
    "latch": lambda option: sf.fire(wave(2, 1, 3, 3), 1, latch=option),
    "use_stabilizer": lambda option: snn.STDP(snn.Convolution(1, 2, 3), (0.1, -0.1), option),
    "return_update": lambda option: snn.STDP(snn.Convolution(1, 2, 3), (0.1, -0.1))(
        wave(2, 1, 3, 3), None, wave(2, 2, 1, 1), [], return_update=option
    ),
    "pointwise_inhibition": lambda option: snn.STDP(
        snn.SpikingConvolution(1, 2, 3, time_steps=2), (0.1, -0.1), modulation=lambda s: 1
    ).learn(torch.zeros(1, 1, 3, 3, dtype=torch.uint8), pointwise_inhibition=option),
    "use_abs": lambda option: utils.Filter([torch.ones(1, 1)], use_abs=option),
    "rounding": lambda option: utils.Filter([torch.ones(1, 1)])(wave(1, 3, 3), rounding=option),
    "to_spike": lambda option: utils.Intensity2Latency(2, option),
    "batched": lambda option: utils.Intensity2Latency(2, batched=option),
    "validate": lambda option: from_wave(wave(2, 1, 3, 3), validate=option),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_is_true_or_false(name):
    """A text is true, whatever it says; what numpy and older scripts write for the two is taken."""
    for option in (True, False, 0, 1, np.bool_(False), np.int64(1)):
        OPTIONS[name](option)
    for wrong in ("no", "", 2, 0.0, [], np.array([True, False])):
        with pytest.raises(TypeError, match=f"`{name}` must be True or False"):
            OPTIONS[name](wrong)
