"""What guessing ahead brings is counted by kind of request, kept, and believed."""

import time
from pathlib import Path

import pytest
from tests import making

from snugly.chat.requests import CompletionRequest, InfillRequest
from snugly.chat.types import ChatRequest, Message, Usage
from snugly.engine import speculating
from snugly.engine.address import Address
from snugly.engine.llama_cpp import guessing
from snugly.engine.native import arguments
from snugly.engine.speculating import Guessed, guess_for, kind_of, load
from snugly.engine.wire import usage_of
from snugly.plan.speculation import LOOKUP
from snugly.plan.speculation_types import NO_SPECULATION, Drafter, Speculation
from snugly.settings import Settings

MODEL = "/m.gguf"


def asked(text: str, prediction: str = "") -> ChatRequest:
    return ChatRequest((Message("user", text),), prediction=prediction)


def usage(tokens: int, drafted: int, accepted: int, decode_ms: float) -> Usage:
    """A prompt of 100 tokens read in 200 ms."""
    return Usage(100, tokens, 0, 200.0, decode_ms, 500.0, 100.0, drafted, accepted)


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (asked("Hello."), "chat"),
        (asked("word " * 500), "document"),
        (asked("Rename it.\n```python\n" + "x = 1\n" * 400 + "```"), "edit"),
        (asked("Rename it.", prediction="x = 1"), "edit"),
        (CompletionRequest(("x",)), "completion"),
        (InfillRequest("a", "b"), "infill"),
    ],
)
def test_kinds_of_requests(request_: ChatRequest, kind: str) -> None:
    assert kind_of(request_) == kind


def test_llama_server_tells_guesses_in_its_timings() -> None:
    told = usage_of(10, 20, {"draft_n": 62, "draft_n_accepted": 40})
    assert (told.drafted_tokens, told.accepted_tokens) == (62, 40)
    assert usage_of(10, 20, {}).drafted_tokens == 0


def test_it_guesses_at_first_and_stops_once_that_has_cost(tmp_path: Path) -> None:
    settings = Settings(cache=tmp_path)
    assert guess_for(MODEL, settings) == LOOKUP
    guessed = Guessed(MODEL, LOOKUP, tmp_path)
    for _ in range(6):  # 5% lost each: 100 checks of 2 ms in 4,200 ms
        guessed.note(asked("Hello."), usage(200, 100, 0, 4200.0))
    assert not guessed.pays
    guessed.save()
    assert guess_for(MODEL, settings) == NO_SPECULATION
    assert guess_for("/another.gguf", settings) == LOOKUP


def test_a_day_later_it_is_tried_again(tmp_path: Path) -> None:
    guessed = Guessed(MODEL, LOOKUP, tmp_path)
    for _ in range(8):  # the eighth is written down at once
        guessed.note(asked("Hello."), usage(200, 100, 0, 4200.0))
    assert set(load(tmp_path, MODEL, time.time())) == {"chat"}
    assert load(tmp_path, MODEL, time.time() + 25 * 3600) == {}


def test_what_brings_time_outweighs_what_costs_some(tmp_path: Path) -> None:
    guessed = Guessed(MODEL, LOOKUP, tmp_path)
    for _ in range(6):
        guessed.note(asked("Hello."), usage(200, 100, 0, 4200.0))
        guessed.note(asked("", prediction="x"), usage(1000, 800, 750, 6600.0))
    assert guessed.pays


def test_off_is_off_and_a_drafter_comes_beside_the_text(tmp_path: Path) -> None:
    assert guess_for(MODEL, Settings(cache=tmp_path, speculate="off")) == NO_SPECULATION
    drafter = Speculation(drafter=Drafter("/d.gguf", "d", 1, 4))
    both = guess_for(MODEL, Settings(cache=tmp_path), drafter)
    assert (both.n_match, both.drafter) == (LOOKUP.n_match, drafter.drafter)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"/m.gguf": 3}', '{"/m.gguf": {"at": "x"}}'])
def test_a_damaged_file_means_that_nothing_is_known(tmp_path: Path, content: str) -> None:
    speculating.path_of(tmp_path).write_text(content)
    assert guess_for(MODEL, Settings(cache=tmp_path)) == LOOKUP


def test_both_engines_are_told_the_same() -> None:
    guess = Speculation(24, 48, 62, Drafter("/d.gguf", "d", 1, 4))
    plan = making.plan(speculation=guess)
    words = arguments(plan, Address("/s", 0, ""))
    for name, value in (
        ("--spec-type", "ngram-mod,draft-simple"), ("--spec-ngram-mod-n-match", "24"),
        ("--spec-ngram-mod-n-min", "48"), ("--spec-ngram-mod-n-max", "62"),
        ("--spec-draft-model", "/d.gguf"), ("--spec-draft-n-max", "4"),
    ):  # fmt: skip
        assert words[words.index(name) + 1] == value
    told = guessing(plan)
    assert told["types"] == ["ngram-mod", "draft-simple"]
    assert told["lookup"] == {"n_match": 24, "n_min": 48, "n_max": 62}
    assert told["drafter"]["path"] == "/d.gguf"
    assert guessing(making.plan()) == {}
    assert "--spec-type" not in arguments(making.plan(), Address("/s", 0, ""))
