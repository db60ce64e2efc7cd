"""Which answers changed: the same questions to two models, each taking its likeliest words."""

import asyncio
import difflib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from snugly.chat.types import ChatRequest, Message
from snugly.engine.launch import launched, prepare
from snugly.errors import UserError
from snugly.quantize.jobs_pool import usable_threads
from snugly.quantize.measure_process import answers as process_answers

Said = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Pair:
    """One question and both answers."""

    question: str
    base: str
    other: str

    @property
    def same(self) -> bool:
        """Whether the answers are the same but for spaces."""
        return self.base.split() == self.other.split()

    @property
    def alike(self) -> float:
        """Share of words in common and in order, 0 to 1."""
        words = self.base.split(), self.other.split()
        return difflib.SequenceMatcher(None, *words, autojunk=False).ratio()


def read_questions(path: str) -> list[str]:
    """One question a line, or JSON lines with `question` or `prompt`.

    Raises: UserError when there is none.
    """
    try:
        lines = Path(path).expanduser().read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read.", f"{error}.") from error
    questions = [_question(line, path) for line in lines if line.strip()]
    if not questions:
        raise UserError(f"{path} holds no question.", "", "Write one question a line.")
    return questions


def _question(line: str, path: str) -> str:
    if not line.lstrip().startswith("{"):
        return line.strip()
    try:
        row = json.loads(line)
    except ValueError:
        return line.strip()
    text = row.get("question") or row.get("prompt")
    if not isinstance(text, str):
        raise UserError(
            f"{path} has a line of JSON without a question.", f"It is {line[:60]!r}.",
            'Write {"question": "..."} on each line, or plain questions.',
        )  # fmt: skip
    return text


def ask(
    model: str, questions: Sequence[str], max_tokens: int, said: Said | None = None
) -> list[str]:
    """The model's answer to each question, without chance; it is gone afterwards.

    A GGUF is asked by the engine, a checkpoint's folder by transformers (an extra).

    Raises: EngineError, DoesNotFit, BadModelFile, UserError.
    """
    if os.path.isdir(model):
        return _ask_checkpoint(model, questions, max_tokens, said)
    ready = prepare(model)

    async def answers() -> list[str]:
        found = []
        async with launched(ready) as running:
            for number, question in enumerate(questions):
                request = ChatRequest(
                    (Message("user", question),), max_tokens=max_tokens, temperature=0.0, seed=0
                )
                deltas = [delta async for delta in running.running.stream(request)]
                found.append("".join(delta.text for delta in deltas).strip())
                if said:
                    said(number + 1, len(questions), question)
        return found

    return asyncio.run(answers())


def _ask_checkpoint(
    folder: str, questions: Sequence[str], max_tokens: int, said: Said | None
) -> list[str]:
    config = {"task": "ask", "source": folder, "questions": list(questions),
              "max_tokens": max_tokens, "threads": usable_threads()}  # fmt: skip
    found: list[str] = []
    for answer in process_answers(config):
        found.append(str(answer["answer"]))
        if said:
            said(len(found), len(questions), questions[len(found) - 1])
    return found


def changed_words(base: str, other: str) -> list[tuple[str, str, str]]:
    """Runs of words: ("same" | "changed", words of the first, words of the second)."""
    left, right = base.split(), other.split()
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    return [
        ("same" if tag == "equal" else "changed", " ".join(left[a:b]), " ".join(right[c:d]))
        for tag, a, b, c, d in matcher.get_opcodes()
    ]
