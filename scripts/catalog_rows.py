"""The schema of catalog.toml, and of the configs beside it: pydantic models, nothing more.

Run as a script it prints itself as JSON Schema.
"""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Month = Field(pattern=r"^20\d\d-(0[1-9]|1[0-2])$")
Repository = Field(pattern=r"^[\w.-]+/[\w.-]+$")
Task = Literal["chat", "code", "complete", "summarize", "reason", "translate", "embed", "rerank"]
Benchmark = Literal["MMLU-Pro", "MMLU", "HumanEval", "MTEB", "MTEB-v1"]
# Whose terms have been read: the hub's identifiers, or the name the publisher gives them.
Licence = Literal[
    "apache-2.0", "mit", "bigcode-openrail-m", "cc-by-nc-4.0", "deepseek", "falcon-llm", "gemma",
    "glm-4", "lfm1.0", "llama2", "llama3.1", "llama3.2", "llama3.3", "llama4", "mnpl",
    "nvidia-open", "qwen", "qwen-research", "stabilityai-community",
]  # fmt: skip
# Whose special tokens mark prefix, suffix and middle.
Fim = Literal["", "codegemma", "codellama", "deepseek", "granite", "mistral", "qwen", "starcoder"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FigureRow(_Strict):
    """A published score in percent. `source`: where it can be read.

    `date`: when the source was published, or read where it is a page that changes.
    """

    benchmark: Benchmark
    value: float = Field(ge=0, le=100)
    source: str = Field(min_length=8)
    date: str = Month


class Row(_Strict):
    """One model of catalog.toml; what each key means: `snugly.model.catalog.Entry`."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    tag: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    default: bool = False
    source: Literal["hub", "pypi"] = "hub"
    repository: str = Repository
    file: str = Field(pattern=r"\.gguf$")
    quantization: str = "Q4_K_M"
    types: tuple[str, ...] = ()  # empty: those that the publisher usually offers
    also: tuple[str, ...] = ()  # and these
    original: str = Repository
    licence: Licence
    tasks: tuple[Task, ...] = Field(min_length=1)
    languages: tuple[str, ...] = ()
    fim: Fim = ""
    tools: bool = False
    vision: bool = False
    projector_bytes: int = 0
    thinking: Literal["no", "switch", "always"] = "no"
    released: str = Month
    facts: Literal["config", "card", "knowledge"]
    seen: str = Month  # when this entry was last gone through
    file_bytes: int | None = None  # where a public list states it, which a comment names
    figures: tuple[FigureRow, ...] = ()
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    repeat_penalty: float | None = Field(default=None, ge=1)


class Publisher(_Strict):
    """Which quantizations a publisher usually offers, and whether made with a matrix."""

    types: tuple[str, ...]
    imatrix: bool = False


class Catalogue(_Strict):
    """The whole of catalog.toml."""

    publisher: dict[str, Publisher]
    model: tuple[Row, ...]


class Shape(_Strict):
    """One entry of catalog_configs.json: the parts of a config.json that say shapes."""

    source: str = Field(min_length=8)
    config: dict[str, Any]
    published_billions: float | None = None  # parameters as the hub or the card counts them


if __name__ == "__main__":
    print(json.dumps(Catalogue.model_json_schema(), indent=2))
