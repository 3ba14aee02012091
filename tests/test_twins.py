"""Rules with a compiled twin, thresholds that adapt, mini-batches and groups: loops and torch learn the same."""

import math
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spyketorch import _checks as check
from spyketorch import learning, snn
from spyketorch.kernels import plain
from spyketorch.learning import _back_ends

ROOT = Path(__file__).resolve().parents[1]
STEPS = 9


@pytest.fixture(autouse=True, scope="module")
def loops():
    """Without numba there is nothing to compare."""
    pytest.importorskip("numba")


def spikes(*shape, seed=0, silent=0.3):
    draw = torch.Generator().manual_seed(seed)
    times = torch.randint(STEPS, shape, generator=draw, dtype=torch.uint8)
    return torch.where(torch.rand(shape, generator=draw) < silent, STEPS, times).to(torch.uint8)


def layer(threshold: Any = 2.0, features=6, groups=1, seed=0, **options):
    made = snn.SpikingConvolution(4, features, 3, threshold, time_steps=STEPS, groups=groups, **options)
    draw = torch.Generator().manual_seed(seed)
    made.load_weight(torch.randint(16, 49, made.weight.shape, generator=draw) / 64)
    return made


def in_torch():
    """The last resort alone."""
    return mock.patch.object(_back_ends, "BACK_ENDS", (_back_ends.InTorch(),))


def both(learn):
    """What ``learn(layer)`` gives and leaves, in loops and in torch."""
    found = []
    for way in (mock.patch.object(_back_ends, "BACK_ENDS", _back_ends.BACK_ENDS[:1]), in_torch()):
        with way:
            found.append(learn())
    return found


BETA = 0.5


class Bounded(NamedTuple):
    """A twin of the tests' own."""

    changed: np.ndarray

    def change(self, synapse):
        self.changed[synapse.feature] += 1
        return synapse.ltp * (1 - synapse.weight) * BETA if synapse.causal else synapse.ltd * synapse.weight * BETA


class BoundedSTDP(learning.STDP):
    """Has a state of its own: how many synapses of each feature were changed."""

    count: torch.Tensor

    def __init__(self, conv, *args, **options):
        super().__init__(conv, *args, **options)
        self.register_buffer("count", torch.zeros(conv.out_channels))

    def change(self, synapses):
        self.count.index_add_(
            0, synapses.features, torch.full((len(synapses.features),), synapses.weight[0].numel()).float()
        )
        towards = torch.where(synapses.causal, synapses.ltp * (1 - synapses.weight), synapses.ltd * synapses.weight)
        return towards * BETA

    def compiled(self):
        return Bounded(self.count.numpy())


