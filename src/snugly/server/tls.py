"""TLS: the operator's certificate, or one that signs itself, made by `openssl`.

The openssl program does it rather than a Python package: every system that runs a server
has it, and 10 MB of bindings for one call would come with every installation.
"""

import ipaddress
import shutil
import subprocess
from pathlib import Path

from snugly.errors import UserError

_DAYS = 397  # the longest that Apple's systems accept


def own_certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """A certificate that signs itself, for `host` and this machine, and its key.

    Made once and kept; files only their owner can read.

    Raises: UserError where there is no openssl, or it fails.
    """
    certificate, key = folder / "server.crt", folder / "server.key"
    if certificate.exists() and key.exists() and _holds(certificate):
        return certificate, key
    program = shutil.which("openssl")
    if program is None:
        raise UserError(
            "A certificate cannot be made here.",
            "The program openssl is not installed.",
            "Install it, or give a certificate with --cert and --key.",
        )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    names = sorted({"DNS:localhost", "IP:127.0.0.1", "IP:::1", _alternative(host)} - {""})
    done = subprocess.run(
        [
            program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", str(_DAYS), "-subj", "/CN=snugly",
            "-addext", f"subjectAltName={','.join(names)}",
            "-keyout", str(key), "-out", str(certificate),
        ],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise UserError(
            "The certificate could not be made.",
            f"openssl says: {done.stderr.strip()[-200:]}",
            "Give one with --cert and --key.",
        )
    key.chmod(0o600)
    certificate.chmod(0o600)
    return certificate, key


def _alternative(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"DNS:{host}"
    return "" if address.is_unspecified else f"IP:{address}"


def _holds(certificate: Path) -> bool:
    """Whether it is good for another day."""
    program = shutil.which("openssl")
    if program is None:
        return True
    asked = [program, "x509", "-checkend", "86400", "-noout", "-in", str(certificate)]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0
