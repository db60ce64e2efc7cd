import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from snugly.cli.compare import document
from snugly.cli.render import jsonable
from snugly.errors import UserError
from snugly.model.types import Tensor
from snugly.quantize.measure_answers import Pair, changed_words, read_questions
from snugly.quantize.measure_loss import Chunk, loss_of
from snugly.quantize.report import Compared, Report, page, pictures, write_report
from snugly.quantize.report_svg import Point, front

TENSORS = (
    Tensor("token_embd.weight", (256, 8), "Q6_K", 0, 1680),
    Tensor("blk.0.ffn_up.weight", (256, 8), "IQ3_S", 0, 880),
    Tensor("blk.1.ffn_up.weight", (256, 8), "Q8_0", 0, 2176),
    Tensor("blk.1.ffn_norm.weight", (256,), "F32", 0, 1024),
)


def report(n: int = 2) -> Report:
    draw = np.random.default_rng(0)
    chunks = [Chunk(*(draw.random(16) for _ in range(4))) for _ in range(3)]
    loss = loss_of(chunks, first=16)
    pairs = (Pair("why <b>?", "it is so", "it was so"), Pair("x", "same", "same "))
    return Report("base.gguf", 10**9, "a text", "0" * 64, 32,
                  tuple(Compared(f"m{i}.gguf", 10**8 * (i + 1), loss, TENSORS, pairs)
                        for i in range(n)))  # fmt: skip


def test_every_picture_is_well_formed_and_names_what_it_shows() -> None:
    found = pictures(report())
    assert {"size-and-loss", "types-1", "types-2", "loss-over-position-2"} <= set(found)
    for svg in found.values():
        ET.fromstring(svg)
    assert "blk.0.ffn_up.weight: IQ3_S, 3.44 bits per weight" in found["types-1"]
    assert "ffn_norm" not in found["types-1"]  # vectors keep their type


def test_the_front_joins_only_what_nothing_smaller_beats() -> None:
    svg = front([Point("a", 100, 0.5), Point("b", 200, 0.9), Point("c", 300, 0.1)])
    line = next(e for e in ET.fromstring(svg).iter() if e.tag.endswith("polyline"))
    assert len(line.attrib["points"].split()) == 2
    assert front([]) == ""


def test_the_page_escapes_what_models_say_and_marks_what_changed() -> None:
    text = page(report(1))
    assert "why &lt;b&gt;?" in text
    assert "<mark>is</mark>" in text
    assert "1 of 2 changed" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_the_report_is_written_with_its_pictures(tmp_path: Path) -> None:
    written = write_report(report(1), tmp_path / "r.html")
    assert {p.name for p in written} == {
        "r.html", "r-size-and-loss.svg", "r-types.svg", "r-loss-over-position.svg"
    }  # fmt: skip
    with pytest.raises(UserError, match="cannot be written"):
        write_report(report(1), tmp_path / "no" / "r.html")


def test_the_document_is_json() -> None:
    made = json.loads(json.dumps(jsonable(document(report(1)))))
    assert made["compared"][0]["answers"][0] == {
        "question": "why <b>?", "base": "it is so", "other": "it was so", "same": False,
        "alike": 0.6667,
    }  # fmt: skip


def test_changed_words() -> None:
    assert changed_words("a b c", "a x c") == [
        ("same", "a", "a"), ("changed", "b", "x"), ("same", "c", "c")
    ]  # fmt: skip


def test_questions_are_lines_or_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "q"
    file.write_text('one?\n\n{"question": "two?"}\n{"prompt": "three?"}\n')
    assert read_questions(str(file)) == ["one?", "two?", "three?"]
    file.write_text("\n")
    with pytest.raises(UserError, match="no question"):
        read_questions(str(file))