RULES = {
    "standard": lambda conv: learning.STDP(conv, (0.25, -0.125), False),
    "multiplicative": lambda conv: learning.MultiplicativeSTDP(conv, (0.1, -0.05), steepness=2.0),
    "voltage-dependent": lambda conv: learning.VDSP(conv, (0.25, -0.125), rest=0.25),
    "integers": lambda conv: learning.IntegerSTDP(conv, (0.1, -0.05), bits=4),
    "target time": lambda conv: learning.MultiplicativeSTDP(conv, thresholds=learning.TargetTime(0.5, 0.25, 1.0)),
    "standard, target time": lambda conv: learning.STDP(conv, (0.25, -0.125), thresholds=learning.TargetTime(0.25)),
    "of one's own": lambda conv: BoundedSTDP(conv, (0.125, -0.125)),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("minibatch", [1, 4])
@pytest.mark.parametrize("inhibit", [True, False])
def test_twins_learn_what_their_rules_do(rule, minibatch, inhibit):
    times = spikes(23, 4, 7, 7)

    def learn():
        made = rule(layer())
        assert made.why_not(times, 3, 1, minibatch=minibatch) is None or _back_ends.BACK_ENDS[0].slow
        found = made.learn(times, 3, 1, minibatch=minibatch, pointwise_inhibition=inhibit)
        return found, {name: value.clone() for name, value in made.state_dict().items()}

    (winners, state), (wanted, known) = both(learn)
    assert torch.equal(winners, wanted)
    assert (winners[:, 0, 0] >= 0).sum() > 10
    for name, value in state.items():
        torch.testing.assert_close(value, known[name], atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_chunks_make_no_difference(rule):
    times, states = spikes(12, 4, 6, 6), []
    for size in (12, 1, 5):
        made = rule(layer())
        for part in times.split(size):
            made.learn(part, 2, 1)
        states.append(made.state_dict())
    for state in states[1:]:
        assert all(torch.equal(value, states[0][name]) for name, value in state.items())


@pytest.mark.parametrize("multiplicative", [True, False])
def test_against_the_oracle(multiplicative):
    """Multiplicative STDP, and target times, as published: one winner of each patch, farthest above its threshold."""
    times, made = spikes(40, 4, 3, 3, silent=0.1), layer(5.0, seed=3)
    made.threshold = torch.arange(6) / 4 + 4
    weight, threshold = made.weight.detach().double().numpy().copy(), made.threshold.double().numpy().copy()
    target = learning.TargetTime(0.5, 0.25, 3.0)
    rule = (
        learning.MultiplicativeSTDP(made, (0.1, -0.1), thresholds=target)
        if multiplicative
        else learning.STDP(made, (0.1, -0.1), False, thresholds=target)
    )
    winners = rule.learn(times)[:, 0, 0].tolist()
    for sample, winner in zip(times.numpy(), winners, strict=True):
        assert winner == reference.target_time(weight, threshold, sample, STEPS, (0.5, 0.25, 3.0), multiplicative)
    np.testing.assert_allclose(made.weight.numpy(), weight, atol=1e-5)
    np.testing.assert_allclose(made.threshold.numpy(), threshold, atol=1e-4)


def test_a_layer_that_fell_silent_answers_again():
    made = layer(200.0)
    rule = learning.MultiplicativeSTDP(made, thresholds=learning.TargetTime(0.75, 2.0))
    winners = rule.learn(spikes(900, 4, 4, 4, silent=0.1))
    assert winners[0, 0, 0] == -1
    assert (winners[-50:, 0, 0] >= 0).all()


def test_thresholds_need_a_layer_that_has_one():
    with pytest.raises(TypeError, match="`conv_layer` must be a layer with a threshold"):
        learning.STDP(layer(None), (0.1, -0.1), thresholds=learning.TargetTime())
    with pytest.raises(TypeError, match="`thresholds` must be None, or a NamedTuple"):
        learning.STDP(layer(), (0.1, -0.1), thresholds=0.75)
    with pytest.raises(TypeError, match="`thresholds` must be None, or a NamedTuple"):
        learning.STDP(layer(), (0.1, -0.1), thresholds=learning.TargetTime)  # not made


def test_a_subclass_of_a_rule_with_a_twin_is_heard():
    """The twin speaks for what its own class inherits, not for what others put in its place."""

    class Still(learning.MultiplicativeSTDP):
        def change(self, synapses):
            return 0 * synapses.weight

    times, made = spikes(9, 4, 6, 6), layer()
    still, before = Still(made), made.weight.clone()
    assert still.why_not(times) == "the rule has its own change"
    still.learn(times)
    assert torch.equal(made.weight, before)
    patched = learning.MultiplicativeSTDP(made)
    patched.change = lambda synapses: 0 * synapses.weight  # type: ignore[method-assign]
    patched.learn(times)
    assert torch.equal(made.weight, before)
    with mock.patch.object(learning.STDP, "change", lambda self, synapses: 0 * synapses.weight):
        rule = learning.STDP(made, (0.5, -0.5))
        rule.modulation = lambda synapses: torch.ones(())
        rule.learn(times)
    assert torch.equal(made.weight, before)


def test_what_a_twin_reads_may_change(monkeypatch):
    """Numba takes the values of globals once; a later one is heard all the same."""
    times, changes = spikes(5, 4, 6, 6), []
    for beta in (0.5, 0.25, 0.5):
        monkeypatch.setattr(sys.modules[__name__], "BETA", beta)
        made = layer()
        before = made.weight.clone()
        BoundedSTDP(made, (0.0625, -0.0625)).learn(times[:1])
        changes.append((made.weight - before).abs().sum().item())
    assert math.isclose(changes[0], 2 * changes[1], rel_tol=1e-3)
    assert changes[2] == changes[0]


def test_a_twin_defined_anew_is_another():
    """As in a notebook, where a cell is edited and run again."""
    for sign in (1, -1):

        class Twin(NamedTuple):
            size: float

            def change(self, synapse, sign=sign):
                return self.size * sign

        class Rule(learning.STDP):
            def compiled(self, twin=Twin):
                return twin(0.125)

        made = layer(0.5)
        before = made.weight.clone()
        Rule(made, (0.5, -0.5)).learn(spikes(1, 4, 6, 6))
        assert (made.weight - before).sum().sign() == sign


SCRIPT = """
    import sys
    from typing import NamedTuple
    import torch
    from spyketorch import learning, snn

    class Twin(NamedTuple):
        size: float
        def change(self, synapse):
            return self.size * FACTOR

    class Rule(learning.STDP):
        def change(self, synapses):
            raise AssertionError("not compiled")
        def compiled(self):
            return Twin(0.125)

    layer = snn.SpikingConvolution(1, 1, 2, 0.5, 0.5, 0.0, time_steps=3)
    Rule(layer, (0.5, -0.5)).learn(torch.zeros(1, 1, 2, 2, dtype=torch.uint8))
    print(layer.weight[0, 0, 0, 0].item())
    Rule(layer, (0.5, -0.5)).learn(torch.zeros(1, 1, 2, 2, dtype=torch.uint8))
    from spyketorch.kernels.loops import learn
    assert len(learn.learn.overloads) == 1, "what was kept is the loop of this class, not of one of its name"
    Rule(layer, (0.5, -0.5)).learn(torch.zeros(1, 1, 2, 2, dtype=torch.int16))  # another loop around a kept one
"""


def test_twins_are_kept_between_processes_until_they_are_edited(tmp_path):
    script, cache = tmp_path / "rule.py", tmp_path / "cache"

    def run(factor):
        script.write_text(textwrap.dedent(SCRIPT).replace("FACTOR", factor), encoding="utf-8")
        code = f"import os, runpy; os.environ['NUMBA_CACHE_DIR'] = {str(cache)!r}; runpy.run_path({str(script)!r})"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return float(done.stdout), len(list(cache.rglob("loops-*/*")))

    first, again, edited = run("1"), run("1"), run("2")
    assert first == again, "the second process finds the loops of the first"
    assert (first[0], edited[0]) == (0.625, 0.75)
    assert edited[1] > first[1]


def test_a_twin_that_numba_cannot_compile_is_named():
    class Broken(NamedTuple):
        size: float

        def change(self, synapse):
            return str(synapse)

    class Rule(learning.STDP):
        def compiled(self):
            return Broken(1.0)

    with pytest.raises(TypeError, match=r"`change` of .*Broken.*must be plain code on numbers"):
        Rule(layer(), (0.1, -0.1)).learn(spikes(2, 4, 6, 6))


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 99), size=st.sampled_from([2, 3, 64]), correction=st.sampled_from([None, "guess", "teach"]),
    threshold=st.sampled_from([None, 3.0]), dropout=st.sampled_from([0.0, 0.5]), kwta=st.sampled_from([1, 2]),
)  # fmt: skip
def test_mini_batches_by_reward(seed, size, correction, threshold, dropout, kwta):
    """The first decision of each sample is that of the weights before the mini-batch, further ones of those so far."""
    times, labels, classes = spikes(11, 4, 5, 5, seed=seed), torch.arange(11) % 3, torch.arange(6) % 3
    active = torch.rand(11, 6, generator=torch.Generator().manual_seed(seed)) >= dropout

    def learn():
        made = layer(threshold, seed=seed)
        rule = learning.RSTDP(made, (0.125, -0.0625), (-0.125, 0.03125), False, 0.25, 0.75)
        options = {"correction": correction, "active": active, "minibatch": size}
        return rule.learn(times, labels, classes, kwta, 1, **options), made.weight

    (winners, weight), (wanted, known) = both(learn)
    assert torch.equal(winners, wanted)
    assert torch.equal(weight, known)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 99), threshold=st.sampled_from([None, 2.0]), groups=st.sampled_from([1, 2]),
    kwta=st.sampled_from([1, 3]), size=st.sampled_from([1, 2, 5, 64]), stabilizer=st.booleans(),
    rewarded=st.booleans(), memory=st.sampled_from([1, 5000, 2**28]),
)  # fmt: skip
def test_the_standard_rule_in_few_operations(seed, threshold, groups, kwta, size, stabilizer, rewarded, memory):
    """What is found for all winners at once is what each would find: the same bits, of any weights."""
    times, labels, classes = spikes(11, 4, 5, 6, seed=seed), torch.arange(11) % 3, torch.arange(6) % 3

    def task(made):
        if rewarded:
            rule: Any = learning.RSTDP(made, (0.1, -0.05), (-0.1, 0.03), stabilizer, 0.2, 0.8)
            return rule._task(times, labels, classes, kwta, 1, minibatch=size)
        rule = learning.STDP(made, [(0.01 * i, -0.03) for i in range(6)], stabilizer)
        return rule._task(times, kwta, 1, minibatch=size)

    with mock.patch.object(plain, "MEMORY", memory):
        few_and_each(task, lambda: layer(threshold, groups=groups, seed=seed, stride=(1, 2), padding=1))


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 99), threshold=st.sampled_from([None, 2.0, -1.0]), groups=st.sampled_from([1, 2]),
    size=st.sampled_from([1, 3, 64]), stabilizer=st.booleans(), inhibit=st.booleans(), dropout=st.booleans(),
    correction=st.sampled_from(["guess", "teach"]), lower=st.sampled_from([-0.4, 0.3]),
    classes=st.lists(st.sampled_from([-3, 0, 1, 7]), min_size=6, max_size=6),
)  # fmt: skip
def test_all_decisions_after_a_wrong_one_at_once(
    seed, threshold, groups, size, stabilizer, inhibit, dropout, correction, lower, classes
):
    """They are those that would be made one after the other; labels that no feature has, and weights out of bounds."""
    random = torch.Generator().manual_seed(seed)
    times, labels = spikes(11, 4, 5, 6, seed=seed), torch.tensor([-3, 0, 1, 7, 8])[torch.arange(11) % 5]
    active = torch.rand(11, 6, generator=random) < 0.6 if dropout else None

    def made():
        one = layer(threshold, groups=groups, stride=(1, 2), padding=1)
        one.load_weight(torch.randint(-32, 65, one.weight.shape, generator=random.manual_seed(seed)) / 64)
        return one

    def task(made):
        rule = learning.RSTDP(made, (0.1, -0.05), (-0.1, 0.03), stabilizer, lower, 0.6)
        options: Any = {"correction": correction, "active": active, "minibatch": size}
        return rule._task(times, labels, torch.tensor(classes), pointwise_inhibition=inhibit, **options)

    few_and_each(task, made)


