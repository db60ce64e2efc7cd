"""Where other programs keep the models they downloaded. Pure: nothing is opened here."""

from collections.abc import Mapping
from pathlib import Path

PROGRAMS = ("ollama", "lmstudio", "gpt4all", "jan", "hf-cache")


def places(
    home: Path, env: Mapping[str, str], system: str, pointed: Mapping[str, Path] | None = None
) -> dict[str, tuple[Path, ...]]:
    """Folders to look into, by program; most of them do not exist on any one machine.

    `system` is as `platform.system()` says it. `pointed` are folders that a program's own
    settings name ("lmstudio", "gpt4all"), read by the caller.
    """
    found = {
        "ollama": _ollama(home, env, system),
        "lmstudio": (home / ".lmstudio" / "models", home / ".cache" / "lm-studio" / "models"),
        "gpt4all": (
            _data(home, env, system) / "nomic.ai" / "GPT4All",
            home / ".cache" / "gpt4all",  # its Python package
        ),
        "jan": _jan(home, env, system),
        "hf-cache": (_hf_cache(home, env),),
    }
    for program, folder in (pointed or {}).items():
        found[program] = (folder, *found[program])
    return {program: tuple(dict.fromkeys(folders)) for program, folders in found.items()}


def _ollama(home: Path, env: Mapping[str, str], system: str) -> tuple[Path, ...]:
    chosen = (Path(env["OLLAMA_MODELS"]),) if env.get("OLLAMA_MODELS") else ()
    own = home / ".ollama" / "models"
    if system != "Linux":
        return (*chosen, own)
    # Its Linux installer runs it as a service with a home of its own; distributions and
    # the snap chose other places.
    service = ("/usr/share/ollama/.ollama/models", "/var/lib/ollama/models",
               "/var/lib/ollama/.ollama/models", "/var/snap/ollama/common/models")  # fmt: skip
    return (*chosen, own, *map(Path, service))


def _jan(home: Path, env: Mapping[str, str], system: str) -> tuple[Path, ...]:
    data = [_data(home, env, system) / "Jan" / "data"]
    if system == "Windows":
        data = [Path(env.get("APPDATA") or home / "AppData" / "Roaming") / "Jan" / "data"]
    elif system != "Darwin":
        data.append(Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "Jan" / "data")
    old = (home / "jan", home / "cortexcpp")
    return tuple(
        folder / inside for folder in (*data, *old) for inside in ("llamacpp/models", "models")
    )


def _hf_cache(home: Path, env: Mapping[str, str]) -> Path:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if env.get(name):
            return Path(env[name])
    if env.get("HF_HOME"):
        return Path(env["HF_HOME"]) / "hub"
    return Path(env.get("XDG_CACHE_HOME") or home / ".cache") / "huggingface" / "hub"


def _data(home: Path, env: Mapping[str, str], system: str) -> Path:
    if system == "Darwin":
        return home / "Library" / "Application Support"
    if system == "Windows":
        return Path(env.get("LOCALAPPDATA") or home / "AppData" / "Local")
    return Path(env.get("XDG_DATA_HOME") or home / ".local" / "share")
