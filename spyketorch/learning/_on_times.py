"""Learning from first-spike times: one sample after the other, each on the weights that the one before left."""

from torch import Tensor

from spyketorch.kernels import serving
from spyketorch.learning import _back_ends
from spyketorch.learning._back_ends import BackEnd
from spyketorch.learning._task import Task as Task
from spyketorch.learning._task import checked as checked
from spyketorch.learning._task import task_of as task_of


def back_end(task: Task) -> tuple[BackEnd, str | None]:
    """The fastest way that serves a task, and why the fastest of all does not."""
    reason = None
    for way in _back_ends.BACK_ENDS:
        found = way.why_not(task)
        if found is None:
            return way, reason
        reason = reason or found
    raise AssertionError("torch serves every task")


def learn(task: Task) -> Tensor:
    """The winners of each sample, ``(N, kwta, 3)``; the weights of the layer have learned."""
    way, reason = back_end(task)
    if reason is not None:
        serving.say_slow(way.slow, task.layer.weight, reason)
    return way.learn(task)