def few_and_each(task, made):
    """What a task learns in few operations, where they serve it, is what it learns one decision after the other."""
    few, each = made(), made()
    with mock.patch.object(check, "free_to_read", lambda _: False):
        if _back_ends.StandardInTorch().why_not(task(few)) is not None:
            return
    found, wanted = _back_ends.StandardInTorch().learn(task(few)), _back_ends.InTorch().learn(task(each))
    assert torch.equal(found, wanted)
    assert torch.equal(few.weight, each.weight)


def test_what_few_operations_do_not_serve():
    way, times, labels, classes = _back_ends.StandardInTorch(), spikes(4, 4, 5, 5), [0] * 4, [0] * 6
    rule, rewarded = learning.STDP(layer(), (0.1, -0.1)), learning.RSTDP(layer(), (0.1, -0.1), (-0.1, 0.1))
    own = RULES["of one's own"](layer())
    again: Any = {"correction": "guess", "minibatch": 2}
    assert way.why_not(rule._task(times, 1, 0, minibatch=2)) is None
    assert way.why_not(rule._task(times, 1, 0)) == "samples are looked at one by one"
    assert way.why_not(rewarded._task(times, labels, classes, **again)) == "samples are looked at one by one"
    assert way.why_not(own._task(times, 1, 0, minibatch=2)) == "the rule has its own change"
    with mock.patch.object(check, "free_to_read", lambda _: False):
        assert way.why_not(rule._task(times, 1, 0)) is None
        assert way.why_not(rewarded._task(times, labels, classes, **again)) is None
        reasons = [
            way.why_not(rewarded._task(times, labels, classes, 2, **again)),
            way.why_not(rewarded._task(times, labels, classes, pointwise_inhibition=True, **again)),
        ]
        with mock.patch.object(plain, "MEMORY", 100):
            reasons.append(way.why_not(rewarded._task(times, labels, classes, **again)))
    assert reasons == [
        "winners of several classes learn before a sample is decided again",
        "neurons that cannot win may inhibit others",
        "maps of 1 classes do not fit into memory",
    ]


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 99), groups=st.sampled_from([2, 4]), inhibit=st.booleans(), size=st.sampled_from([1, 3]))
def test_groups(seed, groups, inhibit, size):
    times = spikes(7, 4, 6, 6, seed=seed)

    def learn():
        made = layer(1.0, features=8, groups=groups, seed=seed, stride=(1, 2), padding=1)
        rule = learning.STDP(made, (0.125, -0.0625), False)
        assert torch.equal(made.winners(times[:2], 3, 1), made.winners(times, 3, 1)[:2])
        return rule.learn(times, 3, 1, pointwise_inhibition=inhibit, minibatch=size), made.weight

    (winners, weight), (wanted, known) = both(learn)
    assert torch.equal(winners, wanted)
    assert torch.equal(weight, known)


