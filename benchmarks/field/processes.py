"""Cells by several processes at once, each of which has one core."""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from field.cells import Cell, Result


def end_with_parent() -> None:
    """A process does not outlive a command that was killed, as its cell would be under way twice."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def by_processes(
    work: Callable[[Cell], Result], cells: list[Cell], count: int
) -> Iterator[tuple[Cell, Result | Exception]]:
    """The cells as they are filled, by so many processes."""
    spawned = multiprocessing.get_context("spawn")  # a fork would inherit threads that are not there
    with ProcessPoolExecutor(count, spawned, end_with_parent) as pool:
        runs: dict[Future[Result], Cell] = {pool.submit(work, cell): cell for cell in cells}
        try:
            for done in as_completed(runs):
                error = done.exception()
                if isinstance(error, BrokenProcessPool):
                    sys.exit("a process was killed; the same command goes on")
                yield runs[done], error if isinstance(error, Exception) else done.result()
        finally:
            pool.shutdown(cancel_futures=True)
