"""The chat in one process, with a model that needs no engine."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.process.chat_fake import FakeRunning, launched, prepare

from snugly.chat.types import ChatRequest, Delta, Message
from snugly.cli.chat_answer import Answer, Stopped, hear, stoppable
from snugly.cli.chat_lines import Command
from snugly.cli.chat_seat import Seat
from snugly.cli.chat_session import Sampling, Session, request_messages
from snugly.cli.chat_stats import measurement_of, stats_text
from snugly.cli.chat_verbs import obey
from snugly.engine.launch import Launched, Prepared
from snugly.errors import EngineError, HistoryError, PromptTooLong, UnknownModel, UserError
from snugly.history import conversations
from snugly.history.db import Database
from snugly.history.opening import opened
from snugly.history.types import Conversation, State, StoredMessage


class Sheet:
    """A screen that remembers."""

    def __init__(self) -> None:
        self.text = ""
        self.frames = 0
        self.ended = 0

    def draw(self, text: str, thoughts: str) -> None:
        self.text = text
        self.frames += 1

    def end(self) -> None:
        self.ended += 1


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with opened(tmp_path / "history.db") as database:
        yield database


class Starts:
    """Launches fakes and counts them."""

    def __init__(self) -> None:
        self.running: list[FakeRunning] = []

    @asynccontextmanager
    async def __call__(self, prepared: Prepared) -> AsyncIterator[Launched]:
        async with launched(prepared) as ready:
            assert isinstance(ready.running, FakeRunning)
            self.running.append(ready.running)
            yield ready


@pytest.fixture
def starts() -> Starts:
    return Starts()


@pytest.fixture
async def session(db: Database, starts: Starts) -> AsyncIterator[Session]:
    made = Session(
        db, Seat(prepare, starts, None), system="", sampling=Sampling(), conversation=None
    )
    yield made
    await made.seat.leave()


def kept(session: Session) -> Conversation:
    found = session.kept()
    assert found is not None
    return found


def said(session: Session) -> list[tuple[str, str, State]]:
    return [(m.role, m.content, m.state) for m in kept(session).messages]


def press_ctrl_c_in(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    loop.call_later(seconds, os.kill, os.getpid(), signal.SIGINT)


async def test_an_answer_is_drawn_and_kept_with_its_question(session: Session) -> None:
    sheet = Sheet()
    answer = await session.ask("hello", sheet)
    assert answer.text == sheet.text == "user:hello "
    assert sheet.ended == 1
    assert said(session) == [
        ("user", "hello", State.COMPLETE),
        ("assistant", "user:hello ", State.COMPLETE),
    ]
    assert kept(session).messages[1].tokens == 1
    assert (kept(session).title, kept(session).model) == ("hello", "fake")


async def test_the_model_is_given_the_system_prompt_and_what_was_said(session: Session) -> None:
    session.system = "Be brief."
    await session.ask("one", Sheet())
    answer = await session.ask("two", Sheet())
    assert answer.text.split(" | ") == [
        "system:Be brief.", "user:one", "assistant:system:Be brief.", "user:one ", "user:two ",
    ]  # fmt: skip


def message(role: str, content: str, state: State = State.COMPLETE) -> StoredMessage:
    return StoredMessage(0, role, content, state, None, "", "")


def test_questions_without_an_answer_are_not_given_to_the_model() -> None:
    talk = [
        message("user", "lost in a crash"),
        message("user", "answered"),
        message("assistant", "yes", State.INTERRUPTED),
        message("user", "stopped at once"),
        message("assistant", " ", State.INTERRUPTED),
        message("user", "engine died"),
    ]
    assert request_messages("", talk, "now") == (
        Message("user", "answered"),
        Message("assistant", "yes"),
        Message("user", "now"),
    )


async def test_ctrl_c_stops_the_answer_and_keeps_what_was_said(
    session: Session, starts: Starts
) -> None:
    press_ctrl_c_in(0.3)
    with pytest.raises(Stopped):
        await session.ask("slow", Sheet())
    (_, _, asked), (_, text, state) = said(session)
    assert (asked, state) == (State.COMPLETE, State.INTERRUPTED)
    assert text.startswith("word0 word1 ")
    assert len(text.split()) < 100
    assert starts.running[0].closed == 1, "the engine must be told to stop"
    again = await session.ask("hello", Sheet())
    assert again.text.endswith("user:hello ")
    assert len(starts.running) == 1, "the engine lives on"


async def test_ctrl_c_at_once_stops_too(session: Session) -> None:
    press_ctrl_c_in(0)
    with pytest.raises(Stopped):
        await session.ask("slow", Sheet())
    assert [role for role, _, state in said(session) if state is State.COMPLETE] == ["user"]


async def test_ctrl_c_while_a_model_is_sought_or_started(db: Database) -> None:
    def seek(_: str | None) -> Prepared:
        os.kill(os.getpid(), signal.SIGINT)
        for _second in range(5):
            time.sleep(1)
        raise AssertionError("nobody stopped it")

    @asynccontextmanager
    async def start(prepared: Prepared) -> AsyncIterator[Launched]:
        press_ctrl_c_in(0.05)
        await asyncio.sleep(5)
        async with launched(prepared) as ready:
            yield ready

    for seat in (Seat(seek, launched, None), Seat(prepare, start, None)):
        session = Session(db, seat, system="", sampling=Sampling(), conversation=None)
        with pytest.raises(Stopped):
            await session.ask("hello", Sheet())
        await asyncio.sleep(0.05)  # nothing that was cancelled late
        assert session.conversation is None
        assert seat.present is None


async def test_a_second_ctrl_c_does_not_cut_the_tidying_up(session: Session) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # for one that comes late
    try:
        for seconds in (0.2, 0.2, 0.201):
            press_ctrl_c_in(seconds)
        with pytest.raises(Stopped):
            await session.ask("slow", Sheet())
        await asyncio.sleep(0.05)
    finally:
        signal.signal(signal.SIGINT, before)
    assert said(session)[-1][2] is State.INTERRUPTED


async def test_ctrl_c_outside_a_stoppable_block_is_as_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    async with stoppable():
        pass
    assert signal.getsignal(signal.SIGINT) is before


async def test_cancelling_the_task_is_not_taken_for_ctrl_c() -> None:
    async def wait() -> None:
        async with stoppable():
            await asyncio.sleep(10)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_engine_that_dies_leaves_the_partial_and_is_started_again(
    session: Session, starts: Starts
) -> None:
    with pytest.raises(EngineError, match="SIGKILL"):
        await session.ask("die", Sheet())
    assert said(session)[-1] == ("assistant", "half an answer", State.INTERRUPTED)
    await session.ask("hello", Sheet())
    assert len(starts.running) == 2
    assert len(said(session)) == 4


async def test_an_engine_that_dies_before_the_first_word(session: Session) -> None:
    with pytest.raises(EngineError):
        await session.ask("silent death", Sheet())
    assert said(session) == [
        ("user", "silent death", State.COMPLETE),
        ("assistant", "", State.INTERRUPTED),
    ]
    answer = await session.ask("hello", Sheet())
    assert answer.text == "user:hello "


async def test_too_long_a_prompt_leaves_the_conversation_as_it_was(session: Session) -> None:
    with pytest.raises(PromptTooLong, match=r"9,000.*2,048.*/undo.*/clear.*--context"):
        await session.ask("too long", Sheet())
    assert session.conversation is None
    assert conversations.count(session.db) == 0
    await session.ask("hello", Sheet())
    before = said(session)
    with pytest.raises(PromptTooLong):
        await session.ask("too long", Sheet())
    assert said(session) == before


async def test_a_full_disk_is_said_and_the_next_question_works(
    session: Session, db: Database
) -> None:
    await session.ask("hello", Sheet())
    pages = db.rows("PRAGMA page_count")[0][0]
    db.rows(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(HistoryError, match="full"):
        await session.ask("x" * 50_000, Sheet())
    db.rows(f"PRAGMA max_page_count = {pages + 1000}")
    assert len(said(session)) == 2
    await session.ask("again", Sheet())
    assert len(said(session)) == 4


async def test_a_growing_answer_is_on_the_disk_before_it_ends(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snugly.cli.chat_answer.KEEP_SECONDS", 0.1)
    asking = asyncio.create_task(session.ask("slow", Sheet()))
    await asyncio.sleep(0.6)
    assert session.conversation is not None
    with opened(session.db.path) as other:  # what a crash now would leave
        last = conversations.load(other, session.conversation).messages[-1]
    assert (last.role, last.state) == ("assistant", State.INTERRUPTED)
    assert last.content.startswith("word0 word1 ")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_slow_drawing_does_not_hold_up_the_hearing() -> None:
    """A terminal that blocks (Ctrl-S, a slow line) must not make the engine wait."""
    heard_at: list[float] = []

    async def deltas() -> AsyncGenerator[Delta, None]:
        for number in range(50):
            heard_at.append(time.perf_counter())
            yield Delta(text=f"{number} ")
            await asyncio.sleep(0.001)

    class Slow(Sheet):
        def draw(self, text: str, thoughts: str) -> None:
            super().draw(text, thoughts)
            time.sleep(0.3)

    sheet, answer = Slow(), Answer()
    await hear(deltas(), answer, sheet, lambda _: None)
    assert heard_at[-1] - heard_at[0] < 0.3
    assert sheet.text == answer.text == " ".join(map(str, range(50))) + " "
    assert sheet.frames <= 3


async def test_drawing_keeps_to_twelve_frames_a_second() -> None:
    async def deltas() -> AsyncGenerator[Delta, None]:
        for _ in range(500):
            yield Delta(text="x")
            await asyncio.sleep(0.001)

    sheet = Sheet()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await hear(deltas(), Answer(), sheet, lambda _: None)
    assert sheet.frames <= 12 * (loop.time() - begun) + 3


async def test_a_screen_that_fails_ends_the_answer() -> None:
    class Closed(Sheet):
        def draw(self, text: str, thoughts: str) -> None:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await asyncio.wait_for(
            hear(
                FakeRunning(prepare(None).plan).stream(ChatRequest((Message("user", "slow"),))),
                Answer(),
                Closed(),
                lambda _: None,
            ),
            timeout=5,
        )


async def test_changing_the_model_keeps_the_conversation(session: Session, starts: Starts) -> None:
    await session.ask("one", Sheet())
    await obey(session, Command("model", "other"))
    answer = await session.ask("two", Sheet())
    assert "user:one" in answer.text
    assert kept(session).model == "other"
    assert [r.plan.model_name for r in starts.running] == ["fake", "other"]
    assert starts.running[0].dead, "two models at once may not fit"


async def test_a_model_that_is_not_there_leaves_the_old_one(
    session: Session, starts: Starts
) -> None:
    await session.ask("one", Sheet())
    with pytest.raises(UnknownModel):
        await obey(session, Command("model", "nonesuch"))
    await session.ask("two", Sheet())
    assert [r.plan.model_name for r in starts.running] == ["fake", "fake"]


async def test_undo_clear_and_load(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    await session.ask("one", Sheet())
    await session.ask("two", Sheet())
    await obey(session, Command("undo", ""))
    assert [content for role, content, _ in said(session) if role == "user"] == ["one"]
    first = session.conversation
    await obey(session, Command("clear", ""))
    with pytest.raises(UserError, match="nothing to undo"):
        await obey(session, Command("undo", ""))
    answer = await session.ask("three", Sheet())
    assert "one" not in answer.text
    await obey(session, Command("load", str(first)))
    assert session.conversation == first
    assert conversations.count(session.db) == 2


async def test_the_system_prompt_is_set_kept_and_taken_away(session: Session) -> None:
    await session.ask("one", Sheet())
    await obey(session, Command("system", "Be kind."))
    assert kept(session).system == "Be kind."
    await obey(session, Command("system", '""'))
    assert (session.system, kept(session).system) == ("", "")


async def test_saved_json_loads_as_a_conversation_of_its_own(
    session: Session, tmp_path: Path
) -> None:
    await session.ask("one", Sheet())
    first = said(session)
    file = tmp_path / "talk.json"
    await obey(session, Command("save", str(file)))
    await session.ask("two", Sheet())
    await obey(session, Command("save", f'"{file}"'))  # its own file may be written again
    assert len(json.loads(file.read_text())["messages"]) == 4
    before = session.conversation
    await obey(session, Command("load", str(file)))
    assert session.conversation != before
    assert said(session)[:2] == first
    await session.ask("three", Sheet())
    assert len(said(session)) == 6


async def test_nothing_to_save_or_count_yet(session: Session) -> None:
    for name in ("save", "stats"):
        with pytest.raises(UserError):
            await obey(session, Command(name, ""))


async def test_stats_and_measurement_agree_with_the_engine(session: Session) -> None:
    await session.ask("markdown", Sheet())
    assert session.heard is not None
    measured = measurement_of(session.heard)
    assert measured is not None
    # 100 + 40 + 10 + 50 MiB in the fake's plan; the file name says Q4_1
    assert measured.predicted_bytes == 200 * 2**20
    assert measured.peak_bytes == 210 * 2**20
    assert (measured.quant, measured.engine, measured.context) == ("Q4_1", "fake", 2048)
    assert (measured.prefill_tps, measured.decode_tps) == (500.0, 100.0)
    assert measured.ttft_ms >= 10  # the fake waits ten milliseconds
    text = stats_text(session.heard)
    assert "200 MiB predicted, 210 MiB at its peak" in text
    count = measured.completion_tokens
    assert f"{30 + count} of 2048 tokens used" in text
    assert "500.0 tokens/s (20 new, 10 kept)" in text
