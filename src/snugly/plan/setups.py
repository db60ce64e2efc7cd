"""Which contexts, cache types and batches a search tries, the most comfortable first. Pure."""

from collections.abc import Iterator

from snugly.plan.tasks import Task
from snugly.plan.types import Need, Setup

LEAST_CONTEXT = 512  # below this not even a question and its answer have room
UBATCHES = (512, 128)  # llama.cpp's default, and one for tight machines
KV_TYPES = ("F16", "Q8_0")  # Q8_0: 0.531 of F16; what is smaller costs answers


def contexts(trained: int, need: Need, task: Task) -> Iterator[int]:
    """Contexts to try, longest first: the one asked for, or the task's and its halves."""
    if need.context is not None:
        yield need.context
        return
    context = min(trained, task.context)
    yield context
    context = 1 << (context - 1).bit_length() - 1
    while context >= LEAST_CONTEXT:
        yield context
        context //= 2


def setups(context: int, need: Need, repacks: bool) -> Iterator[Setup]:
    """Ways to hold the work at one context, the most comfortable first.

    Without a second copy of the weights too, where the engine would make one (`repacks`).
    """
    for kv_type in (need.kv_type,) if need.kv_type else KV_TYPES:
        for ubatch in UBATCHES:
            for repack in (True, False) if repacks else (True,):
                yield Setup(context, need.n_seq, kv_type, None, 2048, ubatch, repack)


def tightest(context: int, need: Need) -> Setup:
    """The way to hold the work at one context that takes least, in the cache type asked for."""
    return Setup(context, need.n_seq, need.kv_type or "F16", None, 2048, UBATCHES[-1], False)
