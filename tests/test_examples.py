"""The examples run as a user runs them, in their short forms."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(script, *options):
    command = [sys.executable, str(EXAMPLES / script), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def accuracy(text, name):
    (figure,) = re.findall(rf"{name} accuracy (\d+\.\d) %", text)
    return float(figure)


def test_digits(tmp_path):
    told = run("digits.py", "--quick", "--seed", 3, "--out", tmp_path)
    assert accuracy(told, "held-out") > 20  # twice chance: it learns, if shortly
    assert (tmp_path / "digits.png").stat().st_size > 20_000
    assert not list(tmp_path.glob("*.part"))
    again = run("digits.py", "--evaluate", tmp_path / "digits.pt")
    assert accuracy(again, "held-out") == accuracy(told, "held-out")


def test_digits_without_the_model():
    command = [sys.executable, str(EXAMPLES / "digits.py"), "--evaluate", "nowhere.pt"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "nowhere.pt" in done.stderr.splitlines()[-1]


@pytest.mark.skipif("SPYKETORCH_MNIST" not in os.environ, reason="SPYKETORCH_MNIST does not name a folder with MNIST")
def test_mnist_mozafari(tmp_path):
    short = ("--data", os.environ["SPYKETORCH_MNIST"], "--limit", 100, "--epochs", 2, "--out", tmp_path)
    told = run("mnist_mozafari.py", *short)
    assert 0 <= accuracy(told, "test") <= 100
    saved = torch.load(tmp_path / "mnist_mozafari.pt", weights_only=True)
    assert (tmp_path / "mnist_mozafari.png").exists()
    again = run("mnist_mozafari.py", *short, "--resume")  # a finished run has nothing left to learn
    assert accuracy(again, "test") == accuracy(told, "test")
    resumed = torch.load(tmp_path / "mnist_mozafari.pt", weights_only=True)
    for name, value in saved.items():
        assert torch.equal(resumed[name], value), name
