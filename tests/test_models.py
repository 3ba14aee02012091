"""Networks: their summary says what they hold and how they answer, their files are whole."""

import copy
import os
import pickle
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import pytest
import torch
from test_files import refused_or_whole

import spyketorch
from spyketorch import latency, models
from spyketorch.encoding import LatencyEncoder, LinearLatency
from spyketorch.learning import STDP
from spyketorch.models import InputWarning, Network, Stage
from spyketorch.readout import LinearReadout
from spyketorch.snn import Convolution, SpikingConvolution, SpikingPooling
from spyketorch.training import Trainer, Unsupervised, evaluate
from spyketorch.visualization import get_mean_stimuli

T = 6


def network(**options):
    torch.manual_seed(0)
    one = SpikingConvolution(1, 3, 3, torch.tensor([2.0, 3.0, 4.5]), 0.8, 0.1, time_steps=T, padding=1)
    two = SpikingConvolution(3, 4, 2, None, 0.8, 0.1, time_steps=T)
    stages = [Stage(one, SpikingPooling(2), **options), Stage(two)]
    return Network(LatencyEncoder(torch.nn.Identity(), T), stages, [0, 0, 1, 1])


def images():
    made = torch.rand(5, 1, 8, 10) * (torch.rand(5, 1, 8, 10) > 0.6)
    made[2] = 0  # a blank image
    return made


def test_summary_of_a_shape():
    table = network().summary((1, 8, 10))
    rows = {row.part: row for row in table.rows}
    assert rows["encoder"].shape == (1, 8, 10)
    assert rows["stages[0].layer"].shape == (3, 8, 10)
    assert rows["stages[0].pool"].shape == (3, 4, 5)
    assert rows["stages[1].layer"].shape == (4, 3, 4)
    assert rows["stages[0].layer"].weights == 3 * 9
    assert rows["stages[1].layer"].weights == 4 * 3 * 4
    assert rows["stages[1].layer"].neurons == 4 * 3 * 4
    assert all(row.spikes is None and row.silent is None for row in table.rows)
    text = str(table)
    assert "2..4.5" in text
    assert "last step" in text
    assert f"{27 + 48}" in text.splitlines()[-1]


@pytest.mark.parametrize("inhibit", [False, True])
def test_summary_of_images(inhibit):
    made, stimuli = network(inhibit=inhibit), images()
    rows = {row.part: row for row in made.summary(stimuli).rows}
    times = made.encoder(stimuli)
    fired, potentials = made.stages[0].layer.respond(times)
    if inhibit:
        fired, _ = latency.pointwise_inhibition(fired, potentials, time_steps=T)
    pooled = latency.pooling(fired, 2)
    answers = {"encoder": times, "stages[0].layer": fired, "stages[0].pool": pooled}
    answers["stages[1].layer"] = made.stages[1].layer(pooled)
    for name, answer in answers.items():
        spikes = (answer < T).flatten(1).sum(1).double()
        assert rows[name].spikes == pytest.approx(float(spikes.mean())), name
        assert rows[name].silent == pytest.approx(float((spikes == 0).double().mean())), name
    assert rows["encoder"].silent == pytest.approx(0.2)


def test_summary_counts_a_shortcut_and_a_readout():
    made = models.kheradpisheh2018()
    rows = {row.part: row for row in made.summary((1, 28, 28)).rows}
    assert rows["stages[1].pool"].shape == (150, 7, 7)
    assert rows["stages[1].shortcut"].shape == (182, 7, 7)
    assert rows["readout"].shape == (10,)
    assert rows["readout"].weights == 10 * (182 * 49 + 1)


@pytest.mark.parametrize("wrong", [(28, 28), (0, 8, 8), torch.zeros(1, 8, 8), torch.zeros(0, 1, 8, 8), "no"])
def test_summary_of_what_are_no_images(wrong):
    with pytest.raises((ValueError, TypeError), match="images"):
        network().summary(wrong)


def test_stages_that_do_not_fit_are_refused():
    encoder = LatencyEncoder(torch.nn.Identity(), T)
    one, two = (SpikingConvolution(a, b, 3, 2.0, time_steps=T) for a, b in ((1, 3), (4, 2)))
    with pytest.raises(ValueError, match=r"`stages`\[1\] reads 4 features, but stages\[0\] gives 3"):
        Network(encoder, [Stage(one), Stage(two)])
    Network(encoder, [Stage(one, SpikingPooling(3, 1, 1), shortcut=SpikingPooling(1)), Stage(two)])  # 3 and 1 more


