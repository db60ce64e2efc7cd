"""When a slot is saved and restored, with an engine that only pretends; and by which key."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.making import gguf_bytes, plan, text_pair, u32_pair

from snugly.engine.prefix import Trail, trail_of
from snugly.engine.prefix_keeper import Keeper, Memory, memory_of
from snugly.engine.prefix_key import key_of, rewinds
from snugly.engine.prefix_slots import Slot
from snugly.engine.prefix_store import PrefixStore
from snugly.settings import Settings

DOCUMENT = b"A sentence of the document. " * 100
SIZE = 20_000


def model(path: Path, *more: bytes) -> Path:
    """A header of a small model; `more` are further metadata."""
    counts = {"block_count": 2, "embedding_length": 64, "context_length": 4096,
              "attention.head_count": 4, "feed_forward_length": 128}  # fmt: skip
    own = [u32_pair(f"gemma3.{name}", value) for name, value in counts.items()]
    path.write_bytes(gguf_bytes((text_pair("general.architecture", "gemma3"), *own, *more)))
    return path


class Engine:
    """Writes and reads files as llama-server does, and notes what it was asked."""

    def __init__(self, landing: Path) -> None:
        self.landing = landing
        self.asked: list[str] = []
        self.refuses: set[str] = set()
        self.tokens = 1000

    async def act(self, slot: Slot, action: str, name: str) -> dict[str, Any] | None:
        self.asked.append(action)
        if action in self.refuses:
            return None
        if action == "save":
            (self.landing / name).write_bytes(os.urandom(SIZE))
            return {"n_saved": self.tokens}
        if action == "restore":
            assert (self.landing / name).stat().st_size == SIZE
        return {}


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    store = PrefixStore(tmp_path / "prefixes", 1_000_000)
    store.open()
    return Engine(store.landing)


def keeper(engine: Engine, slots: list[Slot], **changes: Any) -> Keeper:
    folder = engine.landing.parent
    path = folder.parent / "m.gguf"
    if not path.exists():
        model(path)
    store = PrefixStore(folder, 1_000_000)
    made = Keeper(plan(path, 8192, **changes), Memory(store, "build"), slots, engine.act)
    made.rates.read_tps, made.rates.token_bytes = 100.0, SIZE / 1000
    return made


def filled(words: bytes = DOCUMENT, tokens: int = 1000) -> Slot:
    return Slot(0, "me", trail_of("me", words), tokens)


def trail(words: bytes) -> tuple[bytes, Trail]:
    return words, trail_of("me", words)


async def recalled(made: Keeper, slot: Slot, words: bytes, holder: str = "me") -> int:
    found = await made.recall(slot, holder, words, trail_of(holder, words))
    return found[1] if found else 0


async def test_what_was_saved_fills_another_engines_slot(engine: Engine) -> None:
    slot = filled()
    await keeper(engine, [slot]).save(slot)
    assert slot.kept == 1000
    fresh = Slot(0)
    # 2,560 of 2,800 bytes are whole blocks: of 1,000 tokens 914
    assert await recalled(keeper(engine, [fresh]), fresh, DOCUMENT + b"?") == 914
    assert (fresh.holder, fresh.tokens, engine.asked) == ("me", 1000, ["save", "restore"])
    assert not list(engine.landing.iterdir())


async def test_another_holder_gets_nothing(engine: Engine) -> None:
    slot = filled()
    await keeper(engine, [slot]).save(slot)
    assert await recalled(keeper(engine, [Slot(0)]), Slot(0), DOCUMENT + b"?", "you") == 0


async def test_what_is_there_already_is_not_restored(engine: Engine) -> None:
    slot = filled()
    made = keeper(engine, [slot])
    await made.save(slot)
    assert await recalled(made, slot, DOCUMENT + b"?") == 0
    assert engine.asked == ["save"]


async def test_a_longer_state_than_the_context_stays_where_it_is(engine: Engine) -> None:
    slot = filled()
    made = keeper(engine, [slot])
    await made.save(slot)
    small = keeper(engine, [Slot(0)])
    small._plan = replace(small._plan, setup=replace(small._plan.setup, context=512))
    assert await recalled(small, Slot(0), DOCUMENT + b"?") == 0
    assert await recalled(keeper(engine, [Slot(0)]), Slot(0), DOCUMENT + b"?") > 0


async def test_what_makes_way_is_saved_first(engine: Engine) -> None:
    slot = filled()
    await recalled(keeper(engine, [slot]), slot, b"Something else. " * 100)
    assert engine.asked == ["save"]


async def test_a_full_context_is_emptied_and_tried_again(engine: Engine) -> None:
    slot = filled()
    await keeper(engine, [slot]).save(slot)
    engine.refuses.add("restore")
    other = filled(b"Something else. " * 100)
    fresh = Slot(1)
    made = keeper(engine, [other, fresh])
    fresh.busy = True
    assert await recalled(made, fresh, DOCUMENT + b"?") == 0
    assert engine.asked == ["save", "restore", "erase", "restore"]
    assert other.holder is None
    assert fresh.holder is None  # nobody knows what is in it
    # Nothing else was in use, so it was not for want of room: the state is gone.
    engine.refuses.clear()
    assert await recalled(keeper(engine, [Slot(0)]), Slot(0), DOCUMENT + b"?") == 0


async def test_an_engine_that_cannot_save_is_not_asked_again(engine: Engine) -> None:
    engine.refuses.add("save")
    slot = filled()
    made = keeper(engine, [slot])
    await made.save(slot)
    slot.kept = 0
    assert not made.due(slot)
    assert not list(engine.landing.iterdir())


async def test_what_the_engine_has_dropped_is_not_saved(engine: Engine) -> None:
    engine.tokens = 0
    slot = filled()
    await keeper(engine, [slot]).save(slot)
    assert PrefixStore(engine.landing.parent, 1).entries() == ()


async def test_a_disk_that_cannot_be_written_to_is_left_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: PrefixStore) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PrefixStore, "blank", full)
    slot = filled()
    made = keeper(engine, [slot])
    await made.save(slot)
    slot.kept = 0
    assert not made.due(slot)


async def test_an_engine_that_makes_nothing_of_a_state_gets_none(engine: Engine) -> None:
    slot = filled()
    made = keeper(engine, [slot])
    made._rewinds = False  # a model with windows
    await made.save(slot)
    fresh = Slot(0)
    words, marks = trail(DOCUMENT[:2000] + b"Another question? " * 50)
    made = keeper(engine, [fresh])
    found = await made.recall(fresh, "me", words, marks)
    assert found is not None
    await made.judge(*found, cached=0)
    fresh.clear()
    assert await made.recall(fresh, "me", words, marks) is None  # a part of it is of no use
    found = await made.recall(fresh, "me", *trail(DOCUMENT + b"?"))
    assert found is not None
    await made.judge(*found, cached=900)
    assert PrefixStore(engine.landing.parent, 1).entries()
    await made.judge(*found, cached=0)  # nor is all of it
    assert PrefixStore(engine.landing.parent, 1).entries() == ()
    assert not made.due(filled())


# ---- keys


def test_the_key_changes_with_what_a_state_depends_on(tmp_path: Path) -> None:
    base = plan(model(tmp_path / "m.gguf"), 2048)
    key = key_of(base, "build 1")
    assert key == key_of(plan(tmp_path / "m.gguf", 8192, threads=7), "build 1")
    assert key != key_of(base, "build 2")
    for change in ({"kv_type": "Q8_0"}, {"v_type": "Q8_0"}, {"flash_attention": False}):
        other = replace(base, setup=replace(base.setup, **change))
        assert key != key_of(other, "build 1")
    data = bytearray((tmp_path / "m.gguf").read_bytes())
    data[-1] ^= 1
    (tmp_path / "m.gguf").write_bytes(data)
    assert key != key_of(base, "build 1")
    with pytest.raises(OSError, match="No such file"):
        key_of(plan(tmp_path / "none.gguf"), "build 1")


def test_windows_cannot_be_gone_back_in(tmp_path: Path) -> None:
    window = u32_pair("gemma3.attention.sliding_window", 512)
    assert rewinds(
        str(model(tmp_path / "full.gguf", u32_pair("gemma3.attention.sliding_window", 0)))
    )
    assert not rewinds(str(model(tmp_path / "window.gguf", window)))


def test_there_is_no_memory_where_it_is_turned_off_or_cannot_be(tmp_path: Path) -> None:
    assert memory_of(Settings(cache=tmp_path, prefix_cache_bytes=0), "b") is None
    assert not (tmp_path / "prefixes").exists()
    (tmp_path / "file").write_text("")
    assert memory_of(Settings(cache=tmp_path / "file"), "b") is None
    made = memory_of(Settings(cache=tmp_path), "b")
    assert made is not None
    assert Path(made.slot_folder).is_dir()
