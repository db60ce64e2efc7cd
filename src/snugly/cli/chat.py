"""`snugly chat`: talk to a model; conversations are kept, listed, searched and resumed."""

import asyncio
import sys
from typing import Annotated, NamedTuple

from cyclopts import Parameter
from cyclopts.validators import Number

from snugly.cli.chat_session import Sampling
from snugly.cli.chat_tables import conversations_table
from snugly.cli.render import note, print_json
from snugly.errors import UserError
from snugly.history import conversations
from snugly.history.db import Database
from snugly.history.opening import opened
from snugly.history.search import search as search_history

LISTED = 50


class _Room(NamedTuple):
    """What the model may take."""

    context: int | None
    kv: str | None
    polite: bool


def chat(
    *,
    model: Annotated[str | None, Parameter(name=["--model", "-m"])] = None,
    system: Annotated[str | None, Parameter(name=["--system", "-s"])] = None,
    context: Annotated[int | None, Parameter(validator=Number(gt=0))] = None,
    kv: str | None = None,
    temperature: Annotated[float | None, Parameter(validator=Number(gte=0, lte=2))] = None,
    seed: int | None = None,
    max_tokens: Annotated[int | None, Parameter(validator=Number(gt=0))] = None,
    polite: Annotated[bool, Parameter(negative="")] = False,
    resume: Annotated[int | bool, Parameter(negative="", show_default=False)] = False,
    list_: Annotated[bool, Parameter(name="--list", negative="")] = False,
    search: str | None = None,
    delete: int | None = None,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Talk to a model; conversations are kept on this machine.

    On a terminal Enter sends, Alt-Enter adds a line, Ctrl-C stops an answer and /help
    lists the commands. From a pipe each line is one question or command.

    Parameters
    ----------
    model
        Model to talk to; without it the best installed one.
    system
        System prompt: how the model is to behave.
    context
        Tokens that the conversation may take; without it the plan chooses.
    kv
        Type of the KV cache (f16, q8_0, ...); without it f16, or q8_0 where that is needed.
    temperature
        0 always takes the likeliest word; higher is more varied.
    seed
        Makes the same conversation come out the same.
    max_tokens
        Longest answer, in tokens.
    polite
        Take half of the threads, with low priority: on a battery, beside other work.
    resume
        Go on with conversation ID; without an ID with the last one.
    list_
        List the conversations, the last active first.
    search
        List the conversations in which all these words were said.
    delete
        Delete conversation ID for good.
    json_
        Print the list as JSON.
    """
    jobs = [list_, search is not None, delete is not None, resume is not False]
    if sum(jobs) > 1:
        raise UserError("--list, --search, --delete and --resume exclude each other.")
    if json_ and not (list_ or search is not None):
        raise UserError("--json goes with --list or --search.")
    with opened() as db:
        if list_ or search is not None:
            _list(db, search, json_)
        elif delete is not None:
            note(f"Deleted conversation {delete}: {conversations.delete(db, delete)}")
        else:
            sampling = Sampling(temperature, seed, max_tokens)
            _talk(db, model, system, _Room(context, kv, polite), sampling, resume)


def _list(db: Database, words: str | None, as_json: bool) -> None:
    if words is not None and not words.strip():
        raise UserError("There is nothing to search for.", "", "Give --search a word.")
    limit = conversations.count(db) if as_json else LISTED
    found = conversations.recent(db, limit) if words is None else search_history(db, words, limit)
    if as_json:
        print_json(found)
        return
    conversations_table(found)
    if len(found) == LISTED:
        note(f"The newest {LISTED} are shown; --json prints all.")


def _talk(
    db: Database,
    model: str | None,
    system: str | None,
    room: _Room,
    sampling: Sampling,
    resume: int | bool,
) -> None:
    """Enter the loop once, and leave with the code of the first error."""
    from snugly.cli import chat_loop
    from snugly.cli.chat_seat import Seat
    from snugly.cli.chat_session import Session
    from snugly.cli.progress import shown
    from snugly.engine import launch

    if hasattr(sys.stdout, "reconfigure"):
        # A terminal that knows no emoji must not end the conversation.
        sys.stdout.reconfigure(errors="replace")
    kept = None
    if resume is not False:
        kept = conversations.load(db, _last(db) if resume is True else resume)
    seat = Seat(
        lambda ref: launch.prepare(
            ref,
            context=room.context,
            kv_type=room.kv and room.kv.upper(),
            polite=room.polite,
            say=note,
            progress=shown(),
        ),
        lambda prepared: launch.launched(prepared),
        model or (kept.model if kept else None),
    )
    session = Session(
        db,
        seat,
        system=system if system is not None else kept.system if kept else "",
        sampling=sampling,
        conversation=kept.id if kept else None,
    )
    code = asyncio.run(chat_loop.talk(session))
    if code:
        raise SystemExit(code)


def _last(db: Database) -> int:
    found = conversations.recent(db, 1)
    if not found:
        raise UserError(
            "There is no conversation to resume.", "None was kept yet.", "Start with `snugly chat`."
        )
    return found[0].id
