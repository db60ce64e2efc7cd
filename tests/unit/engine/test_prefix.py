"""What is remembered of prompts: marks, slots, and the files on the disk."""

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snugly.chat.requests import CompletionRequest
from snugly.chat.types import ChatRequest, Delta, Message, Tool, ToolCallPiece, Usage
from snugly.engine import prefix_store
from snugly.engine.prefix import BLOCK, Heard, goes_on, trail_of, words_of, words_of_prompt
from snugly.engine.prefix_entry import Entry
from snugly.engine.prefix_slots import Rates, Slot, choose
from snugly.engine.prefix_store import PrefixStore

DOCUMENT = b"A sentence of the document. " * 100


# ---- marks


@given(st.binary(max_size=2000), st.binary(max_size=600), st.binary(max_size=600))
def test_prompts_share_what_they_begin_with_alike_in_whole_blocks(
    head: bytes, one: bytes, two: bytes
) -> None:
    same = len(os.path.commonprefix([head + one, head + two])) // BLOCK * BLOCK
    assert trail_of("me", head + one).shared(trail_of("me", head + two)) == same


def test_two_holders_have_nothing_in_common() -> None:
    assert trail_of("me", DOCUMENT).shared(trail_of("you", DOCUMENT)) == 0


def test_a_prompt_goes_on_from_one_that_it_begins_with_as_a_whole() -> None:
    kept = trail_of("me", DOCUMENT)
    assert goes_on("me", DOCUMENT + b"more", kept)
    assert not goes_on("me", DOCUMENT, kept)  # a token is needed to write the next
    assert not goes_on("me", DOCUMENT[:-1] + b"?more", kept)
    assert not goes_on("you", DOCUMENT + b"more", kept)


def test_the_next_question_begins_with_the_last_answer() -> None:
    question = Message("user", "Why?")
    heard = Heard(first := ChatRequest((question,)))
    for text in ("Because", " it is."):
        heard.feed(Delta(text=text))
    turns = (question, Message("assistant", "Because it is."), Message("user", "Is it?"))
    assert words_of(ChatRequest(turns)).startswith(words_of(first) + heard.words)


def test_tools_stand_before_the_words_and_calls_belong_to_the_answer() -> None:
    plain = ChatRequest((Message("user", "Why?"),))
    armed = ChatRequest(plain.messages, tools=(Tool("look"),))
    assert not words_of(armed).startswith(words_of(plain))
    heard = Heard(armed)
    heard.feed(Delta(tool_calls=(ToolCallPiece(0, "id", "look", "{}"),)))
    assert heard.words.endswith(b"look{}")


def test_what_is_continued_begins_no_turn() -> None:
    heard = Heard(CompletionRequest(("Once",)))
    usage = Usage(100, 5, 20, 1.0, 1.0, 700.0, 9.0)
    heard.feed(Delta(text=" upon", usage=usage))
    assert words_of_prompt("Once") + heard.words == b"Once upon"
    assert (heard.tokens, heard.read, heard.read_tps) == (105, 80, 700.0)
    assert len(words_of_prompt((1, 2, 3))) == 12


# ---- slots


def slot(number: int, words: bytes = b"", holder: str | None = "me", used: int = 0) -> Slot:
    return Slot(number, holder, trail_of(holder or "", words), used=used)


def test_a_prompt_goes_to_the_slot_with_the_longest_common_prefix() -> None:
    prompt = DOCUMENT + b"And now?" * 100
    slots = [slot(0), slot(1, DOCUMENT[:1000], used=9), slot(2, DOCUMENT, used=1), slot(3)]
    chosen = choose(slots, "me", trail_of("me", prompt))
    assert chosen is slots[2]


def test_another_holders_slot_is_like_one_with_something_else_in_it() -> None:
    slots = [slot(0, DOCUMENT, "you"), slot(1)]
    assert choose(slots, "me", trail_of("me", DOCUMENT)) is slots[1]


def test_a_long_conversation_does_not_make_way_while_a_slot_is_empty() -> None:
    system = b"You help. " * 60
    slots = [slot(0, system + DOCUMENT, used=2), slot(1)]
    assert choose(slots, "me", trail_of("me", system + b"Hello")) is slots[1]


