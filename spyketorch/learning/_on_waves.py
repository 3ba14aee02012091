"""Learning batches of waves, in exact online order or from one forward pass, by any rule."""

from torch import Tensor

from spyketorch import _checks as check
from spyketorch import functional as sf
from spyketorch._plasticity import Inputs
from spyketorch.functional import Winner
from spyketorch.learning._rule import Rule
from spyketorch.learning._synapses import as_option
from spyketorch.learning._winners import Judge, Respond


def online(
    rule: Rule, inputs: Inputs, respond: Respond, choice: tuple[int, int], judge: Judge | None = None
) -> list[list[Winner]]:
    """``choice`` is kwta and radius."""
    input_spikes, told = inputs
    _check_loop(inputs, respond, judge)
    history: list[list[Winner]] = []
    for i, wave in enumerate(input_spikes):
        potentials, spikes = _answer(respond, wave)
        winners: list[Winner] = sf.get_k_winners(potentials, *choice, spikes)
        verdict = () if judge is None else (judge(i, winners),)
        rule(wave, potentials, spikes, *verdict, winners=winners, **as_option(None if told is None else told[i]))
        history.append(winners)
    return history


def minibatch(
    rule: Rule, inputs: Inputs, respond: Respond, choice: tuple[int, int], judge: Judge | None = None
) -> list[list[Winner]]:
    """``choice`` is kwta and radius."""
    input_spikes, told = inputs
    _check_loop(inputs, respond, judge)
    potentials, spikes = _answer(respond, input_spikes)
    history: list[list[Winner]] = sf.get_k_winners(potentials, *choice, spikes)
    verdict = () if judge is None else ([judge(i, winners) for i, winners in enumerate(history)],)
    rule(input_spikes, potentials, spikes, *verdict, winners=history, **as_option(told))
    return history


def _answer(respond: Respond, wave: Tensor) -> tuple[Tensor, Tensor]:
    answer = respond(wave)
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise check.fail_type("respond", "a function that returns (potentials, output_spikes)", answer)
    return answer[0], answer[1]


def _check_loop(inputs: Inputs, respond: Respond, judge: Judge | None) -> None:
    input_spikes, told = inputs
    if check.wave(input_spikes, "input_spikes").ndim != 5:
        raise check.fail("input_spikes", "a batch of shape (N, T, C, H, W)", input_spikes)
    if told is not None and len(check.tensor(told, "input_potentials")) != len(input_spikes):
        raise check.fail("input_potentials", f"None, or a tensor (N, C, H, W) of {len(input_spikes)} samples", told)
    check.callable_(respond, "respond")
    if judge is not None:
        check.callable_(judge, "judge")
