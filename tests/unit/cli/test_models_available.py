"""What `snugly models --available` shows."""

import json

import pytest

from snugly.cli.models import models
from snugly.errors import UserError
from snugly.model.catalog import entries


def test_all_models_with_what_a_download_takes(capsys: pytest.CaptureFixture[str]) -> None:
    models(available=True)
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == len(entries()) + 1
    (line,) = [line for line in shown.splitlines() if line.startswith("gpt-oss ")]
    assert (
        line.split()[1:]
        == (
            "4.19 B of 20.9 B 11.3 GiB MXFP4 131,072 chat, code, reason, summarize, translate"
            " apache-2.0"
        ).split()
    )


def test_for_a_task_only_what_is_made_for_it_best_first(capsys: pytest.CaptureFixture[str]) -> None:
    models(task="rerank", as_json=True)
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) >= 3
    assert all(row["tasks"] == ["rerank"] for row in rows)
    values = [row["quality"]["value"] for row in rows]
    assert values == sorted(values, reverse=True)
    assert rows[0]["quality"]["basis"]


def test_no_reranker_among_chat_models(capsys: pytest.CaptureFixture[str]) -> None:
    models(task="chat")
    shown = capsys.readouterr().out
    assert "rerank" not in shown
    assert "embed" not in shown


def test_keys_that_programs_rely_on(capsys: pytest.CaptureFixture[str]) -> None:
    models(available=True, as_json=True)
    row = json.loads(capsys.readouterr().out)[0]
    stable = {"alias", "name", "tag", "repository", "types", "quantization", "file_bytes",
              "n_params", "n_active", "context_train", "licence", "tasks", "figures"}  # fmt: skip
    assert stable <= set(row)


def test_a_task_that_does_not_exist() -> None:
    with pytest.raises(UserError) as caught:
        models(task="cod")
    assert "Did you mean code?" in caught.value.because
