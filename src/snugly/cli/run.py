"""`snugly run`: answer one prompt, then leave."""

import asyncio
import json
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from snugly.chat.types import ChatRequest, Message
from snugly.cli.begun import BEGUN
from snugly.cli.chat_answer import Answer
from snugly.cli.chat_session import Heard
from snugly.cli.chat_stats import measurement_of, stats_text
from snugly.cli.prompt import compose, file_text, piped_text, read_schema
from snugly.cli.render import note, print_json, visible
from snugly.engine.beside import Beside
from snugly.engine.launch import Prepared, launched, prepare
from snugly.errors import EngineError, SnuglyError


def run(
    *prompt: str,
    model: Annotated[str | None, Parameter(name=["--model", "-m"])] = None,
    file: Annotated[list[Path] | None, Parameter(name=["--file", "-f"], negative="")] = None,
    system: Annotated[str | None, Parameter(name=["--system", "-s"])] = None,
    context: Annotated[int | None, Parameter(validator=Number(gt=0))] = None,
    kv: str | None = None,
    max_tokens: Annotated[int | None, Parameter(validator=Number(gt=0))] = None,
    temperature: Annotated[float | None, Parameter(validator=Number(gte=0, lte=2))] = None,
    seed: Annotated[int | None, Parameter(validator=Number(gte=0, lt=2**32))] = None,
    schema: str | None = None,
    polite: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    stats: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Answer one prompt, then leave.

    The prompt is the words, then the files, then what is piped in:
    `cat notes.txt | snugly run "summarise"`.

    Parameters
    ----------
    prompt
        The question.
    model
        A name, a reference or a file; without it the best installed model, or a small one
        that is fetched.
    file
        A text file to put into the prompt; may be given several times.
    system
        System prompt: how the model is to behave.
    context
        Tokens that prompt and answer may take together; without it the plan chooses.
    kv
        Type of the KV cache (f16, q8_0, ...); without it f16, or q8_0 where that is needed.
    max_tokens
        Longest answer, in tokens.
    temperature
        0 always takes the likeliest word; higher is more varied.
    seed
        Makes the same prompt come out the same.
    schema
        Answer in JSON that satisfies this schema: a file, JSON, or the word json.
    polite
        Take half of the threads, with low priority: on a battery, beside other work.
    as_json
        Print one JSON document: the answer, token counts, times and memory.
    stats
        Print speed and memory on standard error, predicted beside actual.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal that knows no emoji
    shape = None if schema is None else read_schema(schema)
    files = [(path.name, file_text(path)) for path in file or []]
    text = compose(prompt, piped_text(), files)
    turns = ([Message("system", system)] if system else []) + [Message("user", text)]
    ready = _prepare(model, context, kv, polite)
    advised = ready.sampling
    request = ChatRequest(
        tuple(turns),
        max_tokens=max_tokens,
        temperature=advised.temperature if temperature is None else temperature,
        seed=seed,
        schema=shape,
        repeat_penalty=advised.repeat_penalty,
    )
    heard = asyncio.run(_answer(ready, request, quiet=as_json))
    if as_json:
        print_json(document(heard))
    _finish(heard, shape, max_tokens)
    if stats:
        note(stats_text(heard))


def _prepare(model: str | None, context: int | None, kv: str | None, polite: bool) -> Prepared:
    from snugly.cli.progress import shown

    return prepare(
        model, context=context, kv_type=kv.upper() if kv else None, polite=polite, say=note,
        progress=shown(), begun=BEGUN,
    )  # fmt: skip


async def _answer(ready: Prepared, request: ChatRequest, quiet: bool) -> Heard:
    """Start the model, print its answer as it comes, and measure."""
    async with launched(ready) as model:
        answer, beside = Answer(), Beside(model.running.pid)
        write = _Writer(sys.stdout.isatty())
        async with aclosing(model.running.stream(request)) as deltas:
            async for delta in deltas:
                answer.add(delta)
                if not quiet:
                    write.piece(delta.text)
        others = beside.others_cores()
        if not quiet:
            write.end()
        return Heard(answer, model, model.running.peak_bytes(), others)


class _Writer:
    """Pieces to stdout at once.

    At a terminal, control characters are left out: a model's answer must not move the
    cursor or change the title.
    """

    def __init__(self, terminal: bool) -> None:
        self._terminal = terminal
        self._last = ""

    def piece(self, text: str) -> None:
        if self._terminal:
            text = visible(text)
        if text:
            sys.stdout.write(text)
            sys.stdout.flush()
            self._last = text

    def end(self) -> None:
        if self._last and not self._last.endswith("\n"):
            sys.stdout.write("\n")
        sys.stdout.flush()


def _finish(heard: Heard, shape: dict[str, Any] | None, max_tokens: int | None) -> None:
    """Say what is off about the answer, and remember how the run went."""
    from snugly.history.measurements import record

    measurement = measurement_of(heard)
    if measurement is not None:
        try:
            record(measurement)
        except SnuglyError as error:  # the answer is no less good
            note(f"This run is not in the history: {error.problem} {error.because}")
    cut = heard.answer.finish_reason == "length"
    where = f"--max-tokens {max_tokens}" if max_tokens else "the end of the context"
    if shape is not None and not _is_json(heard.answer.text):
        raise EngineError(
            "The answer is not whole JSON.",
            f"It was cut at {where}." if cut else "The model stopped too early.",
            "Allow a longer answer with --max-tokens, or ask for less.",
        )
    if cut:
        note(f"The answer was cut at {where}.")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def document(heard: Heard) -> dict[str, Any]:
    """What `--json` prints; documented in docs/run.md."""
    answer, plan = heard.answer, heard.launched.plan
    return {
        "model": heard.launched.installed.ref,
        "text": answer.text,
        "reasoning": "".join(answer.thoughts),
        "finish_reason": answer.finish_reason,
        "usage": answer.usage,
        "ttft_ms": answer.ttft_ms,
        "seen_decode_tps": answer.seen_tps,
        "memory": {
            "predicted_bytes": plan.estimate.total_bytes,
            "peak_bytes": heard.peak_bytes,
        },
        "plan": plan,
    }
