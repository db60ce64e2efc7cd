"""Conversations are kept, listed, changed and found."""

import dataclasses
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as budget
from hypothesis import strategies as st

from snugly.errors import UserError
from snugly.history import conversations as talk
from snugly.history import measurements
from snugly.history.db import Database
from snugly.history.opening import opened
from snugly.history.search import search, snippet
from snugly.history.types import Measurement, State


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with opened(tmp_path / "history.db") as database:
        yield database


def begin(db: Database, question: str = "What is a KV cache?", answer: str = "Memory.") -> int:
    conversation, _ = talk.start(db, model="smollm2", system="Be brief.", question=question)
    talk.append(db, conversation, "assistant", answer, tokens=2)
    return conversation


def test_what_was_said_comes_back_as_it_was(db: Database) -> None:
    number = begin(db)
    kept = talk.load(db, number)
    assert (kept.title, kept.model, kept.system) == ("What is a KV cache?", "smollm2", "Be brief.")
    assert [(m.role, m.content, m.state, m.tokens) for m in kept.messages] == [
        ("user", "What is a KV cache?", State.COMPLETE, None),
        ("assistant", "Memory.", State.COMPLETE, 2),
    ]
    assert kept.created_at <= kept.messages[1].ended_at <= kept.updated_at


def test_a_growing_answer_is_interrupted_until_it_is_settled(db: Database) -> None:
    number, _ = talk.start(db, model="m", system="", question="q")
    answer = talk.append(db, number, "assistant", "half", state=State.INTERRUPTED)
    assert talk.load(db, number).messages[-1].state is State.INTERRUPTED
    talk.settle(db, answer, "half and the rest", state=State.COMPLETE, tokens=4)
    last = talk.load(db, number).messages[-1]
    assert (last.content, last.state, last.tokens) == ("half and the rest", State.COMPLETE, 4)


def test_undo_drops_the_last_question_with_its_answer(db: Database) -> None:
    number = begin(db)
    talk.append(db, number, "user", "second")
    talk.append(db, number, "assistant", "2")
    assert talk.undo(db, number) == "second"
    assert [m.content for m in talk.load(db, number).messages] == [
        "What is a KV cache?",
        "Memory.",
    ]
    assert talk.undo(db, number) == "What is a KV cache?"
    assert talk.undo(db, number) is None


def test_undo_drops_a_question_without_an_answer_alone(db: Database) -> None:
    number = begin(db)
    talk.append(db, number, "user", "unanswered")
    assert talk.undo(db, number) == "unanswered"
    assert len(talk.load(db, number).messages) == 2