def test_features_stop_where_they_are_asked_to():
    made, stimuli = network(), images()
    times = made.encoder(stimuli)
    assert torch.equal(made.features(stimuli, 0), times)
    assert torch.equal(made.features(stimuli, 1), made.stages[0](times))
    assert torch.equal(made.features(stimuli), made.stages[1](made.stages[0](times)))


def test_shortcut_passes_the_input_on():
    layer = SpikingConvolution(3, 4, 1, 0.1, time_steps=T)
    times = torch.randint(0, T + 1, (2, 3, 4, 4), dtype=torch.uint8)
    passed = Stage(layer, SpikingPooling(2), shortcut=SpikingPooling(2))(times)
    assert torch.equal(passed[:, :4], latency.pooling(layer(times), 2))
    assert torch.equal(passed[:, 4:], latency.pooling(times, 2))


def test_saved_networks_load(tmp_path):
    made, other = network(), network()
    made.stages[1].layer.weight.mul_(0.5)
    made.save(tmp_path / "some" / "network.pt")
    other.load_state_dict(torch.load(tmp_path / "some" / "network.pt", weights_only=True))
    assert torch.equal(other(images()), made(images()))
    assert torch.equal(other.stages[1].layer.weight, made.stages[1].layer.weight)
    assert [path.name for path in (tmp_path / "some").iterdir()] == ["network.pt"]
    with pytest.raises(TypeError, match="path"):
        made.save(3)


class Hidden(torch.nn.Module):
    """An encoder's filter that depends on what no attribute tells."""

    def __init__(self, power):
        super().__init__()
        self.register_forward_hook(lambda module, given, answer: answer**power)
        self.power = "no number"

    def forward(self, given):
        return given.roll(1, -1) if SHIFTED else given


SHIFTED = False


def layer(**options):
    return SpikingConvolution(1, 3, 3, [2.0, 3.0, 4.5], 0.8, 0.1, time_steps=T, **options)


def changed(change):
    made = network()
    change(made)
    return made


