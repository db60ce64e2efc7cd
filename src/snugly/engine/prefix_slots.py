"""Which slot answers: pure decisions over what each slot holds."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from snugly.engine.prefix import Trail

_NOTHING = Trail(b"", 0, b"")


@dataclass(eq=False, slots=True)
class Slot:
    """What one slot of a running engine holds.

    `holder` None: nobody's, or nobody knows whose. `tokens` is 0 where they were not counted,
    `kept` is how many of them lie on the disk. `used` grows with time.
    """

    number: int
    holder: str | None = None
    trail: Trail = field(default=_NOTHING)
    tokens: int = 0
    kept: int = 0
    used: int = 0
    busy: bool = False

    def shared(self, holder: str, trail: Trail) -> int:
        """Bytes of a holder's prompt that need not be read again here."""
        return self.trail.shared(trail) if self.holder == holder else 0

    def clear(self) -> None:
        """Note that nothing in it may be gone on from."""
        self.holder, self.trail, self.tokens, self.kept = None, _NOTHING, 0, 0


def choose(slots: Sequence[Slot], holder: str, trail: Trail) -> Slot | None:
    """The free slot for a prompt; None where none is free.

    The longest common prefix wins, less what would be lost: a conversation of an hour does
    not make way for a question that only has its system prompt in common while another slot
    is empty. Among equals the longest unused. Slots in use are not waited for, so nobody
    waits longer for being like somebody else.
    """
    free = [slot for slot in slots if not slot.busy]
    return max(free, key=lambda slot: (_gain(slot, holder, trail), -slot.used), default=None)


def _gain(slot: Slot, holder: str, trail: Trail) -> int:
    shared = slot.shared(holder, trail)
    return shared - (slot.trail.n_bytes - shared)


@dataclass(slots=True)
class Rates:
    """What was measured of one engine: what to read a prompt costs, and what to restore it.

    `read_tps` 0: not known yet. Bytes per token are of the state, and bytes per second of
    looking at a file and restoring it.
    """

    read_tps: float = 0.0
    token_bytes: float = 0.0
    # SATA's 6 Gbit/s are 550 MB/s of data: until a file was written or read here.
    bytes_per_s: float = 550e6

    def read(self, tokens: int, tps: float) -> None:
        """Learn from a prompt that was read."""
        if tokens >= _LEAST_READ and tps > 0:
            self.read_tps = tps

    def moved(self, n_bytes: int, seconds: float) -> None:
        """Learn from a state that was saved or restored."""
        if n_bytes >= _LEAST_MOVED and seconds > 0:
            self.bytes_per_s = n_bytes / seconds

    def pays(self, gained: int, tokens: int) -> bool:
        """Whether to restore `tokens` beats to read `gained` of them.

        By a factor of two: what is saved has to be saved first, and is not always wanted.
        """
        if gained < LEAST_TOKENS // 4 or tokens < LEAST_TOKENS:
            return False
        if not self.read_tps:  # what lies there was worth it once
            return True
        return gained / self.read_tps > 2 * tokens * self.token_bytes / self.bytes_per_s


# A choice: a state of less, 7 MB with the smallest models, is hardly worth a file of its own.
LEAST_TOKENS = 256
_LEAST_MOVED = 8_000_000  # bytes; of less, opening and closing is the larger part
_LEAST_READ = 64  # tokens; fewer are read at another speed than a prompt
