"""From catalog.toml and the models' configs to what the program reads."""

import json
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.catalog_rows import Catalogue, Row, Shape
from snugly.errors import UserError
from snugly.model.build import build_of, outline_of
from snugly.model.catalog import sums_of
from snugly.model.catalog_builds import encoded
from snugly.model.config import spec_of_config
from snugly.model.quant_facts import facts_of
from snugly.model.quant_rules import quantized
from snugly.model.quant_size import assumed_merges, estimated_header_bytes, file_bytes
from snugly.model.types import Build, ModelSpec

FOLDER = Path(__file__).resolve().parents[1] / "src/snugly/model"
# What llama-quantize calls a mixture whose files are named otherwise.
_MIXTURES = {"MXFP4": "MXFP4_MOE"}


def catalogue() -> Catalogue:
    """catalog.toml by its schema. Raises: pydantic.ValidationError."""
    text = (FOLDER / "catalog.toml").read_text(encoding="utf-8")
    return Catalogue.model_validate(tomllib.loads(text))


def configs() -> dict[str, Shape]:
    """catalog_configs.json by its schema, by repository. Raises: pydantic.ValidationError."""
    text = (FOLDER / "catalog_configs.json").read_text(encoding="utf-8")
    return {name: Shape.model_validate(value) for name, value in json.loads(text).items()}


def types_of(row: Row, book: Catalogue) -> tuple[str, ...]:
    """The quantizations to be had of one model."""
    publisher = book.publisher.get(row.repository.partition("/")[0])
    usual = row.types or (publisher.types if publisher else (row.quantization,))
    return (*usual, *row.also)


def spec_of_row(row: Row, shapes: dict[str, Shape]) -> ModelSpec:
    """The model as its F16 file would be. Raises: UserError when the config cannot be read."""
    spec = spec_of_config(shapes[row.original].config, f"{row.name}:{row.tag}")
    return replace(spec, n_merges=assumed_merges(spec.architecture, spec.vocab_size))


def builds_of(row: Row, book: Catalogue, shapes: dict[str, Shape]) -> tuple[Build, ...]:
    """The model in each type, by size; types that its rows do not fit are left out."""
    spec = spec_of_row(row, shapes)
    publisher = book.publisher.get(row.repository.partition("/")[0])
    imatrix = publisher is not None and publisher.imatrix
    found = []
    for name in types_of(row, book):
        try:
            found.append(_build(spec, name, imatrix))
        except UserError:
            continue
    return tuple(sorted(found, key=lambda build: build.file_bytes))


def _build(spec: ModelSpec, type_name: str, imatrix: bool) -> Build:
    mixture = _MIXTURES.get(type_name, type_name)
    tensors = quantized(spec.tensors, facts_of(spec), mixture, imatrix=imatrix)
    header = estimated_header_bytes(tensors, spec.vocab_size, spec.n_merges)
    n_bytes = file_bytes(tensors, header)
    return build_of(replace(spec, tensors=tensors, file_bytes=n_bytes, file_type=type_name))


def active_params(spec: ModelSpec) -> int:
    """Parameters that one token reads, as publishers count them: embeddings whole.

    But for Gemma 4's tables per layer, of which a token looks up a row: E2B is 2.3 of 4.6 billion.
    """
    routed = sum(t.n_elements for t in spec.tensors if "_exps." in t.name)
    idle = routed * (spec.experts - spec.experts_used) // spec.experts if spec.experts else 0
    tables = sum(t.n_elements for t in spec.tensors if t.name == "per_layer_token_embd.weight")
    return spec.n_params - idle - tables


def entry_row(row: Row, spec: ModelSpec, builds: Iterable[Build]) -> dict[str, Any]:
    """The values of one `Entry`."""
    outlines = {build.file_type: outline_of(build) for build in builds}
    values = row.model_dump(exclude={"seen", "also"}, exclude_none=True)
    return values | {
        "types": tuple(outlines),
        "sums": sums_of(outlines),
        "architecture": spec.architecture,
        "n_params": spec.n_params,
        "n_active": active_params(spec),
        "context_train": spec.context_train,
        "file_bytes": row.file_bytes or outlines[row.quantization].file_bytes,
    }


def lines_of(row: Row, book: Catalogue, shapes: dict[str, Shape]) -> tuple[str, str]:
    """One model's line of catalog.json, and of catalog_builds.jsonl."""
    builds = builds_of(row, book, shapes)
    values = entry_row(row, spec_of_row(row, shapes), builds)
    return json.dumps(values, ensure_ascii=False), f"{row.name}:{row.tag}\t{encoded(builds)}"


def made(book: Catalogue, shapes: dict[str, Shape]) -> tuple[str, str]:
    """The texts of catalog.json and catalog_builds.jsonl."""
    rows, lines = zip(*(lines_of(row, book, shapes) for row in book.model), strict=True)
    return "[\n" + ",\n".join(rows) + "\n]\n", "\n".join(lines) + "\n"
