"""`snugly cache` shows and forgets what models have read."""

import json
from pathlib import Path

import pytest
from tests.unit.engine.test_prefix import DOCUMENT, saved

from snugly.cli.app import run
from snugly.engine.prefix_keeper import folder_of
from snugly.engine.prefix_store import PrefixStore
from snugly.settings import settings


@pytest.fixture
def store() -> PrefixStore:
    made = PrefixStore(folder_of(settings().cache), settings().prefix_cache_bytes)
    made.open()
    return made


def test_it_lists_what_is_kept_and_no_words(
    store: PrefixStore, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = saved(store, DOCUMENT)
    assert run(["cache"]) == 0
    shown = capsys.readouterr()
    assert "Model" in shown.out
    assert "600" in shown.out
    assert "document" not in shown.out
    assert "1000 B of at most 4.00 GiB" in shown.err
    assert run(["cache", "list", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["states"]
    assert (row["model"], row["tokens"], row["bytes"]) == ("Model", 600, 1000)
    assert Path(row["path"]) == entry.path


def test_it_forgets_one_model_or_everything(
    store: PrefixStore, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(store, DOCUMENT)
    assert run(["cache", "purge", "other"]) == 2
    assert "Nothing is kept" in capsys.readouterr().err
    assert len(store.entries()) == 1
    assert run(["cache", "purge", "model", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"forgotten": 1, "freed_bytes": 1000}
    assert store.entries() == ()
    saved(store, DOCUMENT, "you")
    assert run(["cache", "purge"]) == 0
    assert "1 state forgotten" in capsys.readouterr().err


def test_nothing_kept_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cache"]) == 0
    assert "0 B of at most" in capsys.readouterr().err
