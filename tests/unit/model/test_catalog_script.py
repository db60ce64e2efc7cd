"""The script that keeps the catalogue finds what is wrong with it."""

import datetime
from typing import Any

import pytest
from scripts import catalog as script
from scripts.catalog_make import catalogue, configs
from scripts.catalog_rows import Catalogue, Row

BOOK, SHAPES = catalogue(), configs()


def changed(**values: Any) -> Row:
    """The first model for chat on the hub, with other values."""
    row = next(row for row in BOOK.model if row.source == "hub" and "chat" in row.tasks)
    return Row.model_validate(row.model_dump() | values)


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"tasks": ("chat", "rerank")}, "does nothing else"),
        ({"tasks": ("complete",)}, "if and only if"),
        ({"fim": "qwen"}, "if and only if"),
        ({"projector_bytes": 5}, "no vision"),
        ({"repository": "con/x"}, "Windows"),
    ],
)
def test_faults_of_an_entry(values: dict[str, Any], fault: str) -> None:
    assert [found for found in script._faults(changed(**values)) if fault in found]
    assert not list(script._faults(changed()))


def test_faults_between_an_entry_and_its_config() -> None:
    row = changed()
    assert not list(script._unmade(row, BOOK, SHAPES))
    assert "no config" in next(script._unmade(changed(original="a/b"), BOOK, SHAPES))
    wrong = changed(quantization="Q9_Z")
    assert "Q9_Z is not among its types" in next(script._unmade(wrong, BOOK, SHAPES))
    shape = SHAPES[row.original].model_copy(update={"published_billions": 99.0})
    assert "published are 99.0" in next(script._unmade(row, BOOK, {row.original: shape}))
    strange = SHAPES[row.original].model_copy(update={"config": {"model_type": "unheard-of"}})
    assert "cannot be planned" in next(script._unmade(row, BOOK, {row.original: strange}))


def test_two_of_a_kind_are_found() -> None:
    twice = Catalogue(publisher=BOOK.publisher, model=(*BOOK.model, BOOK.model[0]))
    found = " ".join(script._doubles(twice))
    assert all(word in found for word in ("this name", "this original", "this file", "2 defaults"))
    assert not list(script._doubles(BOOK))


def test_the_engine_knows_the_architectures_and_not_others() -> None:
    assert script._engine_knows("llama")
    assert not script._engine_knows("no-such-architecture")


def test_months_since() -> None:
    assert script._months_since("2025-11", datetime.date(2026, 12, 1)) == 13


def test_the_hub_is_asked_for_each_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Api:
        def list_repo_files(self, repository: str) -> list[str]:
            assert repository == "ggml-org/gpt-oss-20b-GGUF"
            return ["gpt-oss-20b-MXFP4.gguf", "README.md"]

    one = tuple(row for row in BOOK.model if (row.name, row.tag) == ("gpt-oss", "20b"))
    book = Catalogue(publisher=BOOK.publisher, model=one)
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr(script, "catalogue", lambda: book)
    assert script.hub([]) == 0
    missing = Catalogue(publisher={}, model=(one[0].model_copy(update={"also": ("Q2_K",)}),))
    monkeypatch.setattr(script, "catalogue", lambda: missing)
    assert script.hub([]) == 1
    assert "has no Q2_K" in capsys.readouterr().out
