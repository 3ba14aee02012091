"""Learning batches of waves, in exact online order or from one forward pass, by any rule."""

from torch import Tensor

from spyketorch import _checks as check
from spyketorch import functional as sf
from spyketorch.functional import Winner
from spyketorch.learning._rule import Rule
from spyketorch.learning._winners import Judge, Respond


def online(
    rule: Rule, input_spikes: Tensor, respond: Respond, kwta: int, radius: int, judge: Judge | None = None
) -> list[list[Winner]]:
    _check_loop(input_spikes, respond, judge)
    history: list[list[Winner]] = []
    for i, wave in enumerate(input_spikes):
        potentials, spikes = _answer(respond, wave)
        winners: list[Winner] = sf.get_k_winners(potentials, kwta, radius, spikes)
        verdict = () if judge is None else (judge(i, winners),)
        rule(wave, potentials, spikes, *verdict, winners=winners)
        history.append(winners)
    return history


def minibatch(
    rule: Rule, input_spikes: Tensor, respond: Respond, kwta: int, radius: int, judge: Judge | None = None
) -> list[list[Winner]]:
    _check_loop(input_spikes, respond, judge)
    potentials, spikes = _answer(respond, input_spikes)
    history: list[list[Winner]] = sf.get_k_winners(potentials, kwta, radius, spikes)
    verdict = () if judge is None else ([judge(i, winners) for i, winners in enumerate(history)],)
    rule(input_spikes, potentials, spikes, *verdict, winners=history)
    return history


def _answer(respond: Respond, wave: Tensor) -> tuple[Tensor, Tensor]:
    answer = respond(wave)
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise check.fail_type("respond", "a function that returns (potentials, output_spikes)", answer)
    return answer[0], answer[1]


def _check_loop(input_spikes: Tensor, respond: Respond, judge: Judge | None) -> None:
    if check.wave(input_spikes, "input_spikes").ndim != 5:
        raise check.fail("input_spikes", "a batch of shape (N, T, C, H, W)", input_spikes)
    check.callable_(respond, "respond")
    if judge is not None:
        check.callable_(judge, "judge")