def test_writes_between_calls_are_heard():
    """Layouts are kept from call to call; nothing that writes to a weight is missed."""
    times, made = spikes(6, 4, 6, 6), layer()
    made.winners(times)

    def swap():
        made.weight = torch.nn.Parameter(1 - made.weight, requires_grad=False)

    writes = [
        lambda: made.weight.data.mul_(0.5),
        lambda: made.weight.detach().numpy().__setitem__(0, 0.75),
        lambda: made.weight.data[3, 1].fill_(0.0),
        swap,
    ]
    for threshold in (2.0, None):
        made.threshold = threshold
        for write in writes:
            write()
            with in_torch():
                fresh = snn.SpikingConvolution(4, 6, 3, threshold, time_steps=STEPS)
                fresh.load_weight(made.weight)
            assert torch.equal(made.winners(times, 2), fresh.winners(times, 2))
            learning.STDP(made, (0.0625, -0.0625)).learn(times, 2, pointwise_inhibition=threshold is not None)
            learning.STDP(fresh, (0.0625, -0.0625)).learn(times, 2, pointwise_inhibition=threshold is not None)
            assert torch.equal(made.weight, fresh.weight)


def test_a_weight_that_became_nan_is_named_and_mends():
    times, made = spikes(4, 4, 6, 6), layer()
    for threshold in (2.0, None):
        made.threshold = threshold
        before = made.winners(times)
        kept = made.weight[2, 1, 0, 0].item()
        made.weight.data[2, 1, 0, 0] = math.nan
        for call in (made.winners, learning.STDP(made, (0.1, -0.1)).learn):
            with pytest.raises(ValueError, match="finite"):
                call(times)
        made.weight.data[2, 1, 0, 0] = kept
        assert torch.equal(made.winners(times), before)


class Refusing(_back_ends.InTorch):
    """A back end of the tests' own."""

    slow = "it is slow"
    served = 0

    def why_not(self, task):
        return None if task.minibatch == 3 else "it serves mini-batches of 3 alone"

    def learn(self, task):
        self.served += 1
        return super().learn(task)


def test_a_back_end_is_one_entry():
    times, mine = spikes(6, 4, 6, 6), Refusing()
    with mock.patch.object(_back_ends, "BACK_ENDS", (mine, *_back_ends.BACK_ENDS)):
        rule = learning.STDP(layer(), (0.1, -0.1))
        assert rule.why_not(times) == "it serves mini-batches of 3 alone"
        assert rule.why_not(times, minibatch=3) is None
        rule.learn(times)
        assert mine.served == 0
        rule.learn(times, minibatch=3)
    assert mine.served == 1