CHANGES = {
    "time_steps": lambda made: setattr(made.encoder, "time_steps", 7),
    "normalization_radius": lambda made: setattr(made.encoder, "normalization_radius", 2),
    "inhibit": lambda made: setattr(made.stages[0], "inhibit", True),
    "pool": lambda made: setattr(made.stages[0], "pool", None),
    r"pool\.stride": lambda made: setattr(made.stages[0].pool, "stride", (1, 1)),
    r"geometry is Geometry.*padding=\(1, 1\)": lambda made: setattr(made.stages[0], "layer", layer(padding=0)),
    "classes": lambda made: made.classes.copy_(1 - made.classes),
    "the type of network.encoder.filter": lambda made: setattr(made.encoder, "filter", torch.nn.ReLU()),
    "shortcut": lambda made: setattr(made.stages[1], "shortcut", SpikingPooling(2)),
    "readout": lambda made: setattr(made, "readout", LinearReadout((4, 3, 4), 2, time_steps=T)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_network_that_is_built_otherwise_is_refused_by_name(tmp_path, name):
    made, other = network(), changed(CHANGES[name])
    made.save(tmp_path / "network.pt")
    want = [stage.layer.weight.clone() for stage in other.stages]
    for load in (other.load, lambda path: other.load_state_dict(torch.load(path, weights_only=True))):
        with pytest.raises(ValueError, match=rf"built otherwise: .*{name}.* there, .* here.*strict=False"):
            load(tmp_path / "network.pt")
    assert all(torch.equal(stage.layer.weight, weight) for stage, weight in zip(other.stages, want, strict=True))
    other.save(tmp_path / "other.pt")
    changed(CHANGES[name]).load(tmp_path / "other.pt")
    with pytest.raises(ValueError, match=name):
        network().load(tmp_path / "other.pt")


@pytest.mark.parametrize("name", [name for name in CHANGES if name not in ("shortcut", "readout")])
def test_without_strict_the_tensors_of_a_network_that_is_built_otherwise_are_taken(name):
    made, other = network(), changed(CHANGES[name])
    torch.nn.init.uniform_(made.stages[1].layer.weight)
    state = made.state_dict()
    assert not any(other.load_state_dict(state, strict=False))
    assert torch.equal(other.stages[1].layer.weight, made.stages[1].layer.weight)
    del state["stages.1.layer.weight"]
    state["of_another"] = torch.ones(1)
    keys = [*state]
    assert tuple(other.load_state_dict(state, strict=False)) == (["stages.1.layer.weight"], ["of_another"])
    assert [*state] == keys


def test_without_strict_any_mapping_is_taken():
    made, other = network(), network()
    torch.nn.init.uniform_(made.stages[1].layer.weight)
    assert not any(other.load_state_dict(types.MappingProxyType(made.state_dict()), strict=False))
    assert torch.equal(other.stages[1].layer.weight, made.stages[1].layer.weight)
    with pytest.raises(TypeError, match="dict-like"):
        other.load_state_dict("network.pt", strict=False)


def test_maps_of_a_shortcut_have_the_size_of_those_beside_them():
    made = changed(lambda made: setattr(made.stages[1], "shortcut", torch.nn.Identity()))
    with pytest.raises(ValueError, match=r"`shortcut` must be a module whose maps are as large as .*\(\d+, \d+\); got"):
        made.features(images())


def test_values_that_are_computed_elsewhere_may_differ_in_the_last_bits(tmp_path):
    made = models.mozafari2018()
    made.save(tmp_path / "network.pt")
    other = models.mozafari2018()
    other.encoder.filter[1].kernels.mul_(1 + 1e-6)
    other.load(tmp_path / "network.pt")
    other.encoder.filter[1].kernels[0, 0, 0, 0] += 0.01
    with pytest.raises(ValueError, match=r"filter\.1\.kernels"):
        other.load(tmp_path / "network.pt")


def test_what_an_encoder_has_learned_comes_back(tmp_path):
    made = network()
    made.encoder = LinearLatency(torch.nn.Identity(), T).fit(images())
    made.save(tmp_path / "network.pt")
    again = network()
    again.encoder = LinearLatency(torch.nn.Identity(), T)
    with pytest.raises(ValueError, match=r"of this LinearLatency must be known.*with training images"):
        again(images())
    again.load(tmp_path / "network.pt")
    assert torch.equal(again(images()), made(images())) and torch.equal(
        again.features(images()), made.features(images())
    )
    again.encoder = LinearLatency(torch.nn.Identity(), T, per_place=True)
    with pytest.raises(ValueError, match="per_place is False there, True here"):
        again.load(tmp_path / "network.pt")
    with pytest.raises(ValueError, match=r"the type of network\.encoder"):
        network().load(tmp_path / "network.pt")


def test_thresholds_come_back(tmp_path):
    made = models.mozafari2019()
    made.stages[0].layer.threshold.fill_(4)
    made.save(tmp_path / "network.pt")
    again = models.mozafari2019()
    again.load(tmp_path / "network.pt")
    assert again.stages[0].layer.threshold == 4


def test_modules_of_the_users_own_are_told_by_their_answers(tmp_path, monkeypatch):
    made = network()
    made.encoder.filter = Hidden(1)
    made(images())
    made.save(tmp_path / "network.pt")
    again = network()
    again.encoder.filter = Hidden(1)
    again.load(tmp_path / "network.pt")
    assert torch.equal(again(images()), made(images()))
    monkeypatch.setitem(globals(), "SHIFTED", True)
    with pytest.raises(ValueError, match=r"spike times differ on a sample.*strict=False"):
        again.load(tmp_path / "network.pt")
    again.load_state_dict(torch.load(tmp_path / "network.pt", weights_only=True), strict=False)
    other = network()
    other.encoder.filter = Hidden(1)
    other.encoder.filter.power = 2
    with pytest.raises(ValueError, match=r"filter\.power is 'no number' there, 2 here"):
        other.load(tmp_path / "network.pt")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1j])
def test_weights_that_are_no_numbers_are_refused(value):
    made, want = network(), network().stages[1].layer.weight
    state = network().state_dict()
    weight = state["stages.1.layer.weight"].clone()
    weight = weight.to(torch.complex64) if isinstance(value, complex) else weight
    weight.view(-1)[::100] = value
    for strict in (True, False):
        with pytest.raises(RuntimeError, match=r"stages\.1\.layer\.weight must be real and finite"):
            made.load_state_dict({**state, "stages.1.layer.weight": weight}, strict=strict)
    assert torch.equal(made.stages[1].layer.weight, want)
    rule, conv = STDP(Convolution(1, 2, 3), (0.1, -0.1)), Convolution(1, 2, 3)
    with pytest.raises(RuntimeError, match="ltp_1"):
        rule.load_state_dict({**rule.state_dict(), "ltp_1": torch.tensor([torch.nan])})
    with pytest.raises(RuntimeError, match=r"weight must be real and finite"):
        conv.load_state_dict({"weight": torch.full((2, 1, 3, 3), value)})
    readout = LinearReadout((1, 2, 2), 2, time_steps=T)
    with pytest.raises(RuntimeError, match="bias"):
        readout.load_state_dict({**readout.state_dict(), "bias": torch.tensor([0.0, torch.nan])})


