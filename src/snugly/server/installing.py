"""Putting the server into the hands of the system, and taking it out again."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from snugly.errors import UserError
from snugly.server.units import (
    LABEL,
    NAME,
    Launch,
    kept_environment,
    launchd_plist,
    systemd_unit,
    windows_task,
)

Say = Callable[[str], None]
_TOOL_SECONDS = 960.0  # `enable --now` waits until the server is ready (units._START_SECONDS)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a system keeps such files, and its commands. None where they say nothing wrong."""

    path: Path
    content: bytes
    present: tuple[str, ...]  # a command that succeeds where the system's manager can be asked
    start: tuple[tuple[str, ...], ...]
    stop: tuple[tuple[str, ...], ...]


def launch_of(words: Sequence[str], log: Path, environment: Mapping[str, str]) -> Launch:
    """How the server is started by somebody else: this Python, with this package."""
    program = sys.executable
    if sys.platform == "win32":  # without a window
        program = str(Path(program).with_name("pythonw.exe"))
    # -P: a file called snugly.py in the folder it starts in must not be imported.
    command = (program, "-P", "-m", "snugly", "serve", *words)
    user = environment.get("USERNAME", "") if sys.platform == "win32" else ""
    kept = kept_environment(environment)
    return Launch(command, kept, str(Path.home()), str(log.with_name("service.err")), user)


def place_of(system: str, launch: Launch, environment: Mapping[str, str]) -> Place:
    """The file and the commands of a system, as `sys.platform` names it.

    Raises: UserError for a system with none of the three.
    """
    if system == "linux":
        config = environment.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
        path = Path(config) / "systemd/user" / f"{NAME}.service"
        ctl = ("systemctl", "--user")
        return Place(
            path,
            systemd_unit(launch).encode(),
            (*ctl, "show-environment"),
            ((*ctl, "daemon-reload"), (*ctl, "enable", NAME), (*ctl, "restart", NAME)),
            ((*ctl, "disable", "--now", NAME),),
        )
    if system == "darwin":
        path = Path.home() / "Library/LaunchAgents" / f"{LABEL}.plist"
        domain = f"gui/{os.getuid()}"
        return Place(
            path,
            launchd_plist(launch),
            ("launchctl", "print", domain),
            (("launchctl", "bootstrap", domain, str(path)),),
            (("launchctl", "bootout", f"{domain}/{LABEL}"),),
        )
    if system == "win32":
        path = Path(environment.get("LOCALAPPDATA") or Path.home()) / "snugly" / "task.xml"
        return Place(
            path,
            windows_task(launch).encode("utf-16"),
            ("schtasks", "/Query", "/FO", "CSV"),
            (
                ("schtasks", "/Create", "/TN", NAME, "/XML", str(path), "/F"),
                ("schtasks", "/Run", "/TN", NAME),
            ),
            (("schtasks", "/End", "/TN", NAME), ("schtasks", "/Delete", "/TN", NAME, "/F")),
        )
    raise UserError(
        f"There is no service to install on {system}.",
        "Only systemd, launchd and Windows' Task Scheduler are known.",
        "Start `snugly serve` by what your system has.",
    )


def install(place: Place, say: Say) -> bool:
    """Write the file and start the server; whether it was started.

    Where the system's manager cannot be asked (a container, a login without one) the file is
    written all the same, and what is to be done is said.

    Raises: UserError with what the manager says.
    """
    try:
        place.path.parent.mkdir(parents=True, exist_ok=True)
        # Settings in variables may hold an address with a password.
        place.path.touch(mode=0o600)
        place.path.write_bytes(place.content)
    except OSError as error:
        raise UserError(
            f"{place.path} cannot be written.", f"{error.strerror or error}.",
            "Make its folder writable.",
        ) from error  # fmt: skip
    say(f"Wrote {place.path}.")
    if not _works(place.present):
        say(f"`{place.present[0]}` cannot be asked here. Once it can be:")
        for command in place.start:
            say("  " + " ".join(command))
        return False
    for command in place.start:
        _demanded(command)
    return True


def remove(place: Place, say: Say) -> bool:
    """Stop the server and remove the file; whether there was one. Raises: UserError."""
    if not place.path.exists():
        say(f"There is no {place.path}.")
        return False
    if _works(place.present):
        for command in place.stop:
            _works(command)  # what is not running cannot be stopped, and need not be
    try:
        place.path.unlink()
    except OSError as error:
        raise UserError(f"{place.path} cannot be removed.", f"{error.strerror}.") from error
    if place.present[0] == "systemctl":
        _works(("systemctl", "--user", "daemon-reload"))
    say(f"Removed {place.path}.")
    return True


def _asked(command: Sequence[str]) -> "subprocess.CompletedProcess[str] | None":
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        return subprocess.run(
            [program, *command[1:]], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=_TOOL_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None


def _works(command: Sequence[str]) -> bool:
    done = _asked(command)
    return done is not None and done.returncode == 0


def _demanded(command: Sequence[str]) -> None:
    done = _asked(command)
    if done is not None and done.returncode == 0:
        return
    said = "" if done is None else (done.stderr or done.stdout).strip()[-400:]
    raise UserError(
        f"`{' '.join(command)}` failed.",
        said or "It said nothing.",
        "`snugly doctor` looks for the cause, `snugly logs` shows what the server said.",
    )