def test_among_equals_the_longest_unused_is_taken_and_none_in_use_is_waited_for() -> None:
    slots = [slot(0, b"x" * 600, used=2), slot(1, b"y" * 600, used=1), slot(2, DOCUMENT)]
    slots[2].busy = True
    assert choose(slots, "me", trail_of("me", DOCUMENT)) is slots[1]
    for one in slots:
        one.busy = True
    assert choose(slots, "me", trail_of("me", DOCUMENT)) is None


def test_it_is_restored_where_that_beats_reading() -> None:
    # 4,000 tokens of 23 kB: 0.17 s from the disk; read at 1,000 tokens/s 4 s, at 100,000 0.04 s
    slow = Rates(read_tps=1000, token_bytes=23_000)
    assert slow.pays(4000, 4000)
    assert not Rates(read_tps=100_000, token_bytes=23_000).pays(4000, 4000)
    assert not slow.pays(50, 4000)  # hardly anything new
    assert not slow.pays(200, 200)  # too short for a file
    slow.moved(92_000_000, 4.0)  # a disk that is slower than thought
    assert not slow.pays(4000, 4000)
    slow.read(5, 1.0)  # too few tokens to tell
    assert slow.read_tps == 1000


# ---- the disk


@pytest.fixture
def store(tmp_path: Path) -> PrefixStore:
    made = PrefixStore(tmp_path / "prefixes", 10_000)
    made.open()
    return made


def saved(
    store: PrefixStore, words: bytes, holder: str = "me", key: str = "k", size: int = 1000,
    rewinds: bool = True, used: float = 0.0,
) -> Entry:  # fmt: skip
    name = store.blank()
    (store.landing / name).write_bytes(os.urandom(size))
    what = Entry(Path(), key, "Model", 600, 0, 0, rewinds, trail_of(holder, words))
    entry = store.take(name, holder, what)
    if used:
        os.utime(entry.path, (used, used))
    return entry


def found(store: PrefixStore, words: bytes, holder: str = "me", key: str = "k") -> int:
    pair = store.find(key, holder, words, trail_of(holder, words))
    return pair[1] if pair else 0


def test_what_was_saved_is_found_by_what_a_prompt_begins_with(store: PrefixStore) -> None:
    saved(store, DOCUMENT + b"First question?")
    # 2,560 of the 2,815 bytes are shared in whole blocks: of 600 tokens 545
    assert found(store, DOCUMENT + b"Second question?") == 545
    assert found(store, b"Something else. " * 100) == 0
    assert found(store, DOCUMENT, key="another model") == 0
    again = PrefixStore(store.folder, store.most_bytes)  # after a restart
    assert found(again, DOCUMENT + b"Second question?") == 545


