"""Settings read again while the server runs: what changes at once, what needs a restart."""

from dataclasses import dataclass
from typing import Any

from snugly.settings import NAMES, Settings

# What is read anew with each request, or told to whoever keeps it (server/life.py).
LIVE = frozenset(
    {
        "serve_hosts", "serve_origins", "serve_keyless", "serve_slots", "serve_queue",
        "serve_body_bytes", "serve_stall_seconds", "keep_alive_seconds", "load_wait_seconds",
        "memory_limit_bytes", "keep_prompts",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs: values that hold from now on, and names that wait for a restart."""

    live: dict[str, Any]
    restart: tuple[str, ...]

    @property
    def words(self) -> str:
        """What happened, in a sentence or two; never a value, which may hold a password."""
        if not self.live and not self.restart:
            return "The settings are as they were."
        said = f"Changed: {', '.join(sorted(self.live))}." if self.live else ""
        later = f"Only after a restart: {', '.join(self.restart)}." if self.restart else ""
        return " ".join(part for part in (said, later) if part)


def compare(old: Settings, new: Settings) -> Changes:
    """What differs between two readings of the settings. Pure."""
    changed = [name for name in NAMES if getattr(old, name) != getattr(new, name)]
    return Changes(
        {name: getattr(new, name) for name in changed if name in LIVE},
        tuple(sorted(name for name in changed if name not in LIVE)),
    )
