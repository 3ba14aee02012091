"""A short training on real digits, against its recorded outcome.

All weights and rates are multiples of 1/64, so every sum is exact in float32: machines, threads and versions agree to
the bit. When semantics change on purpose, run this file (``python tests/test_golden.py``) and record what it prints.
"""

import torch
from sklearn.datasets import load_digits

from spyketorch import functional as sf
from spyketorch import snn
from spyketorch.encoding import Intensity2Latency

RECORDED = {
    "winners": [2, 300, 81752],
    "hidden": [23906, 1190192],
    "decisions": [6, 8, 6, 8, 6, 2, 7, 6, 6, 2, 1, 3, 8, 1, 6, 6, 7, 8, 6, 2],
    "weights": [59337, 6277295],
}


def train() -> dict[str, list[int]]:
    images = torch.from_numpy(load_digits().images[:150]).float().unsqueeze(1)
    waves = Intensity2Latency(7, to_spike=True)(images)
    conv1, conv2 = snn.Convolution(1, 6, 3), snn.Convolution(6, 10, 3)
    for conv in (conv1, conv2):
        count = conv.weight.numel()
        conv.load_weight(((torch.arange(count) * 37 % 19 + 32) / 64).view_as(conv.weight))
    stdp = snn.STDP(conv1, (2 / 64, -1 / 64), use_stabilizer=False)
    rstdp = snn.RSTDP(conv2, (2 / 64, -1 / 64), (-2 / 64, 1 / 64), lower_bound=0.25, upper_bound=0.75)

    def first(wave):
        spikes, potentials = sf.fire(conv1(wave), 3, return_thresholded_potentials=True)
        return sf.pointwise_inhibition(potentials), spikes

    def second(wave):
        spikes, potentials = sf.fire(conv2(wave), return_thresholded_potentials=True)
        return potentials, spikes

    early = stdp.online(waves, first, kwta=2, inhibition_radius=1)
    hidden = sf.pooling(first(waves)[1], 2)
    late = rstdp.minibatch(hidden, second, lambda i, winners: 1 if i % 3 else -1)
    return {
        "winners": [len(early[0]), sum(map(len, early)), sum(f + 10 * r + 100 * c for w in early for f, r, c in w)],
        "hidden": [int(hidden.sum()), int((hidden * torch.arange(hidden[0].numel()).view_as(hidden[0]) % 97).sum())],
        "decisions": [w[0][0] for w in late[:20]],
        "weights": [
            int((c.weight.double().flatten() * 64 * torch.arange(c.weight.numel())).sum()) for c in (conv1, conv2)
        ],
    }


def test_training_ends_as_recorded():
    assert train() == RECORDED


if __name__ == "__main__":
    print(train())
