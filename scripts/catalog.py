"""Keep the catalogue of models: check what people wrote, write what the program reads.

    python scripts/catalog.py check [--months 12]   every rule; 1 when one is broken
    python scripts/catalog.py write                 catalog.json and catalog_builds.jsonl
    python scripts/catalog.py sizes [NAME...]       predicted bytes of each file

Written by people: src/snugly/model/catalog.toml and catalog_configs.json (config.json files,
only what says shapes). `write` makes each model's tensors from its config by the rules of
llama.cpp's converter and quantizer, so that each build is known without a download.
"""

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
from snugly.model.build import build_of
from snugly.model.catalog_builds import encoded
from snugly.model.config import spec_of_config
from snugly.model.quant_facts import facts_of
from snugly.model.quant_rules import quantized
from snugly.model.quant_size import assumed_merges, quantized_file_bytes
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
    if row.types:
        return row.types
    publisher = book.publisher.get(row.repository.partition("/")[0])
    return publisher.types if publisher else (row.quantization,)


def spec_of_row(row: Row, shapes: dict[str, Shape]) -> ModelSpec:
    """The model as its F16 file would be. Raises: UserError when the config cannot be read."""
    spec = spec_of_config(shapes[row.original].config, f"{row.name}:{row.tag}")
    return replace(spec, n_merges=assumed_merges(spec.architecture, spec.vocab_size))


def builds_of(spec: ModelSpec, types: Iterable[str]) -> tuple[Build, ...]:
    """The model in each type, by size; types that its rows do not fit are left out."""
    found = []
    for name in types:
        try:
            found.append(_build(spec, name))
        except UserError:
            continue
    return tuple(sorted(found, key=lambda build: build.file_bytes))


def _build(spec: ModelSpec, type_name: str) -> Build:
    mixture = _MIXTURES.get(type_name, type_name)
    tensors = quantized(spec.tensors, facts_of(spec), mixture)
    n_bytes = quantized_file_bytes(spec, mixture)
    return build_of(replace(spec, tensors=tensors, file_bytes=n_bytes, file_type=type_name))


def active_params(spec: ModelSpec) -> int:
    """Parameters that one token reads, embeddings counted whole."""
    routed = sum(t.n_elements for t in spec.tensors if "_exps." in t.name)
    idle = routed * (spec.experts - spec.experts_used) // spec.experts if spec.experts else 0
    return spec.n_params - idle


def entry_row(row: Row, spec: ModelSpec, builds: tuple[Build, ...]) -> dict[str, Any]:
    """The values of one `Entry`."""
    sizes = {build.file_type: build.file_bytes for build in builds}
    values = row.model_dump(exclude={"seen"}, exclude_none=True)
    return values | {
        "types": tuple(sizes),
        "architecture": spec.architecture,
        "n_params": spec.n_params,
        "n_active": active_params(spec),
        "context_train": spec.context_train,
        "file_bytes": row.file_bytes or sizes[row.quantization],
    }


def made() -> tuple[str, str]:
    """The texts of catalog.json and catalog_builds.jsonl."""
    book, shapes = catalogue(), configs()
    rows, lines = [], []
    for row in book.model:
        spec = spec_of_row(row, shapes)
        builds = builds_of(spec, types_of(row, book))
        rows.append(json.dumps(entry_row(row, spec, builds), ensure_ascii=False))
        lines.append(f"{row.name}:{row.tag}\t{encoded(builds)}\n")
    return "[\n" + ",\n".join(rows) + "\n]\n", "".join(lines)


def write() -> int:
    """Write both files."""
    entries, builds = made()
    (FOLDER / "catalog.json").write_text(entries, encoding="utf-8")
    (FOLDER / "catalog_builds.jsonl").write_text(builds, encoding="utf-8")
    print(f"{entries.count(chr(10)) - 2} models, {len(entries)} and {len(builds)} bytes")
    return 0


if __name__ == "__main__":
    write()
