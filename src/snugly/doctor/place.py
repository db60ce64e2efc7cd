"""Judging where things lie: store, disks, history, private files, the clock. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from snugly.doctor.types import Finding, bad, ok, warn
from snugly.model.download import DISK_MARGIN_BYTES
from snugly.units import format_bytes

# Room for one more model of the usual size: 8B parameters as Q4_K_M are 4.9 GB.
LOW_BYTES = 5 * 10**9


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """The folder of models. `write_error` is what a trial file met, empty when it could be."""

    path: str
    exists: bool
    write_error: str


def judge_store(facts: StoreFacts) -> list[Finding]:
    """Whether models can be put into the store."""
    if facts.write_error:
        return [
            bad(
                "store", f"Nothing can be written in the store {facts.path}.",
                f"A trial file could not be made: {facts.write_error}.",
                "Make the folder writable for you, or name another with SNUGLY_STORE.",
            )
        ]  # fmt: skip
    if not facts.exists:
        return [ok("store", f"The store {facts.path} will be made with the first model.")]
    return [ok("store", f"The store {facts.path} can be written.")]


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """One file system and what of ours lies on it. Inodes are None where it has none."""

    used_for: tuple[str, ...]
    path: str
    free_bytes: int
    total_bytes: int
    free_inodes: int | None
    read_only: bool


def judge_disk(facts: DiskFacts) -> Finding:
    """Whether there is room for what will be written."""
    what = f"{', '.join(facts.used_for)} ({facts.path})"
    free = f"{format_bytes(facts.free_bytes)} of {format_bytes(facts.total_bytes)} are free"
    room = "`snugly models` lists what models take, `snugly rm` removes one."
    if facts.read_only:
        return bad(
            "disk", f"The disk of {what} is read-only.",
            "It is mounted so, or the system made it so after an error.",
            "Look at `dmesg`; mount it writable, or set other folders.",
        )  # fmt: skip
    if facts.free_inodes is not None and facts.free_inodes == 0:
        return bad(
            "disk", f"The disk of {what} takes no more files.",
            "All its inodes are used, whatever is free in bytes.", "Remove many small files.",
        )  # fmt: skip
    if facts.free_bytes < DISK_MARGIN_BYTES:  # no model is fetched then
        return bad("disk", f"The disk of {what} is full.", f"{free}.", room)
    if facts.free_bytes < LOW_BYTES and "models" in facts.used_for:
        why = f"{free}: not enough for another model of 8 billion parameters (4.9 GB)."
        return warn("disk", f"The disk of {what} is nearly full.", why, room)
    return ok("disk", f"{free} for {what}.")


@dataclass(frozen=True, slots=True)
class HistoryFacts:
    """The history file as SQLite sees it. `fault` is (what, why, remedy), or nothing."""

    path: str
    exists: bool
    n_bytes: int = 0
    fault: tuple[str, str, str] | None = None


def judge_history(facts: HistoryFacts) -> Finding:
    """Whether conversations and measurements are safe."""
    if facts.fault is not None:
        return bad("history", *facts.fault)
    if not facts.exists:
        return ok("history", "There is no history yet.")
    return ok("history", f"The history is whole ({format_bytes(facts.n_bytes)}).")


@dataclass(frozen=True, slots=True)
class PrivateFacts:
    """A file that nobody else should read. `mode` are its permission bits."""

    path: str
    mode: int
    owner: int
    us: int


def judge_private(facts: Sequence[PrivateFacts]) -> list[Finding]:
    """Whether the token, keys and history are closed to other users."""
    found = []
    for file in facts:
        if file.owner != file.us:
            found.append(
                bad(
                    "private files", f"{file.path} belongs to another user.",
                    f"Its owner is user {file.owner}, you are {file.us}.",
                    f"`chown {file.us} {file.path}` as root, or remove it: it is made anew.",
                )
            )  # fmt: skip
        elif file.mode & 0o077:
            found.append(
                bad(
                    "private files", f"Other users can read {file.path}.",
                    f"Its permissions are {file.mode:04o}, not 0600.", f"`chmod 600 {file.path}`",
                )
            )  # fmt: skip
    count = len(facts)
    files = "file is" if count == 1 else "files are"
    return found or [ok("private files", f"{count} private {files} closed to others.")]


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """What time it is, and the latest moment of which something here is evidence."""

    now: datetime
    latest: datetime
    evidence: str


# Time zones set wrongly are up to 14 hours off; certificates are good for weeks or more.
CLOCK_SLACK = timedelta(days=1)


def judge_clock(facts: ClockFacts) -> Finding:
    """Whether the clock is behind what has already happened."""
    if facts.now < facts.latest - CLOCK_SLACK:
        return bad(
            "clock", f"The clock says {facts.now:%Y-%m-%d %H:%M}, which is past already.",
            f"{facts.evidence} is of {facts.latest:%Y-%m-%d %H:%M}. With a wrong clock, "
            "certificates do not hold and nothing can be downloaded.",
            "Set the clock: `timedatectl set-ntp true` where there is systemd.",
        )  # fmt: skip
    return ok("clock", f"The clock says {facts.now:%Y-%m-%d %H:%M} UTC.")