def test_shipped_weights_load_from_a_zipped_package(tmp_path):
    package = Path(spyketorch.__file__).parent
    with zipfile.ZipFile(tmp_path / "package.zip", "w") as archive:
        for path in [*package.rglob("*.py"), package / "weights" / "mozafari2018.pt"]:
            archive.write(path, path.relative_to(package.parent))
    script = "from spyketorch import models; print(models.__file__, models.mozafari2018(pretrained=True))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "package.zip")}
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "package.zip" in run.stdout


def test_files_of_the_first_version_load(tmp_path):
    made, again = network(), network()
    made.stages[1].layer.weight.mul_(0.5)
    old = {name: value for name, value in made.state_dict().items() if name.endswith("weight")}
    torch.save(old, tmp_path / "network.pt")
    again.load(tmp_path / "network.pt")
    assert torch.equal(again.stages[1].layer.weight, made.stages[1].layer.weight)
    again.load_state_dict(old)


def test_flipped_bits_of_networks(tmp_path):
    made, path = network(), tmp_path / "network.pt"
    made.save(path)
    other = network()

    def read():
        other.load(path)
        return other.state_dict()

    def same(state):
        return all(torch.equal(value, state[name]) for name, value in made.state_dict().items())

    assert refused_or_whole(path, read, same) == 600


def test_what_is_no_file_of_a_network(tmp_path):
    with pytest.raises(FileNotFoundError, match="none"):
        network().load(tmp_path / "none.pt")
    with pytest.raises(TypeError, match="`path`"):
        network().load(3)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match=r"`path`.*list\.pt"):
        network().load(tmp_path / "list.pt")
    state = network().state_dict()
    texts = ["{}", "[]", '{"settings": 7, "sample": null}', '{"settings": {}, "sample": {"images": [99999, 99999]}}']
    texts += ['{"settings": {}, "sample": 7}', '{"settings": {}, "sample": {"images": [1.5], "answers": []}}']
    extra = [torch.tensor(list(text.encode()), dtype=torch.uint8) for text in texts]
    for wrong in (torch.zeros(3, dtype=torch.uint8), torch.zeros(0, dtype=torch.uint8), "text", torch.ones(2), *extra):
        with pytest.raises(ValueError, match=r"`state_dict`"):
            network().load_state_dict({**state, "_extra_state": wrong})


def test_networks_that_do_not_fit_together():
    made = network()
    with pytest.raises(ValueError, match="stages"):
        Network(made.encoder, None)
    with pytest.raises(ValueError, match="time_steps"):
        Network(LatencyEncoder(torch.nn.Identity(), T + 1), made.stages)
    other = Stage(SpikingConvolution(3, 4, 2, time_steps=T + 1))
    with pytest.raises(ValueError, match="time_steps"):
        Network(torch.nn.Identity(), [made.stages[0], other])
    with pytest.raises(ValueError, match="images"):
        made(images()[0])


def test_networks_tell_what_they_are():
    text = repr(network())
    assert "classes=2" in text
    assert "threshold=2..4.5" in text
    assert "inhibit=True" in repr(network(inhibit=True))


class Mute(Stage):
    """A stage of the user's own that silences its layer."""

    def forward(self, times):
        return torch.full_like(self.layer(times), T)


class Muted(torch.nn.Module):
    def forward(self, times):
        return torch.full_like(times, T)


def hooked(stage):
    stage.register_forward_hook(lambda module, given, answer: torch.full_like(answer, T))
    return stage


@pytest.mark.parametrize(
    "stage",
    [Mute, lambda layer: Stage(layer, Muted()), lambda layer: Stage(layer, shortcut=Muted())],
    ids=["forward", "pool", "shortcut"],
)
def test_nothing_stands_behind_a_layer_that_decides(stage):
    def deciding():
        return SpikingConvolution(1, 4, 3, 1.0, time_steps=T, padding=1)

    with pytest.raises(ValueError, match="nothing behind it is heard"):
        Network(LatencyEncoder(torch.nn.Identity(), T), [stage(deciding())], [0, 0, 1, 1])
    made = Network(LatencyEncoder(torch.nn.Identity(), T), [stage(deciding())])
    made.readout = LinearReadout(tuple(made.features(images()).shape[1:]), 2, time_steps=T)
    assert (made(images()) == -1).all() or made.stages[0].shortcut is not None  # a read-out hears what is passed on


def test_what_is_put_behind_a_deciding_layer_later_is_refused():
    for change in (hooked, lambda stage: setattr(stage, "pool", Muted())):
        made = network()
        made(images())
        change(made.stages[-1])
        with pytest.raises(ValueError, match=r"`stages`\[-1\]"):
            made(images())


