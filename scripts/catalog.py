"""Keep the catalogue of models: check what people wrote, write what the program reads.

    python scripts/catalog.py write                 catalog.json and catalog_builds.jsonl
    python scripts/catalog.py check [--months 12]   every rule; ends with 1 when one is broken
    python scripts/catalog.py sizes [NAME...]       predicted bytes of each file
    python scripts/catalog.py quality               what quality is made of, and how well it fits
    python scripts/catalog.py time                  how long the program takes to read all of it
    python scripts/catalog.py hub [NAME...]         asks the hub whether the files are there

Written by people: src/snugly/model/catalog.toml and catalog_configs.json (config.json files,
only what says shapes). `write` makes each model's tensors from its config by the rules of
llama.cpp's converter and quantizer, so that each build is known without a download.
"""

import argparse
import datetime
import fnmatch
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from time import process_time

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.catalog_make import FOLDER, catalogue, configs, made, spec_of_row, types_of
from scripts.catalog_rows import Catalogue, Row, Shape
from snugly.errors import UserError
from snugly.model import catalog, catalog_builds
from snugly.model.catalog import TASKS, entries
from snugly.model.catalog_builds import builds
from snugly.model.names import quantization_of, unsafe_because

# How far a count may be from the published one, which is rounded to three digits.
_ROUNDING = 0.006
_APART = ("embed", "rerank")
_WRITTEN = ("catalog.json", "catalog_builds.jsonl")


def write() -> int:
    """Write both files."""
    for name, text in zip(_WRITTEN, made(catalogue(), configs()), strict=True):
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"{name}: {len(text)} bytes")
    return 0


def check(months: int, today: datetime.date) -> int:
    """Print every broken rule, and what has not been gone through for `months`."""
    book, shapes = catalogue(), configs()
    broken = [*_doubles(book), *_unknown(book, shapes), *_stale(book, shapes)]
    for row in book.model:
        name = f"{row.name}:{row.tag}"
        broken += [f"{name}: {fault}" for fault in (*_faults(row), *_unmade(row, book, shapes))]
    for fault in broken:
        print(fault)
    old = [row for row in book.model if _months_since(row.seen, today) > months]
    for row in old:
        print(f"{row.name}:{row.tag}: last gone through in {row.seen}")
    apart = sum(task in _APART for row in book.model for task in row.tasks)
    print(f"{len(book.model)} models, {apart} of them for embedding or reranking; {len(broken)} "
          f"faults; {len(old)} not gone through for {months} months")  # fmt: skip
    return 1 if broken else 0


def _doubles(book: Catalogue) -> Iterator[str]:
    for what, found in (
        ("name", Counter(f"{row.name}:{row.tag}" for row in book.model)),
        ("original", Counter(row.original.lower() for row in book.model)),
        ("file", Counter(f"{row.repository}/{row.file}".lower() for row in book.model)),
    ):
        yield from (f"{key}: {n} entries have this {what}" for key, n in found.items() if n > 1)
    defaults = Counter(row.name for row in book.model if row.default)
    for name in dict.fromkeys(row.name for row in book.model):
        if defaults[name] != 1:
            yield f"{name}: {defaults[name]} defaults, not one"


def _unknown(book: Catalogue, shapes: dict[str, Shape]) -> Iterator[str]:
    used = {row.original for row in book.model}
    yield from (f"{name}: a config without a model" for name in shapes if name not in used)


def _faults(row: Row) -> Iterator[str]:
    for part in (*row.repository.split("/"), row.file.replace("*", "x")):
        if unsafe_because(part):
            yield f"{part} cannot be a name in the store: {unsafe_because(part)}"
    if len(set(row.tasks)) != len(row.tasks) or not set(row.tasks) <= set(TASKS):
        yield f"tasks are {row.tasks}"
    if set(row.tasks) & set(_APART) and len(row.tasks) > 1:
        yield "an embedding or reranking model does nothing else"
    if ("complete" in row.tasks) != bool(row.fim):
        yield "completes text if and only if it has tokens for filling in"
    if row.projector_bytes and not row.vision:
        yield "a projector but no vision"
    for figure in row.figures:
        if figure.date < row.released[:4] and "base model" not in figure.source:
            yield f"{figure.benchmark} was published before the model"


