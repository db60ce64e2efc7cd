"""Who may guess ahead for whom: a much smaller model with the same words that fits beside it."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.making import CPU_ENGINE, LLAMA_PAIRS, gguf_bytes, machine, spec, u32_pair, words_pair

from snugly.engine.drafters import drafter_for, same_words
from snugly.model.store import Store
from snugly.plan.choose import choose, or_refuse
from snugly.plan.types import Interval, Need, Plan

WORDS = [f"w{i}" for i in range(300)]


def model(path: Path, words: list[str], eos: int = 2) -> Path:
    pairs = (
        *LLAMA_PAIRS[:-3], words_pair("tokenizer.ggml.tokens", words),
        u32_pair("tokenizer.ggml.eos_token_id", eos),
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gguf_bytes(pairs))
    return path


def test_the_same_words_but_for_some_at_the_end(tmp_path: Path) -> None:
    large = str(model(tmp_path / "large.gguf", WORDS))
    assert same_words(large, str(model(tmp_path / "a.gguf", WORDS)))
    assert same_words(large, str(model(tmp_path / "b.gguf", WORDS + ["more"] * 128)))
    assert not same_words(large, str(model(tmp_path / "c.gguf", WORDS + ["more"] * 129)))
    assert not same_words(large, str(model(tmp_path / "d.gguf", ["x", *WORDS[1:9], "y"])))
    assert not same_words(large, str(model(tmp_path / "e.gguf", [*WORDS[:50], "other"])))
    assert not same_words(large, str(model(tmp_path / "f.gguf", WORDS, eos=3)))
    assert same_words(large, str(model(tmp_path / "g.gguf", ["x", *WORDS[1:]])))  # before the fifth


@pytest.mark.parametrize("prefill", [40.0, 40_000.0])
def test_one_is_found_in_the_store_where_checking_is_cheap(tmp_path: Path, prefill: float) -> None:
    large = model(tmp_path / "large.gguf", WORDS)
    store = Store(tmp_path / "models")
    small = model(tmp_path / "models/p/small/small.gguf", WORDS)
    big = spec(path=str(large), file_bytes=100 * small.stat().st_size)
    plan: Plan = or_refuse(choose(machine(), big, Need(512), CPU_ENGINE))
    assert plan.speed is not None

    def sure(value: float) -> Interval:
        return Interval(value, value, value)

    speed = replace(plan.speed, decode_tps=sure(20.0), prefill_tps=sure(prefill))
    found = drafter_for(replace(plan, speed=speed), big, machine(), CPU_ENGINE, store)
    if prefill < 100:
        assert found is None
    else:
        assert found is not None
        assert found.drafter is not None
        assert found.drafter.path == str(small)
