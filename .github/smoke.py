"""What must work wherever the package is installed: a tiny training, shipped weights, the typing marker."""

from pathlib import Path

import torch

import spyketorch
from spyketorch import latency, models, snn

home = Path(spyketorch.__file__).parent
assert (home / "py.typed").is_file(), home
torch.manual_seed(0)
layer = snn.SpikingConvolution(1, 4, 3, threshold=3, weight_std=0.05, time_steps=8)
before = layer.weight.clone()
times = latency.rank_order(torch.rand(50, 1, 9, 9), 8)
winners = snn.STDP(layer, (0.05, -0.03)).learn(times, kwta=2)
assert winners.shape == (50, 2, 3), winners.shape
assert not torch.equal(layer.weight, before)
images = (torch.rand(3, 1, 28, 28) * 255).round()
for name in ("mozafari2019", "kheradpisheh2018"):
    decided = getattr(models, name)(pretrained=True)(images)
    assert decided.shape == (3,), decided
print("spyketorch", spyketorch.__version__, "in", home, "learns and decides")
