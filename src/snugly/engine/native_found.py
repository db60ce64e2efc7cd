"""Which llama-server there is on this machine, and what it says of itself."""

import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from snugly.errors import EngineError
from snugly.model import sidecar
from snugly.settings import Settings

SERVER = "llama-server.exe" if os.name == "nt" else "llama-server"
_PROBE_SECONDS = 20.0  # a CUDA build loads its libraries and looks for GPUs: some seconds
# Options without which a plan cannot be kept to. `--kv-unified` came last, in October 2025.
_NEEDED = ("--ctx-size", "--parallel", "--kv-unified", "--cache-type-k", "--flash-attn", "--jinja")
# How llama-server names devices (--list-devices) -> the backend of a plan.
_BACKENDS = {
    "CUDA": "cuda", "ROCm": "rocm", "Vulkan": "vulkan", "SYCL": "sycl", "MTL": "metal",
    "Metal": "metal",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Native:
    """One llama-server. `origin` says how it was found: "settings", "PATH", "built", "fetched"."""

    path: str
    origin: str
    version: str  # its first word about itself, "0 (0c1e570)"
    options: frozenset[str]  # every --option that its help lists
    sockets: bool  # whether it listens on a Unix socket
    backend: str  # as EngineFacts.offloads_to; empty: the CPU alone
    file_bytes: int
    built_for: frozenset[str] = frozenset()  # instructions, where Snugly compiled it

    @property
    def unusable(self) -> str:
        """Why it cannot run a plan, in words; empty when it can."""
        missing = [name for name in _NEEDED if name not in self.options]
        return f"it is too old: it has no {', '.join(missing)}" if missing else ""


def built_folder(cache: Path) -> Path:
    """Where what Snugly built or fetched lies; `current` in it names one."""
    return cache / "engines"


def current(cache: Path) -> Path | None:
    """The llama-server that Snugly built or fetched last and that is there."""
    folder = built_folder(cache)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        name = (folder / "current").read_text(encoding="utf-8").strip()
        path = folder / name / "bin" / SERVER
        if name and Path(name).name == name and path.is_file():
            return path
    return None


def places(settings: Settings, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(path, origin) in the order of preference: the person's word, PATH, what we built."""
    if settings.llama_server is not None:
        yield str(settings.llama_server), "settings"
        return  # a person who names one wants that one
    on_path = shutil.which(SERVER, path=environment.get("PATH", ""))
    if on_path:
        yield on_path, "PATH"
    ours = current(settings.cache)
    if ours is not None:
        yield str(ours), "built"


def find(settings: Settings) -> Native | None:
    """The llama-server that would be used: the first that answers and is new enough.

    Raises: EngineError when the one that the settings name is no llama-server.
    """
    for path, origin in places(settings, os.environ):
        try:
            native = look_at(path, origin, settings.cache)
        except EngineError:
            if origin == "settings":
                raise
            continue
        if not native.unusable or origin == "settings":
            return native
    return None


def look_at(path: str, origin: str, cache: Path) -> Native:
    """What a llama-server says of itself; remembered until its file changes.

    Raises: EngineError when it cannot be run or is something else.
    """
    try:
        stat = os.stat(path)
    except OSError as error:
        raise EngineError(
            f"{path} is not there.", f"{error.strerror}.", "Correct the setting `llama_server`."
        ) from error
    # The name of the box: a folder may be shared by machines with other processors.
    key = f"{os.path.realpath(path)} {stat.st_size} {stat.st_mtime_ns} {platform.node()}"
    kept = built_folder(cache) / "probes.json"
    known = _read_json(kept)
    told = known.get(key)
    if told is None:
        told = _ask(path)
        _keep(kept, {**_same_files(known), key: told})
    built_for = _read_json(Path(path).parent.parent / "build.json").get("instructions", ())
    return Native(
        path, origin, str(told["version"]), frozenset(told["options"]), bool(told["sockets"]),
        str(told["backend"]), stat.st_size, frozenset(built_for),
    )  # fmt: skip


def _same_files(known: dict[str, Any]) -> dict[str, Any]:
    """What is remembered of files that are still there."""
    return {key: told for key, told in known.items() if Path(key.rsplit(" ", 3)[0]).exists()}


def _ask(path: str) -> dict[str, Any]:
    said = _said(path, "--help")
    options = sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", said)))
    if "--ctx-size" not in options:
        raise EngineError(
            f"{path} is no llama-server.",
            "Its --help does not speak of --ctx-size.",
            "Name another with `snugly engine use`, or build one: `snugly engine build`.",
        )
    version = re.search(r"^version: *(.+)$", _said(path, "--version"), re.MULTILINE)
    return {
        "version": version[1].strip() if version else "unknown",
        "options": options,
        "sockets": ".sock" in said or "UNIX socket" in said,
        "backend": backend_of(_said(path, "--list-devices") if "--list-devices" in options else ""),
    }


def backend_of(devices: str) -> str:
    """The backend of the first device that `--list-devices` lists; empty: the CPU alone."""
    for name in re.findall(r"^\s+([A-Za-z]+)\d+:", devices, re.MULTILINE):
        if name in _BACKENDS:
            return _BACKENDS[name]
    return ""


def _said(path: str, option: str) -> str:
    """Both streams of a short call, without our variables: LLAMA_ARG_* would change it."""
    from snugly.engine.process import engine_environment  # here: it brings asyncio along

    try:
        done = subprocess.run(
            [path, option],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env=engine_environment(dict(os.environ)),
            timeout=_PROBE_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = error.strerror if isinstance(error, OSError) else "it did not end"
        raise EngineError(
            f"{path} cannot be run.", f"`{option}`: {why}.", "Build one: `snugly engine build`."
        ) from error
    said = (done.stdout + b"\n" + done.stderr).decode(errors="replace")
    if done.returncode != 0:
        last = said.strip().splitlines()[-1:] or ["nothing"]
        raise EngineError(
            f"{path} cannot be run.",
            f"`{option}` ended with status {done.returncode}: {last[0][:200]}",
            "Build one that fits this machine: `snugly engine build`.",
        )
    return said


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _keep(path: Path, data: dict[str, Any]) -> None:
    """Write all at once; a cache that cannot be written is no reason to stop."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        sidecar.write_text(path, json.dumps(data), lasting=False)


def described(native: Native) -> dict[str, object]:
    """A llama-server as JSON types."""
    sets = {"options": sorted(native.options), "built_for": sorted(native.built_for)}
    return asdict(native) | sets | {"unusable": native.unusable}