@pytest.mark.parametrize("frozen", [True, False])
def test_the_list_has_the_last_active_first_and_counts_questions(
    db: Database, frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if frozen:  # all of it within one millisecond
        monkeypatch.setattr(talk, "now", lambda: "2026-11-20T00:00:00.000+00:00")
    first, second = begin(db, "one"), begin(db, "two")
    talk.append(db, first, "user", "again")
    found = talk.recent(db)
    assert [(s.id, s.turns) for s in found] == [(first, 2), (second, 1)]
    assert [s.id for s in talk.recent(db, limit=1)] == [first]
    assert talk.count(db) == 2


def test_rename_model_and_system(db: Database) -> None:
    number = begin(db)
    talk.rename(db, number, "Caches")
    talk.set_model(db, number, "qwen")
    talk.set_system(db, number, "")
    kept = talk.load(db, number)
    assert (kept.title, kept.model, kept.system) == ("Caches", "qwen", "")


def test_delete_takes_the_messages_along_and_the_number_is_never_used_again(db: Database) -> None:
    number = begin(db, "secret plans")
    assert talk.delete(db, number) == "secret plans"
    assert db.rows("SELECT count(*) FROM message")[0][0] == 0
    assert search(db, "secret") == ()
    assert begin(db) > number


def test_deleted_text_is_not_left_in_the_file(db: Database) -> None:
    number = begin(db, "xylophone-canary", "zebra-canary")
    talk.delete(db, number)
    # The trigrams of the index go when FTS5 next merges; whole words are in the table.
    assert b"zebra-canary" not in db.path.read_bytes()


@pytest.mark.parametrize("number", [0, -1, 7, 2**63, 10**30])
def test_an_unknown_number_is_said(db: Database, number: int) -> None:
    for act in (talk.load, talk.delete):
        with pytest.raises(UserError, match=rf"no conversation {number}\..*--list"):
            act(db, number)


def test_adding_to_a_deleted_conversation_is_said_and_keeps_nothing(db: Database) -> None:
    number = begin(db)
    talk.delete(db, number)
    with pytest.raises(UserError, match="no conversation"):
        talk.append(db, number, "user", "too late")
    assert db.rows("SELECT count(*) FROM message")[0][0] == 0


def test_the_database_itself_refuses_a_message_of_nobody(db: Database) -> None:
    number = begin(db)
    with pytest.raises(sqlite3.IntegrityError):
        talk.append(db, number, "system", "not a role that is kept")


def test_titles_are_one_line_of_at_most_sixty_characters() -> None:
    assert talk.title_of("  two\n lines ") == "two lines"
    assert talk.title_of("word " * 30) == "word " * 10 + "word…"  # 11 words are 54 characters
    assert len(talk.title_of("x" * 500)) == 60
    assert talk.title_of(" \n") == "(empty)"


def test_text_that_is_no_unicode_is_kept_with_marks(db: Database) -> None:
    number, _ = talk.start(db, model="m", system="", question="caf\udce9")
    assert talk.load(db, number).messages[0].content == "caf?"


def test_search_finds_every_word_in_one_message_in_any_case(db: Database) -> None:
    pandas = begin(db, "How do I read CSV?", "Use pandas.read_csv with a path.")
    begin(db, "Pandas eat what?", "Bamboo.")
    assert [s.id for s in search(db, "PANDAS read")] == [pandas]
    assert len(search(db, "pandas")) == 2
    assert [s.id for s in search(db, "ead_c")] == [pandas]  # in the middle of a word
    assert search(db, "pandas unicorn") == ()
    assert search(db, "   ") == ()


def test_search_says_where(db: Database) -> None:
    begin(db, "q", "a " * 100 + "needle" + " b" * 100)
    (found,) = search(db, "needle")
    assert "needle" in found.snippet
    assert found.snippet.startswith("…")
    assert found.snippet.endswith("…")
    assert len(found.snippet) <= 82


def test_search_finds_titles_that_were_given(db: Database) -> None:
    number = begin(db)
    talk.rename(db, number, "Holiday plans")
    assert [s.id for s in search(db, "holiday")] == [number]


def test_search_finds_languages_without_spaces(db: Database) -> None:
    number = begin(db, "q", "大規模言語モデルを手元で動かす")
    assert [s.id for s in search(db, "言語モデル")] == [number]
    assert [s.id for s in search(db, "手元")] == [number]


@pytest.mark.parametrize(
    "text",
    [
        '"', '""', "'", "a AND", "NOT", "OR OR", "NEAR(", "(", ")", "*", "^x", "a:b", "-x", "%",
        "_", "content:x", "{a b}:c", "a + b", "\\", ";", "--", "'; DROP TABLE message; --", "\0",
        "abc\0def", "\udcff", "x" * 10_000, " ".join(f"w{n:04}" for n in range(2_000)), "🦙🦙🦙",
    ],
    ids=lambda text: ascii(text)[:20],
)  # fmt: skip
def test_search_survives_anything_a_person_may_type(db: Database, text: str) -> None:
    begin(db)
    hit = begin(db, f"about {text} indeed", "yes")
    assert hit in [s.id for s in search(db, text)]


_ALPHABET = st.sampled_from(list("aAbBcC \"'*()-:^ñÑжЖ字🦙\n"))
_TEXT = st.text(_ALPHABET, max_size=12)


@budget(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=st.lists(_TEXT, max_size=6), query=_TEXT)
def test_the_index_changes_no_result(db: Database, messages: list[str], query: str) -> None:
    with db.writing() as connection:
        connection.execute("DELETE FROM conversation")
    for text in messages:
        begin(db, text, text[::-1])
    with_index = search(db, query)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "snugly.history.search._candidates",
            lambda db, _: db.rows("SELECT conversation_id, content FROM message ORDER BY id DESC"),
        )
        assert search(db, query) == with_index


def test_search_narrows_down_through_the_index(db: Database) -> None:
    from snugly.history.search import _candidates

    for number in range(20):
        begin(db, f"question {number}", f"answer {number}")
    assert len(_candidates(db, ("answer", "17"))) == 20
    assert len(_candidates(db, ("unheard",))) == 0


def test_snippets_of_short_text_are_the_text() -> None:
    assert snippet("one\n two", ["two"]) == "one two"


def test_a_conversation_from_elsewhere_is_kept_whole(db: Database) -> None:
    original = talk.load(db, begin(db))
    copy = talk.keep(
        db,
        title=original.title,
        model=original.model,
        system=original.system,
        messages=original.messages,
    )
    again = talk.load(db, copy)
    assert copy != original.id
    assert [m.content for m in again.messages] == [m.content for m in original.messages]
    assert again.created_at == original.messages[0].started_at


def test_measurements_come_back_newest_first(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    first = Measurement(
        taken_at="2026-01-01T00:00:00.000+00:00",
        model_ref="smollm2",
        model_path="/m/smollm2.gguf",
        quant="Q4_1",
        context=2048,
        threads=2,
        predicted_bytes=300_000_000,
        peak_bytes=None,
        prompt_tokens=30,
        completion_tokens=60,
        prefill_tps=800.5,
        decode_tps=150.25,
        ttft_ms=41.0,
        engine="llama_cpp",
    )
    measurements.record(first, path)
    second = dataclasses.replace(first, peak_bytes=310_000_000)
    measurements.record(second, path)
    assert measurements.recent(path=path) == (second, first)
    assert measurements.recent(1, path) == (second,)
