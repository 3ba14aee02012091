"""Work on as many threads as torch uses."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch

from spyketorch._convolution import WORTH_THREADS


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="spyketorch")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads stay behind in the parent


def in_parallel(
    count: int,
    work: Callable[[int, int], None],
    operations: int,
    parts_per_thread: int = 4,
    worth: int = WORTH_THREADS,
) -> None:
    """``work(begin, end)`` for parts of 0..count, on as many threads as torch uses; the parts are independent.

    Each of the ``count`` takes about so many ``operations``; work that is not ``worth`` it is done at once, by the
    calling thread.
    """
    threads = min(torch.get_num_threads(), count)
    if threads <= 1 or count * operations < worth:
        work(0, count)
        return
    size = -(-count // (parts_per_thread * threads))  # a few parts per thread, so that none waits long for another
    parts = iter([(i, min(i + size, count)) for i in range(0, count, size)])

    def help_out() -> None:
        for begin, end in parts:  # each is taken by one thread
            work(begin, end)

    helpers = [_pool(threads - 1).submit(help_out) for _ in range(threads - 1)]
    help_out()
    for helper in helpers:
        helper.result()
