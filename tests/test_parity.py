"""Recorded calls of the original, where the script that holds them is at hand: SPYKETORCH_PARITY names it."""

import os
import subprocess
import sys

import pytest


@pytest.mark.skipif("SPYKETORCH_PARITY" not in os.environ, reason="SPYKETORCH_PARITY does not name the parity script")
def test_recorded_calls_of_the_original():
    done = subprocess.run([sys.executable, os.environ["SPYKETORCH_PARITY"]], capture_output=True, text=True)
    assert done.stdout.strip().splitlines()[-1:] == ["109 passed, 0 failed"], done.stdout + done.stderr
