"""Two models side by side in the real engine."""

import json
from pathlib import Path

import pytest
from tests.making import LLAMA_PAIRS, gguf_bytes, words_pair

from snugly.cli.app import run
from snugly.errors import BadModelFile, EngineError, UserError
from snugly.quantize.measure import Text, bundled, measure
from snugly.quantize.measure_process import answers

TEXT = Text("count", " ".join(str(n) for n in range(200)))


def test_a_model_loses_nothing_against_itself(smollm2: Path) -> None:
    seen: list[int] = []
    loss = measure(str(smollm2), str(smollm2), TEXT, context=32, most=2, threads=1,
                   watch=lambda done, total, _: seen.append(done))  # fmt: skip
    assert (loss.chunks, loss.places) == (2, 2 * 15)
    assert loss.kld.value < 1e-5
    assert loss.same_top.value == 1
    assert 1 < loss.perplexity.value < 50
    assert seen == [0, 1, 2]


def test_other_tokenizers_are_refused_before_anything_is_loaded(
    smollm2: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(gguf_bytes())
    with pytest.raises(UserError, match="tokenizers differ"):
        measure(str(smollm2), str(other), TEXT)


def test_a_short_text_is_said(smollm2: Path) -> None:
    with pytest.raises(UserError, match="too short"):
        measure(str(smollm2), str(smollm2), Text("x", "one two"), threads=1)


def test_a_model_that_cannot_be_loaded_is_said(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(gguf_bytes((*LLAMA_PAIRS, words_pair("tokenizer.ggml.model", ["no"]))))
    with pytest.raises((BadModelFile, EngineError), match="broken"):
        measure(str(broken), str(broken), TEXT, threads=1)


def test_a_process_that_dies_is_said() -> None:
    with pytest.raises(EngineError, match="died"):
        list(answers({"task": "no such task"}))


def test_the_command_prints_json_and_writes_a_report(
    smollm2: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    page, text = tmp_path / "r.html", tmp_path / "t.txt"
    text.write_text(TEXT.text)
    code = run(["compare", str(smollm2), str(smollm2), "--text", str(text), "--context", "32",
                "--chunks", "2", "--threads", "1", "--json", "--report", str(page)])  # fmt: skip
    made = json.loads(capfd.readouterr().out)
    assert code == 0
    assert made["compared"][0]["loss"]["places"] == 30
    assert "<svg" in page.read_text()


def test_the_two_bundled_texts_share_no_line_of_length() -> None:
    texts = [set(bundled(name).text.splitlines()) for name in ("calibration", "evaluation")]
    assert not {line for line in texts[0] & texts[1] if len(line) > 60}