class Coder(torch.nn.Module):
    """An encoder of the user's own that does not tell its T."""

    def __init__(self, steps):
        super().__init__()
        self.inside = [LatencyEncoder(torch.nn.Identity(), steps)]  # in a list, so no module of it

    def forward(self, given):
        return self.inside[0](given)


def encoder(steps):
    return LatencyEncoder(torch.nn.Identity(), steps)


USES = {
    "forward": lambda made, given: made(given),
    "features": lambda made, given: made.features(given),
    "parts": lambda made, given: list(made.parts(given)),
    "summary": lambda made, given: made.summary(given),
    "evaluate": lambda made, given: evaluate(made, given, [0] * len(given)),
    "wrapped": lambda made, given: evaluate(torch.nn.Sequential(made), given, [0] * len(given)),
    "stimuli": lambda made, given: get_mean_stimuli(made, 0, given),
    "trainer": lambda made, given: Trainer(made, [Unsupervised()], progress=False).fit(given),
}


@pytest.mark.parametrize("use", USES)
def test_every_part_has_the_same_time_steps(use):
    for change in (
        lambda made: setattr(made, "encoder", encoder(T - 2)),
        lambda made: setattr(made.encoder, "time_steps", T - 2),
        lambda made: setattr(made.stages[1].layer, "time_steps", T + 2),
        lambda made: setattr(made, "readout", LinearReadout((4, 1, 1), 2, time_steps=T - 2)),
    ):
        made = network()
        made(images())
        change(made)
        with pytest.raises(ValueError, match="the same `time_steps`"):
            USES[use](made, images())


def test_time_steps_are_found_within_an_encoder():
    wrapped = torch.nn.Sequential(torch.nn.Identity(), encoder(T - 2))
    with pytest.raises(ValueError, match=r"`encoder.1` has 4"):
        Network(wrapped, network().stages, [0, 0, 1, 1])


def test_an_encoder_that_does_not_tell_its_time_steps_is_asked_once():
    made = Network(Coder(T - 2), network().stages, [0, 0, 1, 1])
    with pytest.warns(InputWarning, match=r"blank image by the time 4 everywhere"):
        made(images())
    made(images())  # warned of once
    made.encoder = Coder(T)
    assert made(images())[2] == -1


@pytest.mark.parametrize("use", [use for use in USES if use not in ("forward", "features", "parts")])
def test_numbers_that_are_none_are_named(use):
    def other_readout(made):
        made.readout = torch.nn.Linear(4, 2).requires_grad_(False)
        made.readout.weight.fill_(torch.nan)

    for change in (
        lambda made: made.stages[0].layer.weight.data[0].fill_(torch.nan),
        lambda made: made.stages[0].layer.threshold.fill_(torch.nan),
        lambda made: made.stages[1].layer.weight.data[0].fill_(torch.inf),
        other_readout,
    ):
        made = network()
        change(made)
        with pytest.raises(ValueError, match=r"`(stages\.\d\.layer|readout)\.\w+` must be finite everywhere"):
            USES[use](made, images())


@pytest.mark.parametrize("name", ["Network", "Stage", "_Strongest"])
def test_networks_that_were_pickled_whole_are_found(name):
    """Where 0.1 had them."""
    assert pickle.loads(f"cspyketorch.models\n{name}\n.".encode()).__name__ == name


@pytest.mark.parametrize("name", ["mozafari2019", "kheradpisheh2018"])
@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))], ids=["copy", "pickle"]
)
def test_a_copy_says_the_same_of_itself(name, clone):
    """To the byte, as ``testing.check_lesson`` compares it."""
    made = getattr(models, name)()
    assert torch.equal(clone(made).get_extra_state(), made.get_extra_state())


@pytest.mark.parametrize("name", ["mozafari2019", "kheradpisheh2018"])
def test_networks_that_were_pickled_whole_by_0_1_answer(name):
    """Their parts lack what they have got since."""
    new = getattr(models, name)(pretrained=True)
    added = {"images", "_names", "_shape", "_probed", "neuron", "earliest", "channels", "shape"}
    old = copy.deepcopy(new)
    for part in old.modules():
        for attribute in added & vars(part).keys():
            del vars(part)[attribute]
    again = pickle.loads(pickle.dumps(old))
    images = torch.rand(3, 1, 28, 28) * 255
    assert torch.equal(again(images), new(images))
    assert again.predict(images) == new.predict(images)
    assert repr(again) == repr(new)
    if new.readout is None:
        new.load_state_dict(again.state_dict())
