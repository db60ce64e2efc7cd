"""What was read is not read again after a restart, the answer stays the same, and nobody
profits from what another asked."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.engine import engines
from tests.making import plan

from snugly.chat.types import ChatRequest, Message, Usage
from snugly.engine.llama_cpp import LlamaCpp
from snugly.engine.native import NativeLlama
from snugly.engine.prefix_keeper import Memory
from snugly.engine.prefix_running import Remembering
from snugly.engine.prefix_store import PrefixStore
from snugly.engine.types import Running
from snugly.errors import PromptTooLong
from snugly.units import GiB

# A document of some 350 tokens, and another one.
ROWS = "\n".join(f"Row {n}: mat {n * 37 % 101} has a cat." for n in range(22))
OTHER = "\n".join(f"Line {n}: the {n * 53 % 97}th dog sleeps." for n in range(22))


@pytest.fixture(params=["xllamacpp", "native"])
def kind(request: pytest.FixtureRequest) -> str:
    if why := engines.why_not_here(request.param):
        pytest.skip(why)
    return str(request.param)


@pytest.fixture
def store(tmp_path: Path) -> PrefixStore:
    made = PrefixStore(tmp_path / "prefixes", GiB)
    made.open()
    return made


@asynccontextmanager
async def started(
    kind: str, model: Path, store: PrefixStore | None, slots: int = 1
) -> AsyncIterator[Running]:
    base = plan(model, 2048)
    made = replace(base, setup=replace(base.setup, n_seq=slots))
    engine = engines.engine(kind)
    assert isinstance(engine, LlamaCpp | NativeLlama)
    memory = Memory(store, kind) if store else None
    running = await replace(engine, memory=memory).start(made)
    try:
        yield running
    finally:
        await running.stop()


def ask(question: str, document: str = ROWS, holder: str = "") -> ChatRequest:
    words = Message("user", f"{document}\n{question}")
    return ChatRequest((words,), temperature=0.0, max_tokens=8, holder=holder)


async def answer(running: Running, request: ChatRequest) -> tuple[str, Usage]:
    text, usage = "", None
    async for delta in running.stream(request):
        text += delta.text
        usage = delta.usage or usage
    assert usage is not None
    return text, usage


async def test_the_answer_after_a_restart_is_the_same_and_the_document_is_not_read_again(
    kind: str, smollm2: Path, store: PrefixStore
) -> None:
    async with started(kind, smollm2, None) as running:  # as it is without a memory
        plain = [(await answer(running, ask(q)))[0] for q in ("Which cat?", "Which mat?")]
    async with started(kind, smollm2, store) as running:
        first, usage = await answer(running, ask("Which cat?"))
        assert usage.cached_tokens == 0
    assert len(store.entries()) == 1
    async with started(kind, smollm2, store) as running:
        second, usage = await answer(running, ask("Which mat?"))
        assert usage.cached_tokens > 270
    assert [first, second] == plain


@pytest.mark.parametrize("damage", ["cut", "flipped"])
async def test_a_damaged_file_is_removed_and_the_answer_is_right(
    smollm2: Path, store: PrefixStore, damage: str
) -> None:
    async with started("xllamacpp", smollm2, store) as running:
        before, _ = await answer(running, ask("Which cat?"))
    (entry,) = store.entries()
    if damage == "cut":
        os.truncate(entry.path, entry.n_bytes - 100)
    else:
        with entry.path.open("r+b") as file:
            file.seek(entry.n_bytes // 2)
            file.write(b"\xff\x80")
    async with started("xllamacpp", smollm2, store) as running:
        after, usage = await answer(running, ask("Which cat?"))
        assert not entry.path.exists()
    assert usage.cached_tokens == 0
    assert after == before


async def test_what_an_engine_refuses_to_restore_is_removed_and_the_answer_is_right(
    smollm2: Path, store: PrefixStore
) -> None:
    async with started("xllamacpp", smollm2, store) as running:
        before, _ = await answer(running, ask("Which cat?"))
    (entry,) = store.entries()
    name = store.blank()
    (store.landing / name).write_bytes(b"no state at all" * 1000)
    store.remove(entry)
    wrong = store.take(name, "", entry)
    async with started("xllamacpp", smollm2, store) as running:
        after, usage = await answer(running, ask("Which cat?"))
        assert not wrong.path.exists()
    assert (after, usage.cached_tokens) == (before, 0)


async def test_nobody_is_faster_because_of_what_another_asked(
    smollm2: Path, store: PrefixStore
) -> None:
    async with started("xllamacpp", smollm2, store) as running:
        mine, _ = await answer(running, ask("Which cat?", holder="me"))
        yours, usage = await answer(running, ask("Which cat?", holder="you"))  # in the one slot
        assert usage.cached_tokens == 0
        assert yours == mine
        await answer(running, ask("Which cat?", holder="me"))
        with pytest.raises(PromptTooLong):
            await answer(running, ask("Which cat?", "x " * 4000, holder="refused"))
        _, usage = await answer(running, ask("Which cat?", holder="refused"))
        assert usage.cached_tokens == 0  # a refusal did not hand the slot over
    async with started("xllamacpp", smollm2, store) as running:
        _, usage = await answer(running, ask("Which cat?", holder="they"))  # from the disk
        assert usage.cached_tokens == 0
        _, usage = await answer(running, ask("Which cat?", holder="me"))
        assert usage.cached_tokens > 270


async def test_without_a_disk_slots_still_belong_to_their_holders(smollm2: Path) -> None:
    async with started("xllamacpp", smollm2, None) as running:
        for holder, least, most in (("me", 0, 0), ("me", 270, 2048), ("you", 0, 0)):
            _, usage = await answer(running, ask("Which cat?", holder=holder))
            assert least <= usage.cached_tokens <= most


async def test_a_question_goes_to_the_slot_that_has_read_its_document(smollm2: Path) -> None:
    async with started("xllamacpp", smollm2, None, slots=2) as running:
        for document in (ROWS, OTHER):
            _, usage = await answer(running, ask("Which cat?", document))
            assert usage.cached_tokens < 100
        for document in (ROWS, OTHER, ROWS):
            _, usage = await answer(running, ask("Which mat?", document))
            assert usage.cached_tokens > 270


async def test_what_made_way_in_a_slot_comes_back_from_the_disk(
    smollm2: Path, store: PrefixStore
) -> None:
    async with started("xllamacpp", smollm2, store) as running:
        await answer(running, ask("Which cat?"))
        await answer(running, ask("Which dog?", OTHER))
        _, usage = await answer(running, ask("Which mat?"))
        assert usage.cached_tokens > 270


async def test_an_engine_without_slots_to_save_answers_as_ever(
    smollm2: Path, store: PrefixStore
) -> None:
    plain = LlamaCpp(engines.START, engines.SILENCE)
    base = plan(smollm2, 2048)
    bare = await plain.start(base)
    running = Remembering(base, bare._process, engines.SILENCE, Memory(store, "other"))
    try:
        first, _ = await answer(running, ask("Which cat?"))
        await running.keep()
        again, usage = await answer(running, ask("Which cat?"))
        assert again == first
        assert usage.cached_tokens > 270
        assert store.entries() == ()
    finally:
        await running.stop()


async def test_a_restored_state_is_the_slots_to_the_last_bit(
    kind: str, smollm2: Path, store: PrefixStore
) -> None:
    """Log probabilities, not only words: what is read in other pieces rounds differently."""
    asked = replace(ask("Which cat?"), logprobs=2)

    async def numbers(running: Running) -> list[object]:
        return [entry async for delta in running.stream(asked) for entry in delta.logprobs]

    async with started(kind, smollm2, store) as running:
        await numbers(running)
        slot = await numbers(running)  # from the slot
    async with started(kind, smollm2, store) as running:
        assert await numbers(running) == slot  # from the disk
