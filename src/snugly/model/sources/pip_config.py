"""Which package indexes this machine uses, as pip would read it.

pip has no public API, may be absent (uv makes environments without it) and can neither
resume nor show progress to us, so its configuration is read here: variables over the
files of the environment, the user and the system. What is not understood (keyrings,
client certificates) is left to pip itself, see pypi.py.
Source: pip.pypa.io/en/stable/topics/configuration.
"""

import configparser
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

DEFAULT_INDEX = "https://pypi.org/simple"


@dataclass(frozen=True, slots=True)
class Indexes:
    """Where wheels may be, best first, and how to reach them."""

    indexes: tuple[str, ...]  # URLs of simple indexes; https:, http: or file:
    find_links: tuple[str, ...] = ()  # folders or pages
    cert: str = ""
    proxy: str = ""
    trusted_hosts: tuple[str, ...] = ()


def read(env: Mapping[str, str], files: Sequence[Path], only: str = "") -> Indexes:
    """The indexes in force. `only` (our own setting) leaves all others out."""
    values: dict[str, str] = {}
    for file in files:
        values |= _of_file(file)
    values |= {
        name[4:].lower().replace("_", "-"): value
        for name, value in env.items()
        if name.startswith("PIP_") and value
    }
    cert, proxy = values.get("cert", ""), values.get("proxy", "")
    trusted = tuple(values.get("trusted-host", "").split())
    if only:
        return Indexes((only,), (), cert, proxy, trusted)
    links = tuple(values.get("find-links", "").split())
    if values.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        return Indexes((), links, cert, proxy, trusted)
    first = values.get("index-url") or env.get("UV_DEFAULT_INDEX") or env.get("UV_INDEX_URL")
    extra = values.get("extra-index-url", "").split()
    indexes = dict.fromkeys([first or DEFAULT_INDEX, *extra])
    return Indexes(tuple(indexes), links, cert, proxy, trusted)


def files(env: Mapping[str, str], home: Path, system: str) -> tuple[Path, ...]:
    """Where pip keeps its configuration, weakest first."""
    chosen = env.get("PIP_CONFIG_FILE", "")
    if chosen == os.devnull:
        return ()
    site = Path(sys.prefix) / ("pip.ini" if system == "Windows" else "pip.conf")
    return (*_global_and_user(env, home, system), site, *([Path(chosen)] if chosen else []))


def _global_and_user(env: Mapping[str, str], home: Path, system: str) -> tuple[Path, ...]:
    if system == "Windows":
        return (
            Path(env.get("PROGRAMDATA", r"C:\ProgramData")) / "pip" / "pip.ini",
            home / "pip" / "pip.ini",
            Path(env.get("APPDATA", str(home / "AppData" / "Roaming"))) / "pip" / "pip.ini",
        )
    user = Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"
    if system == "Darwin":
        return (
            Path("/Library/Application Support/pip/pip.conf"),
            home / ".pip" / "pip.conf",
            user,
            home / "Library" / "Application Support" / "pip" / "pip.conf",
        )
    shared = reversed((env.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":"))
    return (
        *(Path(folder) / "pip" / "pip.conf" for folder in shared if folder),
        Path("/etc/pip.conf"),
        home / ".pip" / "pip.conf",
        user,
    )


def _of_file(file: Path) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(file, encoding="utf-8")
    except (OSError, configparser.Error, UnicodeDecodeError):
        return {}  # pip will say so when it is asked; here the other places may do
    values: dict[str, str] = {}
    for section in ("global", "download"):  # the command's own section wins
        if parser.has_section(section):
            values |= {key.replace("_", "-"): value for key, value in parser.items(section)}
    return values
