"""The schema of catalog.toml, and of the configs beside it: pydantic models, nothing more.

python scripts/catalog_rows.py      prints it as JSON Schema
"""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Month = Field(pattern=r"^20\d\d-(0[1-9]|1[0-2])$")
Repository = Field(pattern=r"^[\w.-]+/[\w.-]+$")
Task = Literal["chat", "code", "complete", "summarize", "reason", "translate", "embed", "rerank"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FigureRow(_Strict):
    """A published score in percent. `source`: where it can be read; `date`: of that source."""

    benchmark: Literal["MMLU", "MMLU-Pro", "HumanEval", "LiveCodeBench", "MTEB"]
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
    original: str = Repository
    licence: str
    tasks: tuple[Task, ...] = Field(min_length=1)
    languages: tuple[str, ...] = ()
    fim: str = ""
    tools: bool = False
    vision: bool = False
    projector_bytes: int = 0
    thinking: Literal["no", "switch", "always"] = "no"
    released: str = Month
    facts: Literal["config", "card", "knowledge"]
    seen: str = Month  # when the facts of this entry were last gone through
    file_bytes: int | None = None  # where a public list states it, which a comment names
    figures: tuple[FigureRow, ...] = ()
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    repeat_penalty: float | None = Field(default=None, ge=1)


class Publisher(_Strict):
    """Which quantizations the repositories of a publisher usually hold."""

    types: tuple[str, ...]


class Catalogue(_Strict):
    """The whole of catalog.toml."""

    publisher: dict[str, Publisher]
    model: tuple[Row, ...]


class Shape(_Strict):
    """One entry of catalog_configs.json: the parts of a config.json that say shapes."""

    source: str = Field(min_length=8)
    config: dict[str, Any]


if __name__ == "__main__":
    print(json.dumps(Catalogue.model_json_schema(), indent=2))
