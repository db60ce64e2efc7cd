"""The loop of a chat: read a line, answer or obey it, say what went wrong, go on."""

import sys
from typing import TYPE_CHECKING

from snugly.cli.chat_answer import Answer, Stopped, stoppable
from snugly.cli.chat_draw import MarkdownScreen, PlainScreen, Screen, as_markdown, split_blocks
from snugly.cli.chat_input import (
    Editor,
    Lines,
    Reader,
    is_dialogue,
    patient_interrupts,
    quiet_keyboard,
)
from snugly.cli.chat_lines import Question, read_line
from snugly.cli.chat_session import Session
from snugly.cli.chat_stats import measurement_of
from snugly.cli.chat_verbs import obey
from snugly.cli.render import console, note, render_error, visible
from snugly.errors import HistoryError, SnuglyError
from snugly.history import measurements
from snugly.settings import settings

if TYPE_CHECKING:
    from snugly.history.types import Conversation

HOW_TO_LEAVE = "Ctrl-D or /exit leaves."


async def talk(session: Session) -> int:
    """Talk until the input ends; the exit code of the first error, or 0.

    A person at a terminal sees errors and goes on, and the code is 0.

    Raises: what launching the first model raises; KeyboardInterrupt in a pipe.
    """
    try:
        if is_dialogue():
            with quiet_keyboard(), patient_interrupts():
                return await _dialogue(session)
        screen = PlainScreen(sys.stdout)
        if sys.stdin.isatty():
            with patient_interrupts():
                return await _rounds(session, Lines(prompt=_plain_prompt), screen)
        return await _rounds(session, Lines(), screen, patient=False)
    finally:
        await session.seat.leave()


async def _dialogue(session: Session) -> int:
    if not await _welcome(session):
        return 130
    await _rounds(session, Editor(settings().cache / "chat-input"), MarkdownScreen())
    if session.conversation is not None:
        note(f"Kept: `snugly chat --resume {session.conversation}` goes on with it.")
    return 0


def _plain_prompt() -> None:
    print("> ", end="", file=sys.stderr, flush=True)


async def _welcome(session: Session) -> bool:
    """Start the model and show where things stand; False when the person stopped it."""
    try:
        async with stoppable():
            ready = await session.seat.take()
    except Stopped:
        note("Stopped before the model was ready.")
        return False
    note(
        f"{ready.name}, context {ready.plan.context} tokens. "
        f"/help lists the commands. {HOW_TO_LEAVE}"
    )
    kept = session.kept()
    if kept is not None:
        _show_end(kept)
    return True


def _show_end(kept: "Conversation") -> None:
    """The last question of a resumed conversation and its answer."""
    note(f"Conversation {kept.id}: {visible(kept.title)}")
    asked = [n for n, message in enumerate(kept.messages) if message.role == "user"]
    for message in kept.messages[asked[-1] :] if asked else ():
        if message.role == "user":
            note(f"> {visible(message.content)}")
        else:
            for block in split_blocks(visible(message.content)):
                console().print(as_markdown(block))
                console().print()


async def _rounds(session: Session, reader: Reader, screen: Screen, *, patient: bool = True) -> int:
    """Line after line. `patient`: an interrupt ends the answer and not the program."""
    code = 0
    while True:
        try:
            line = await reader.line()
        except EOFError:
            return code
        except KeyboardInterrupt:
            if not patient:
                raise
            note(HOW_TO_LEAVE)
            continue
        try:
            await _one(session, line, screen)
        except EOFError:
            return code
        except Stopped:
            if not patient:
                raise KeyboardInterrupt from None
            note("Stopped.")
        except SnuglyError as error:
            if session.seat.failed and not patient:
                raise  # no line after this one could be answered either
            render_error(error)
            code = code or error.exit_code


async def _one(session: Session, line: str, screen: Screen) -> None:
    """Answer a question or obey a command."""
    meant = read_line(line)
    if meant is None:
        return
    if not isinstance(meant, Question):
        await obey(session, meant)
        return
    answer = await session.ask(meant.text, screen)
    _remark_on(answer, session)
    if session.heard is not None and (measured := measurement_of(session.heard)) is not None:
        try:
            measurements.record_in(session.db, measured)
        except HistoryError as error:
            note(f"The figures of this answer were not kept. {error.problem}")


def _remark_on(answer: Answer, session: Session) -> None:
    """Say why an answer is not whole, or why nothing is seen of it."""
    if answer.finish_reason == "length":
        asked = session.sampling.max_tokens
        tokens = answer.usage.completion_tokens if answer.usage else None
        if asked is not None and (tokens is None or tokens >= asked):
            note(f"The answer was cut at --max-tokens {asked}.")
        else:
            note("The answer was cut: the context is full. /clear begins anew, /undo drops a turn.")
    elif not answer.text.strip():
        note("The model had nothing to say.")
