"""ggml's allocator: blocks in use, and the holes between them.

Source: llama.cpp ggml/src/ggml-alloc.c (the smallest hole that fits, of two alike the later one;
else the end).
"""

from bisect import bisect
from functools import lru_cache

_ALIGN = 128  # bytes; ggml-cuda.cu, ggml_backend_cuda_buffer_type_get_alignment
# What is in use: the end, the holes, and each name's block.
State = tuple[int, tuple[tuple[int, int], ...], tuple[tuple[str, tuple[int, int]], ...]]


class Room:
    """Blocks in use, and the holes between them."""

    def __init__(self) -> None:
        self.top = self.end = 0  # the most ever used; where the open end starts
        self.holes: list[tuple[int, int]] = []  # (offset, size), by offset
        self.used: dict[str, tuple[int, int]] = {}

    def take(self, name: str, size: int) -> None:
        """Put `size` bytes into the smallest hole that has room for them."""
        size = -(-size // _ALIGN) * _ALIGN
        best = -1
        for index, (_, free) in enumerate(self.holes):
            if free >= size and (best < 0 or free <= self.holes[best][1]):
                best = index
        if best < 0:
            self.used[name] = self.end, size
            self.end += size
            self.top = max(self.top, self.end)
            return
        offset, free = self.holes.pop(best)
        self.used[name] = offset, size
        if free > size:
            self.holes.insert(best, (offset + size, free - size))

    def give(self, name: str) -> None:
        """Give back what `name` took; holes side by side become one."""
        offset, size = self.used.pop(name)
        holes = self.holes
        at = bisect(holes, (offset, size))
        if at < len(holes) and offset + size == holes[at][0]:
            size += holes.pop(at)[1]
        if at and sum(holes[at - 1]) == offset:
            at -= 1
            offset, before = holes.pop(at)
            size += before
        if offset + size == self.end:
            self.end = offset
        else:
            holes.insert(at, (offset, size))

    def state(self) -> State:
        """What is in use now."""
        return self.end, tuple(self.holes), tuple(sorted(self.used.items()))

    def resume(self, state: State) -> None:
        """Go back to an earlier state; the most ever used starts anew."""
        self.end, holes, used = state
        self.top, self.holes, self.used = self.end, list(holes), dict(used)

    def run(self, steps: str, sizes: dict[str, int]) -> None:
        """Do all `steps` of one layer; what has no size is not there."""
        for what, name, new in _parsed(steps):
            if new:
                if name in self.used:
                    self.used[new] = self.used.pop(name)
            elif what == "-":
                if name in self.used:
                    self.give(name)
            elif name not in self.used and (size := sizes.get(name)):
                self.take(name, size)


@lru_cache(maxsize=1024)
def _parsed(steps: str) -> list[tuple[str, str, str]]:
    """Each step: what is done, with which name, and what that is called from then on."""
    found = []
    for step in steps.split():
        old, _, new = step.partition(">")
        found.append((step[0], old if new else step[1:], new))
    return found
