"""What a named model is for: by the catalogue, else by its header."""

from pathlib import Path

import pytest
from tests.making import LLAMA_PAIRS, TINY_TENSORS, gguf_bytes, text_pair, u32_pair, words_pair

from snugly.engine.launch import prepare
from snugly.engine.offers import named, usual_task
from snugly.errors import EngineError, UserError
from snugly.settings import settings

BERT = (
    text_pair("general.architecture", "bert"),
    text_pair("general.name", "Tiny BERT"),
    u32_pair("bert.block_count", 1),
    u32_pair("bert.context_length", 512),
    u32_pair("bert.embedding_length", 64),
    u32_pair("bert.feed_forward_length", 128),
    u32_pair("bert.attention.head_count", 4),
    u32_pair("bert.pooling_type", 1),
    words_pair("tokenizer.ggml.tokens", ["<s>", "</s>", "a"]),
)


def file(folder: Path, name: str, body: bytes) -> str:
    path = folder / f"{name}.gguf"
    path.write_bytes(body)
    return str(path)


@pytest.mark.parametrize(
    ("name", "body", "task"),
    [
        ("chat", gguf_bytes(), "chat"),
        ("encoder", gguf_bytes(BERT), "embed"),
        ("pooled", gguf_bytes((*LLAMA_PAIRS, u32_pair("llama.pooling_type", 3))), "embed"),
        (
            "scores",
            gguf_bytes(BERT, (*TINY_TENSORS, ("cls.output.weight", (64, 1), "F16"))),
            "rerank",
        ),
    ],
)
def test_what_a_file_is_for_stands_in_its_header(
    name: str, body: bytes, task: str, tmp_path: Path
) -> None:
    path = file(tmp_path, name, body)
    assert usual_task([path]) == task
    assert named(path, task, settings()).candidates
    if task == "chat":
        return
    with pytest.raises(UserError, match="is not made to chat"):
        named(path, "chat", settings())
    with pytest.raises(EngineError, match="cannot answer questions"):
        prepare(path)


def test_a_polite_plan_says_so_once_whoever_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file(tmp_path, "chat", gguf_bytes())
    assert not prepare(path).plan.polite
    assert prepare(path, polite=True).plan.polite
    monkeypatch.setenv("SNUGLY_POLITE", "on")
    settings.cache_clear()
    plan = prepare(path, polite=True).plan
    halved = [words for words in plan.why if words.startswith("Half of the threads")]
    assert len(halved) == 1


def test_a_name_of_the_catalogue_is_for_what_it_says_there() -> None:
    assert usual_task(["qwen3-embedding"]) == "embed"
    assert usual_task(["smollm2"]) == "chat"
    assert usual_task(["no-such-model"]) == "chat"
    assert usual_task([]) == "chat"