def test_a_folder_is_read_when_something_came_or_went(
    store: PrefixStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    look = PrefixStore._in

    def watched(self: PrefixStore, folder: Path) -> Iterator[Entry]:
        read.append(folder)
        return look(self, folder)

    monkeypatch.setattr(PrefixStore, "_in", watched)
    first = saved(store, DOCUMENT)
    other = PrefixStore(store.folder, store.most_bytes)  # another process
    time.sleep(0.03)  # file times come in ticks
    found(other, DOCUMENT)
    read.clear()
    assert all(found(other, DOCUMENT) for _ in range(5))
    assert not read
    saved(store, b"Something else. " * 100)
    assert found(other, b"Something else. " * 100)
    store.remove(first)
    assert found(other, DOCUMENT) == 0
    store.purge(store.entries())
    assert [path.name for path in store.folder.iterdir()] == ["landing"]


def test_nobody_finds_what_another_asked(store: PrefixStore) -> None:
    saved(store, DOCUMENT, "me")
    assert found(store, DOCUMENT, "you") == 0
    assert len({entry.path.parent for entry in store.entries()}) == 1
    saved(store, DOCUMENT, "you")
    assert len({entry.path.parent for entry in store.entries()}) == 2


def test_a_state_that_cannot_be_gone_back_in_serves_only_what_goes_on_from_it(
    store: PrefixStore,
) -> None:
    saved(store, DOCUMENT + b"First question?", rewinds=False)
    assert found(store, DOCUMENT + b"Second question?") == 0
    assert found(store, DOCUMENT + b"First question? And then?") == 600


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_only_the_owner_can_read_it(store: PrefixStore) -> None:
    old = os.umask(0)
    try:
        entry = saved(store, DOCUMENT)
    finally:
        os.umask(old)
    for path in (entry.path, entry.path.with_suffix(".json")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in (store.folder, store.landing, entry.path.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert DOCUMENT[:20] not in entry.path.with_suffix(".json").read_bytes()


@pytest.mark.parametrize("damage", ["cut", "flipped", "longer", "gone"])
def test_a_damaged_state_is_refused_and_removed(store: PrefixStore, damage: str) -> None:
    entry = saved(store, DOCUMENT)
    data = bytearray(entry.path.read_bytes())
    if damage == "cut":
        del data[-1:]
    elif damage == "flipped":
        data[500] ^= 1
    else:
        data += b"\0"
    if damage == "gone":
        entry.path.unlink()
    else:
        entry.path.write_bytes(data)
    assert store.lend(entry) == ""
    assert found(store, DOCUMENT) == 0
    assert not list(store.landing.iterdir())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": 1}', '{"marks": "zz"}', "[" * 100_000])
def test_a_damaged_description_counts_as_not_there(store: PrefixStore, text: str) -> None:
    entry = saved(store, DOCUMENT)
    entry.path.with_suffix(".json").write_text(text)
    assert found(store, DOCUMENT) == 0
    assert store.entries() == ()


def test_a_whole_state_is_lent_under_a_name_of_its_own(store: PrefixStore) -> None:
    entry = saved(store, DOCUMENT)
    name = store.lend(entry)
    store.remove(entry)  # by another process, meanwhile
    assert (store.landing / name).stat().st_size == entry.n_bytes
    store.give_back(name)
    assert not list(store.landing.iterdir())


def test_the_longest_unused_goes_when_the_bound_is_reached(store: PrefixStore) -> None:
    now = time.time()
    for number in range(4):
        saved(store, bytes([number]) * 600, size=3000, used=now - 100 + number)
    left = {entry.trail for entry in store.entries()}
    assert trail_of("me", bytes([0]) * 600) not in left
    assert sum(entry.n_bytes for entry in store.entries()) <= store.most_bytes
    store.lend(store.entries()[-1])  # the oldest of the rest is used now
    oldest = store.entries()[-1].trail
    saved(store, b"new" * 300, size=3000)
    assert oldest not in {entry.trail for entry in store.entries()}


def test_what_nobody_used_for_a_month_goes(store: PrefixStore) -> None:
    saved(store, DOCUMENT, used=time.time() - 31 * 86400)
    saved(store, b"new" * 300)
    assert found(store, DOCUMENT) == 0


def test_another_question_about_a_document_replaces_the_first(store: PrefixStore) -> None:
    saved(store, DOCUMENT + b"First question?")
    saved(store, DOCUMENT + b"Second question?")
    assert len(store.entries()) == 1
    saved(store, DOCUMENT[:600] + b"another document. " * 200)
    assert len(store.entries()) == 2


def test_what_cannot_be_gone_back_in_is_replaced_only_by_what_goes_on(store: PrefixStore) -> None:
    saved(store, DOCUMENT, rewinds=False)
    saved(store, DOCUMENT + b"x" * 600, rewinds=False)
    assert len(store.entries()) == 1
    saved(store, DOCUMENT + b"y" * 600, rewinds=False)
    assert len(store.entries()) == 2


def test_some_are_forgotten_or_all(store: PrefixStore) -> None:
    entry = saved(store, DOCUMENT)
    assert store.purge([]) == (0, 0)
    assert store.purge([entry]) == (1, 1000)
    saved(store, DOCUMENT, "you")
    assert store.purge() == (1, 1000)
    assert sorted(path.name for path in store.folder.iterdir()) == ["landing"]


def test_what_nobody_finished_is_cleared_away(
    store: PrefixStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinished = store.landing / store.blank()
    store.open()
    assert unfinished.exists()  # another process may be writing it
    monkeypatch.setattr(prefix_store, "_STALE_SECONDS", -1)
    store.open()
    assert not unfinished.exists()


def test_nothing_is_saved_on_a_disk_without_room(
    store: PrefixStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.room_for(10_000)
    assert not store.room_for(10_001)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 5000}))
    assert not store.room_for(1)
