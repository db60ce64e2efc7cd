"""Telling the supervisor how the server is: sd_notify, in the few lines that it is.

Protocol: sd_notify(3). Where nobody listens (no NOTIFY_SOCKET) nothing is said.
"""

import os
import socket
import time
from collections.abc import Mapping

_SECONDS = 0.1
READY, STOPPING, WATCHDOG = "READY=1", "STOPPING=1", "WATCHDOG=1"


def tell(*lines: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Send lines to the supervisor; whether there is one and it could be reached."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address or not hasattr(socket, "AF_UNIX"):
        return False
    if address.startswith("@"):  # Linux's abstract names
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            # A supervisor that does not read must not stop the server: ten messages fill its queue.
            line.settimeout(_SECONDS)
            line.connect(address)
            line.sendall("\n".join(lines).encode())
    except OSError:
        return False
    return True


def status(text: str) -> str:
    """A line for people: `systemctl status` shows it."""
    return "STATUS=" + " ".join(text.split())


def reloading() -> tuple[str, str]:
    """The settings are being read again. Type=notify-reload wants the moment, too."""
    return "RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}"


def watchdog_seconds(environment: Mapping[str, str] = os.environ) -> float | None:
    """How often WATCHDOG=1 is to be sent: twice as often as must be; None: never."""
    pid, told = environment.get("WATCHDOG_PID", ""), environment.get("WATCHDOG_USEC", "")
    if not told.isdecimal() or int(told) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(told) / 2_000_000
