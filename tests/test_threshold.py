"""The threshold of a layer: what it may be, that it is the layer's own, that it is saved, and what does not load."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch

from spyketorch import latency, models, snn
from spyketorch.training import Trainer, Unsupervised

T = 6


def layer(threshold=2.0, **options):
    torch.manual_seed(0)
    return snn.SpikingConvolution(2, 3, 3, threshold, time_steps=T, **options)


def times():
    return torch.randint(0, T + 1, (4, 2, 7, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def answers(made, value):
    """Whether it fires as the operation does with that threshold."""
    want = latency.convolution_fire(times(), made.weight, value, time_steps=T)
    return all(map(torch.equal, made.respond(times()), want))


EACH = [1.0, 2.5, 4.0]


@pytest.mark.parametrize(
    "given",
    [
        4,
        4.25,
        np.float32(4.25),
        np.array(4),
        torch.tensor(4, dtype=torch.int16),
        torch.tensor(4.0, requires_grad=True),
        torch.nn.Parameter(torch.tensor(EACH)),
        EACH,
        tuple(EACH),
        np.array(EACH),
        np.array([1, 2, 4], np.uint16),
        torch.tensor(EACH, dtype=torch.float64),
        torch.tensor(4.0).expand(3),
        None,
    ],
    ids=str,
)
def test_every_form_at_construction_and_by_assignment(given):
    built, assigned = layer(given), layer(None if given is None else 30)
    assigned.threshold = given
    want = None if given is None else torch.as_tensor(given).detach().float()
    for made in (built, assigned):
        assert answers(made, want)
        assert [name for name, _ in made.named_parameters()] == ["weight"]
        if given is not None:
            assert made.threshold.dtype == torch.float32
            assert not made.threshold.requires_grad
            made.threshold.fill_(3)
            assert answers(made, 3.0)
    if isinstance(given, torch.Tensor | np.ndarray):
        assert torch.equal(torch.as_tensor(given).detach().float(), want)  # it was copied


@pytest.mark.parametrize(
    "wrong",
    [
        torch.nan,
        float("inf"),
        1e39,  # no float32
        [1, 2],
        [1, 2, torch.nan],
        [[1, 2, 3]],
        [[1], [2, 3]],
        [],
        torch.zeros(3, 1, 1),
        torch.zeros(1),
        torch.tensor([1.0, torch.inf, 2.0]),
        torch.ones(3, dtype=torch.bool),
        torch.ones(3, dtype=torch.complex64),
        True,
        "15",
        ["1", "2", "3"],
        {},
        10**400,
        pytest.param(object(), id="object"),
    ],
    ids=str,
)
def test_what_is_no_threshold_is_refused_and_changes_nothing(wrong):
    with pytest.raises((ValueError, TypeError), match="`threshold` must be"):
        layer(wrong)
    made = layer(2.0)
    with pytest.raises((ValueError, TypeError), match="`threshold` must be"):
        made.threshold = wrong
    assert answers(made, 2.0)


def test_layers_share_none():
    one = layer(torch.tensor(2.0, dtype=torch.float32))
    other = layer()
    other.threshold = one.threshold
    for twin in (other, copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        twin.threshold.fill_(5)
        assert answers(one, 2.0)
        assert answers(twin, 5.0)


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_it_has_the_type_of_the_weight(kind):
    made = layer(EACH).to(kind)
    assert made.threshold.dtype == kind
    made.threshold = 0.1
    assert made.threshold == torch.tensor(0.1, dtype=kind)
    made.to("meta")
    assert made.threshold.is_meta


def test_it_is_in_the_text_as_it_was_given():
    assert "threshold=0.1," in repr(layer(0.1))
    assert "threshold=15," in repr(layer(15))
    assert "threshold=None," in repr(layer(None))
    assert repr(layer([1, 2, 3])) != repr(layer([1, 2.5, 3]))


# saving and loading


@pytest.mark.parametrize("value", [4.0, EACH, None], ids=str)
def test_it_is_saved(value):
    made, other = layer(value), layer(None if value is None else 15.0)
    made.load_weight(made.weight / 2)
    state = made.state_dict()
    other.load_state_dict(state)
    assert answers(other, None if value is None else torch.tensor(value))
    if value is not None:
        other.threshold.fill_(9)  # it shares nothing with the file's
        assert answers(made, torch.tensor(value))
        assert torch.equal(state["threshold"], torch.tensor(value))


def test_networks_come_back_as_they_were(tmp_path):
    made, other = models.kheradpisheh2018(), models.kheradpisheh2018()
    made.stages[0].layer.threshold.fill_(4)
    made.save(tmp_path / "network.pt")
    state = torch.load(tmp_path / "network.pt", weights_only=True)
    other.load_state_dict(state)
    assert other.stages[0].layer.threshold == 4
    assert other.stages[1].layer.threshold == 6


def test_a_convolution_and_a_spiking_one_load_each_other():
    dense, spiking = snn.Convolution(2, 3, 3), layer(7.0)
    spiking.load_state_dict(dense.state_dict())
    assert torch.equal(spiking.weight, dense.weight)
    assert spiking.threshold == 7
    for value in (7.0, EACH, None):
        dense.reset_weight()
        dense.load_state_dict(layer(value).state_dict())
        assert torch.equal(dense.weight, layer().weight)
    spiking = layer(7.0)
    rule, other = snn.STDP(snn.Convolution(2, 3, 3), (0.5, -0.5)), snn.STDP(spiking, (0.1, -0.1))
    other.load_state_dict(rule.state_dict())
    rule.load_state_dict(other.state_dict())
    assert spiking.threshold == 7


def test_a_threshold_of_a_users_own_convolution_stays():
    class Own(snn.Convolution):
        def __init__(self):
            super().__init__(2, 3, 3)
            self.register_buffer("threshold", torch.tensor(3.0))

    made = Own()
    made.load_state_dict({"weight": made.weight, "threshold": torch.tensor(8.0)})
    assert made.threshold == 8


@pytest.mark.parametrize(
    "here, there, told",
    [
        (2.0, torch.tensor([1.0, 2.0]), r"3\.threshold: `threshold` must be a number or one per feature, \(3,\)"),
        (2.0, torch.tensor([1.0, 2.0, torch.nan]), r"3\.threshold: `threshold` must be finite"),
        (2.0, torch.tensor(torch.inf), r"3\.threshold: `threshold` must be finite"),
        (2.0, torch.tensor(True), r"3\.threshold: `threshold` must be a number"),
        (2.0, "high", r"3\.threshold: `threshold` must be a number"),
        (2.0, torch.empty(0), r"3\.threshold: only the last time step counts .* has a threshold, 2"),
        (None, torch.tensor(2.0), r"3\.threshold: the saved layer has a threshold, .*, but here only the last"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_with_its_key(here, there, told):
    made = torch.nn.ModuleDict({"3": layer(here)})
    with pytest.raises(RuntimeError, match=told):
        made.load_state_dict({"3.weight": made["3"].weight, "3.threshold": there})
    assert answers(made["3"], here)


def test_other_keys_are_missed_and_unexpected_as_ever():
    made = layer()
    found = made.load_state_dict({"some": torch.ones(1), "threshold": torch.tensor(1.0)}, strict=False)
    assert (found.missing_keys, found.unexpected_keys) == (["weight"], ["some"])
    with pytest.raises(RuntimeError, match="weight"):
        made.load_state_dict({"threshold": torch.tensor(1.0)})


def test_states_are_assigned_to_layers_without_memory():
    with torch.device("meta"):
        made = layer(15.0)
    made.load_state_dict(layer(EACH).state_dict(), assign=True)
    assert answers(made, torch.tensor(EACH))


def test_a_trainer_adds_nothing_to_the_state():
    network = models.kheradpisheh2018()
    before = list(network.state_dict())
    Trainer(network, [Unsupervised(homeostasis=0.1)])
    assert list(network.state_dict()) == before


def test_learning_with_another_threshold_leaves_the_layers_own():
    network = models.kheradpisheh2018()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Trainer(network, [Unsupervised(threshold=4)], progress=False).fit(torch.rand(20, 1, 28, 28) * 255)
    assert network.stages[0].layer.threshold == 15