def _unmade(row: Row, book: Catalogue, shapes: dict[str, Shape]) -> Iterator[str]:
    if row.original not in shapes:
        yield f"{row.original} has no config"
        return
    try:
        spec = spec_of_row(row, shapes)
    except UserError as error:
        yield f"cannot be planned: {error.problem} {error.because}"
        return
    if not spec.is_causal and not set(row.tasks) & set(_APART):
        yield "an encoder cannot chat"
    published = shapes[row.original].published_billions
    if published and abs(spec.n_params / 1e9 / published - 1) > _ROUNDING:
        yield f"{spec.n_params / 1e9:.3f} billion parameters, published are {published}"
    if row.quantization not in types_of(row, book):
        yield f"{row.quantization} is not among its types"
    if not _engine_knows(spec.architecture):
        yield f"the engine does not know the architecture {spec.architecture}"


def _engine_knows(architecture: str) -> bool:
    """Whether the engine's library holds the architecture's name; True without the wheel.

    Linkers let a string be the end of a longer one, so what stands before it says nothing.
    """
    return not _ENGINE or f"{architecture}\0".encode() in _ENGINE


def _library() -> bytes:
    found = find_spec("xllamacpp")
    folders = found.submodule_search_locations if found else None
    paths = [path for folder in folders or () for path in Path(folder).rglob("*.so")]
    return b"".join(path.read_bytes() for path in paths)


_ENGINE = _library()


def _stale(book: Catalogue, shapes: dict[str, Shape]) -> Iterator[str]:
    for name, text in zip(
        ("catalog.json", "catalog_builds.jsonl"), made(book, shapes), strict=True
    ):
        path = FOLDER / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            yield f"{name} is stale: `python scripts/catalog.py write`"


def _months_since(month: str, today: datetime.date) -> int:
    year, number = map(int, month.split("-"))
    return (today.year - year) * 12 + today.month - number


def sizes(names: list[str]) -> int:
    """Print the bytes of each file of the named models, or of all."""
    for entry in entries():
        if not names or entry.full_name in names or entry.name in names:
            found = ", ".join(f"{b.file_type} {b.file_bytes:,}" for b in builds(entry))
            print(f"{entry.full_name}: {found}")
    return 0


def hub(names: list[str]) -> int:
    """Ask the hub for each repository's files; print what is not as written."""
    from huggingface_hub import HfApi

    book, api, faults = catalogue(), HfApi(), 0
    for row in book.model:
        if row.source != "hub" or (names and row.name not in names):
            continue
        files = [path.rpartition("/")[2].lower() for path in api.list_repo_files(row.repository)]
        fitting = [file for file in files if fnmatch.fnmatch(file, row.file.lower())]
        there = {quantization_of(file.removesuffix(".gguf")) for file in fitting}
        missing = sorted(set(types_of(row, book)) - there)
        if missing:
            faults += 1
            print(f"{row.name}:{row.tag}: {row.repository} has no {', '.join(missing)}")
    print(f"{faults} entries are not as written")
    return 1 if faults else 0


def quality() -> int:
    """Print the figures behind the fitted lines of catalog_quality.py."""
    from scripts.catalog_quality import report

    print(report())
    return 0


def time() -> int:
    """Print the best of five readings, in processor time; each new process reads once."""
    taken = []
    for _ in range(5):
        for remembered in (catalog.entries, catalog_builds._read, catalog_builds._lines):
            remembered.cache_clear()
        start = process_time()
        found = catalog.entries()
        between = process_time()
        n_builds = sum(len(builds(entry)) for entry in found)
        taken.append((between - start, process_time() - between))
    first, second = (1000 * min(column) for column in zip(*taken, strict=True))
    print(f"{len(found)} models in {first:.1f} ms, their {n_builds} builds in {second:.1f} ms")
    return 0


def main() -> int:
    """Run the verb that was named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("verb", choices=("write", "check", "sizes", "quality", "time", "hub"))
    parser.add_argument("names", nargs="*")
    parser.add_argument("--months", type=int, default=12)
    asked = parser.parse_args()
    if asked.verb == "write":
        return write()
    if asked.verb == "check":
        return check(asked.months, datetime.date.today())
    if asked.verb in ("quality", "time"):
        return quality() if asked.verb == "quality" else time()
    return sizes(asked.names) if asked.verb == "sizes" else hub(asked.names)


if __name__ == "__main__":
    sys.exit(main())
