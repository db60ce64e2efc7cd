"""What the slash commands do. Each takes the session and its argument, and says the outcome."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from snugly.cli import chat_files
from snugly.cli.chat_answer import stoppable
from snugly.cli.chat_lines import Command, help_text
from snugly.cli.chat_session import Session
from snugly.cli.chat_stats import stats_text
from snugly.cli.chat_tables import conversations_table, tell
from snugly.cli.render import note
from snugly.errors import UserError
from snugly.history import conversations


async def obey(session: Session, command: Command) -> None:
    """Do what `command` says. /exit is EOFError, like the end of the input.

    Raises: UserError and the errors of what is done; the conversation is intact then.
    """
    await _VERBS[command.name](session, command.argument)


async def _help(_: Session, __: str) -> None:
    tell(help_text())


async def _exit(_: Session, __: str) -> None:
    raise EOFError


async def _model(session: Session, ref: str) -> None:
    if ref:
        async with stoppable():
            await session.seat.change(ref)
    present = session.seat.present
    if present is None:
        tell(f"{session.seat.ref or 'The best installed model'}, not started yet.")
    else:
        tell(f"{present.name}, context {present.plan.context} tokens.")


async def _system(session: Session, text: str) -> None:
    if text:
        session.system = "" if text in ('""', "''") else text
        if session.conversation is not None:
            conversations.set_system(session.db, session.conversation, session.system)
    tell(f"System prompt: {session.system}" if session.system else "No system prompt.")


async def _save(session: Session, name: str) -> None:
    kept = session.kept()
    if kept is None:
        raise UserError("There is nothing to save yet.", "", "Ask something first.")
    path = _path(name or chat_files.default_name(kept.title))
    chat_files.write(path, kept, replace=str(path) in session.saved)
    session.saved.add(str(path))
    tell(f"Saved to {path}.")


async def _load(session: Session, which: str) -> None:
    if not which:
        conversations_table(conversations.recent(session.db, 20))
        return
    if which.isdecimal():
        found = session.resume(int(which))
    else:
        read = chat_files.read(_path(which))
        found = session.resume(
            conversations.keep(
                session.db,
                title=read.title,
                model=read.model,
                system=read.system,
                messages=read.messages,
            )
        )
    questions = sum(message.role == "user" for message in found.messages)
    tell(f"Conversation {found.id}: {found.title} ({questions} questions).")
    if found.model != session.seat.ref:
        note(f"It was held with {found.model}; /model {found.model} goes back to that.")


async def _undo(session: Session, _: str) -> None:
    question = None
    if session.conversation is not None:
        question = conversations.undo(session.db, session.conversation)
    if question is None:
        raise UserError("There is nothing to undo.", "The conversation has no question yet.")
    tell(f"Dropped: {conversations.title_of(question)}")


async def _stats(session: Session, _: str) -> None:
    if session.heard is None:
        raise UserError("There are no figures yet.", "No answer has come to its end.")
    tell(stats_text(session.heard))


async def _clear(session: Session, _: str) -> None:
    number = session.conversation
    session.clear()
    kept = f" Number {number} stays in the history." if number is not None else ""
    tell(f"A new conversation.{kept}")


def _path(typed: str) -> Path:
    """A file name as typed: quotes are taken off, ~ is the home folder."""
    if len(typed) > 1 and typed[0] == typed[-1] and typed[0] in "\"'":
        typed = typed[1:-1]
    if "\0" in typed or "\n" in typed:
        raise UserError("A file name has one line.", f"This is none: {typed!r}.")
    try:
        return Path(typed).expanduser()
    except RuntimeError as error:  # ~nobody
        raise UserError(f"{typed} is no file name here.", f"{error}.") from error


_VERBS: dict[str, Callable[[Session, str], Awaitable[None]]] = {
    "help": _help,
    "model": _model,
    "system": _system,
    "save": _save,
    "load": _load,
    "undo": _undo,
    "stats": _stats,
    "clear": _clear,
    "exit": _exit,
}
