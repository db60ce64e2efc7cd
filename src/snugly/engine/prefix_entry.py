"""One saved state of a prompt: what it is, whom it serves, and how that is written down."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from sys import intern

from snugly.engine.prefix import BLOCK, MARK, Trail, goes_on

_NOWHERE = Path()
_REPLACED_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Entry:
    """One saved state: of which model and prompt, with `tokens` in it. `used` is a time."""

    path: Path
    key: str
    model: str
    tokens: int
    n_bytes: int
    crc: int
    rewinds: bool
    trail: Trail
    used: float = 0.0

    def would_serve(self, holder: str, words: bytes, trail: Trail, partly: bool) -> int:
        """How many of its tokens are of use to a prompt, about.

        Where a state cannot be gone back in (`rewinds` False: sliding windows, recurrent
        layers) and the engine is not known to find a way (`partly`), the prompt has to begin
        with all of it.
        """
        shared = self.trail.shared(trail)
        if self.rewinds or partly:
            return self.tokens * shared // max(1, self.trail.n_bytes)
        whole = shared + BLOCK > self.trail.n_bytes
        return self.tokens if whole and goes_on(holder, words, self.trail) else 0


def replaces(new: Entry, old: Entry) -> bool:
    """Whether an older state is worth nothing beside a new one.

    Of one that can be gone back in, a quarter may be lost: another question about the same
    document does not keep it twice.
    """
    shared = old.trail.shared(new.trail)
    if new.key != old.key or not shared:
        return False
    if new.rewinds:
        return shared >= (1 - _REPLACED_SHARE) * old.trail.n_bytes
    return shared + BLOCK > old.trail.n_bytes


def told_of(entry: Entry) -> str:
    """An entry as JSON, without where it lies and when it was used."""
    told = asdict(entry)
    for name in ("path", "used", "trail"):
        del told[name]
    trail = entry.trail
    told |= {"marks": trail.marks.hex(), "words": trail.n_bytes, "whole": trail.whole.hex()}
    return json.dumps(told)


def entry_of(text: str) -> Entry:
    """The entry of a JSON text, lying nowhere yet.

    Raises: ValueError, KeyError, TypeError, RecursionError for one that tells of none.
    """
    raw = json.loads(text)
    marks, whole = bytes.fromhex(raw["marks"]), bytes.fromhex(raw["whole"])
    trail = Trail(marks[: len(marks) // MARK * MARK], int(raw["words"]), whole)
    key, model = intern(str(raw["key"])), intern(str(raw["model"]))
    return Entry(
        _NOWHERE, key, model, int(raw["tokens"]), int(raw["n_bytes"]), int(raw["crc"]),
        bool(raw["rewinds"]), trail,
    )  # fmt: skip
