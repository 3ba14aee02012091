"""Trials that are off unless the environment asks for them: no device that they are for has measured them yet."""

import os


def why_off(what: str, switch: str) -> str | None:
    """Why a trial is not made, or None where its switch is on."""
    on = os.environ.get(switch) == "1"
    return None if on else f"{what} not switched on, which {switch}=1 in the environment does"
