"""Processes that share out work: those of torch.distributed, or this one alone."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from spyketorch import _checks as check
from spyketorch._identity import digest, hashed

_T = TypeVar("_T")


@dataclass(frozen=True)
class Processes:
    """Processes that train and test a network together, each on its share of the images; or this one alone.

    All run the same program on the same images, with the same network. They end with the same bits as one process:
    each image is answered to in one of them, and what is learned from the answers is learned in all of them, in one
    order.

    Args:
        rank: of this process, from 0 on.
        count: how many there are.

    Example:
        >>> with Processes.of_torchrun() as processes:  # a process that was started without is alone
        ...     print(processes, processes.first)
        Processes(rank=0, count=1) True
    """

    rank: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        check.integer(self.count, "count", 1)
        if check.integer(self.rank, "rank", 0) >= self.count:
            raise check.fail("rank", f"below {self.count}, the number of processes", self.rank)

    @staticmethod
    @contextmanager
    def of_torchrun() -> Iterator["Processes"]:
        """Those that ``torchrun`` started, or those of a process group that is there already; else this one alone.

        Tensors travel by gloo, those on GPUs by NCCL. Each process gets a GPU of its machine, which ``"cuda"`` names
        from then on.
        """
        if dist.is_available() and dist.is_initialized():
            yield Processes(dist.get_rank(), dist.get_world_size())
            return
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            yield Processes()
            return
        gpus = torch.cuda.is_available() and dist.is_nccl_available()
        if gpus:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        with _lost_told():
            dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
            try:
                yield Processes(dist.get_rank(), dist.get_world_size())
            finally:
                with suppress(RuntimeError):
                    dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files, prints and draws."""
        return self.rank == 0

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Within the block, mini-batches and the passes of a read-out are shared out among these processes."""
        token = _AT_WORK.set(self)
        try:
            yield
        finally:
            _AT_WORK.reset(token)

    # shares

    def share(self, count: int) -> slice:
        """This process' part of so many rows; the parts of all are all rows, and no row is in two."""
        size = -(-count // self.count)
        return slice(min(self.rank * size, count), min((self.rank + 1) * size, count))

    def part(self, count: int) -> slice:
        """Of so many rows, one at least, those that this process makes; all parts are of one size.

        The last ones share rows where the number of processes does not divide ``count``.
        """
        return _part(self.rank, self.count, count)

    def spread(self, work: Callable[[slice], Sequence[Tensor]], count: int) -> list[Tensor]:
        """What ``work`` makes of so many rows: each process does its :meth:`part`, and gets those of all, in order."""
        if self.count == 1:
            return list(work(slice(0, count)))
        parts = [part.contiguous() for part in work(self.part(count))]
        wholes = [part.new_empty(count, *part.shape[1:]) for part in parts]
        sent = torch.cat([_bytes(part) for part in parts])  # one message
        for rank, got in enumerate(self._of_all(sent)):
            rows = _part(rank, self.count, count)
            for whole, piece in zip(wholes, torch.split(got, [part.nbytes for part in parts]), strict=True):
                _bytes(whole[rows]).copy_(piece)
        return wholes

    def _of_all(self, sent: Tensor) -> list[Tensor]:
        """What each sends, by rank; all of one shape."""
        got = [torch.empty_like(sent) for _ in range(self.count)]
        _heard(dist.all_gather, got, sent)
        return got

    # what all know

    def sum_(self, tensor: Tensor) -> Tensor:
        """The sum over all processes; the same bits in any order where nothing is rounded."""
        if self.count > 1:
            _heard(dist.all_reduce, tensor)
        return tensor

    def any(self, truth: bool) -> bool:
        """Whether it is true in one of them."""
        return bool(self.sum_(torch.tensor(int(truth)))) if self.count > 1 else truth

    def told(self, work: Callable[[], _T]) -> _T:
        """What the first one makes, or the error that it raises."""
        if self.count == 1:
            return work()
        told: list[Any] = [None, None]
        if self.first:
            try:
                told[0] = work()
            except Exception as error:  # which all raise
                told[1] = error
        _heard(dist.broadcast_object_list, told)
        if told[1] is not None:
            raise told[1]
        made: _T = told[0]
        return made

    def take_(self, tensors: Iterable[Tensor]) -> None:
        """The values that the first one has."""
        if self.count > 1:
            with torch.no_grad():
                for tensor in tensors:
                    sent = tensor.detach().contiguous()
                    _heard(dist.broadcast, _bytes(sent), 0)
                    tensor.copy_(sent)

    def check_alike(self, name: str, *parts: object) -> None:
        """Raise, in all, where the tensors or other things that one has are not what the others have."""
        if self.count == 1:
            return
        told = hashed(*(digest(part) if isinstance(part, Tensor) else repr(part) for part in parts))
        found = [int(one) for one in self._of_all(torch.tensor([int(told[:15], 16)]))]
        for rank, one in enumerate(found):
            if one != found[0]:
                raise ValueError(
                    f"`{name}` must be the same in all processes, but in process {rank} it is not as in process 0: "
                    "make and read it in the same way in all, from the same seed, and draw from `period.random` or "
                    "torch's generator where a lesson or a rule needs chance"
                )


#: a process that shares with nobody
ALONE = Processes()
_AT_WORK: ContextVar[Processes] = ContextVar("processes", default=ALONE)


def at_work() -> Processes:
    """Those among which work is shared out here; this one alone outside of :meth:`Processes.at_work`."""
    return _AT_WORK.get()


def known(processes: object) -> Processes:
    """An argument that is None where there is but one."""
    if processes is None:
        return ALONE
    if not isinstance(processes, Processes):
        raise check.fail_type("processes", "a training.Processes, or None", processes)
    return processes


def _part(rank: int, processes: int, count: int) -> slice:
    size = -(-count // processes)
    begin = min(rank * size, count - size)
    return slice(begin, begin + size)


def _bytes(tensor: Tensor) -> Tensor:
    """A contiguous tensor as bytes, as gloo and NCCL do not know all types."""
    return tensor.view(-1).view(torch.uint8)


def _heard(collective: Callable[..., Any], *given: Any) -> None:
    """What all processes take part in; an error of one sentence where one is gone."""
    try:
        collective(*given)
    except RuntimeError as error:
        raise _lost() from error


def _lost() -> ConnectionError:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun's: the end has begun
    return ConnectionError(
        "another process of this run has ended, so this one ends too; what a Trainer has saved in its directory is "
        "whole, and resume=True goes on with it, with any number of processes"
    )


@contextmanager
def _lost_told() -> Iterator[None]:
    """SIGTERM, by which torchrun ends those that are left, is an error of one sentence."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def lost(number: int, frame: Any) -> None:
        raise _lost()

    before = signal.signal(signal.SIGTERM, lost)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is lost:
            signal.signal(signal.SIGTERM, before)
