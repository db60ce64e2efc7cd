"""What each model of the catalogue is in each of its file types: exact, nothing downloaded.

catalog_builds.jsonl is written by `python scripts/catalog.py write` from each model's
config.json: one line per model, so that one can be read without the others. Values that all
types of a model share stand once; a list of layers is its different ones and an index.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from snugly.model.catalog import Entry
from snugly.model.types import Attention, AttentionKind, Build, LayerWeights

_FILE = "catalog_builds.jsonl"
# One for each layer that differs from the others; no model has as many.
_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PER_LAYER: Mapping[str, Any] = {"layers": Attention, "weights": LayerWeights}


def builds(entry: Entry) -> tuple[Build, ...]:
    """The model in each type that its repository offers, from small to large."""
    shared, each = _read(entry.full_name)
    return tuple(Build(**shared, **_values(own)) for own in each)


def build(entry: Entry, type_name: str) -> Build | None:
    """The model in one type; None when the repository is not known to have it."""
    wanted = type_name.upper()
    key = entry.full_name, wanted
    if key not in _made:
        shared, each = _read(entry.full_name)
        row = next((own for own in each if own["file_type"] == wanted), None)
        _made[key] = None if row is None else Build(**shared, **_values(row))
    return _made[key]


_made: dict[tuple[str, str], Build | None] = {}


@cache
def _read(full_name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(values that all types share, rows of the others)."""
    line = _lines().get(full_name)
    return ({}, []) if line is None else _halves(line)


def _halves(line: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    found = json.loads(line)
    shared = _values(found["shared"])
    if "file_type" in shared:  # of a model in one type alone
        found["each"][0]["file_type"] = shared.pop("file_type")
    return shared, found["each"]


@lru_cache(maxsize=1)
def _lines() -> dict[str, str]:
    text = resources.files("snugly.model").joinpath(_FILE).read_text(encoding="utf-8")
    return dict(line.split("\t", 1) for line in text.splitlines())


def encoded(found: Iterable[Build]) -> str:
    """One line of JSON for the builds of one model."""
    rows = [_row(build) for build in found]
    names = rows[0].keys() if rows else ()
    shared = {name: rows[0][name] for name in names if all(r[name] == rows[0][name] for r in rows)}
    own = [{name: row[name] for name in names if name not in shared} for row in rows]
    return json.dumps({"shared": shared, "each": own}, separators=(",", ":"), sort_keys=True)


def decoded(line: str) -> tuple[Build, ...]:
    """The builds that `encoded` wrote; fields that it did not know keep their defaults."""
    shared, each = _halves(line)
    return tuple(Build(**shared, **_values(own)) for own in each)


def _row(build: Build) -> dict[str, Any]:
    return {
        field.name: _indexed(getattr(build, field.name))
        if field.name in _PER_LAYER
        else getattr(build, field.name)
        for field in fields(build)
    }


def _indexed(items: tuple[Any, ...]) -> dict[str, Any]:
    unique = list(dict.fromkeys(items))
    letters = dict(zip(unique, _LETTERS, strict=False))
    return {
        "unique": [list(asdict(item).values()) for item in unique],
        "index": "".join(letters[item] for item in items),
    }


def _values(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _layers(_PER_LAYER[name], value) if name in _PER_LAYER else _tuples(value)
        for name, value in row.items()
    }


def _layers(noun: Any, value: Mapping[str, Any]) -> tuple[Any, ...]:
    rows = value["unique"]
    if noun is Attention:
        unique = [noun(AttentionKind(row[0]), *row[1:]) for row in rows]
    else:
        unique = [noun(*map(_tuples, row)) for row in rows]
    found = dict(zip(_LETTERS, unique, strict=False))
    return tuple([found[letter] for letter in value["index"]])


def _tuples(value: Any) -> Any:
    """Lists as tuples, one or two deep, which is as deep as values of a Build go."""
    if not isinstance(value, list):
        return value
    return tuple(map(tuple, value)) if value and isinstance(value[0], list) else tuple(value)
