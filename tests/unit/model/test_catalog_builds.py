"""Builds of the catalogue: read back as they were made."""

from scripts.catalog import FOLDER, builds_of, catalogue, configs, made, spec_of_row, types_of

from snugly.model import catalog, catalog_builds
from snugly.model.build import weight_bytes


def test_what_is_written_is_what_would_be_written_now() -> None:
    entries, builds = made()
    wrong = "`python scripts/catalog.py write` makes it again"
    assert (FOLDER / "catalog.json").read_text(encoding="utf-8") == entries, wrong
    assert (FOLDER / "catalog_builds.jsonl").read_text(encoding="utf-8") == builds, wrong


def test_builds_come_back_whole() -> None:
    book, shapes = catalogue(), configs()
    for row in book.model[::9]:
        entry = catalog.lookup(row.name, row.tag)
        assert entry is not None
        wanted = builds_of(spec_of_row(row, shapes), types_of(row, book))
        assert catalog_builds.builds(entry[0]) == wanted


def test_every_entry_has_a_build_of_each_type_and_they_grow() -> None:
    for entry in catalog.entries():
        found = catalog_builds.builds(entry)
        assert tuple(build.file_type for build in found) == entry.types
        assert entry.quantization in entry.types
        sizes = [build.file_bytes for build in found]
        assert sizes == sorted(sizes)
        assert all(weight_bytes(build) < build.file_bytes for build in found)
        assert catalog_builds.build(entry, entry.quantization) in found


def test_an_unknown_type_has_no_build() -> None:
    assert catalog_builds.build(catalog.entries()[0], "Q9_Z") is None
