"""One sitting: a conversation in the history, a model in its seat, and questions between."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from snugly.chat.types import ChatRequest, Message
from snugly.cli.chat_answer import Answer, hear, stoppable
from snugly.cli.chat_draw import Screen
from snugly.cli.chat_seat import Seat, lasting
from snugly.engine.beside import Beside
from snugly.errors import EngineError, PromptTooLong
from snugly.history import conversations
from snugly.history.db import Database, now
from snugly.history.types import Conversation, State, StoredMessage

if TYPE_CHECKING:
    from snugly.engine.launch import Launched


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn. None leaves a choice to the model's makers and the engine."""

    temperature: float | None = None
    seed: int | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer and what the engine held when it had been given."""

    answer: Answer
    launched: "Launched"
    peak_bytes: int | None
    others_cores: float | None = None  # that other programs kept busy meanwhile


def request_messages(
    system: str, kept: Sequence[StoredMessage], question: str
) -> tuple[Message, ...]:
    """What the model is given: the system prompt, each answered question, the new one.

    A question without an answer, or with one cut before its first word, is left out:
    many chat templates refuse two questions in a row.
    """
    turns = [Message("system", system)] if system else []
    for asked, answered in zip(kept, kept[1:], strict=False):
        if asked.role == "user" and answered.role == "assistant" and answered.content.strip():
            turns += [Message("user", asked.content), Message("assistant", answered.content)]
    return (*turns, Message("user", question))


class Session:
    """What the commands act on. The history file is the truth; nothing is kept twice."""

    def __init__(
        self, db: Database, seat: Seat, *, system: str, sampling: Sampling, conversation: int | None
    ) -> None:
        self.db = db
        self.seat = seat
        self.system = system
        self.sampling = sampling
        self.conversation = conversation  # None until the first question
        self.heard: Heard | None = None  # the last answer that came to its end
        self.saved: set[str] = set()  # files of ours, which /save may write again

    def kept(self) -> Conversation | None:
        """The conversation so far; None before its first question."""
        if self.conversation is None:
            return None
        return conversations.load(self.db, self.conversation)

    async def ask(self, question: str, screen: Screen) -> Answer:
        """Ask, draw the answer and keep both.

        Raises: Stopped when the person cut it, EngineError when the engine did (what
        was heard is kept, marked as interrupted); PromptTooLong, and then the
        conversation is as it was; HistoryError; what launching raises.
        """
        try:
            async with stoppable():
                return await self._ask(question, screen)
        except EngineError:
            await self.seat.leave()  # the next question starts it again
            raise

    async def _ask(self, question: str, screen: Screen) -> Answer:
        launched = await self.seat.take()
        before = self.kept()
        request = self._request(before, question, launched)
        keeper = Keeper(self.db, self._keep_question(question, before, launched))
        answer, beside = Answer(), Beside(launched.running.pid)
        try:
            await hear(launched.running.stream(request), answer, screen, keeper.keep)
        except PromptTooLong as error:
            self._take_back(before)
            raise _too_long(error) from error
        except BaseException:
            keeper.settle(answer, State.INTERRUPTED)
            raise
        keeper.settle(answer, State.COMPLETE)
        self.heard = Heard(answer, launched, launched.running.peak_bytes(), beside.others_cores())
        return answer

    def _request(
        self, before: Conversation | None, question: str, launched: "Launched"
    ) -> ChatRequest:
        chosen = self.sampling.temperature
        return ChatRequest(
            request_messages(self.system, before.messages if before else (), question),
            max_tokens=self.sampling.max_tokens,
            temperature=launched.sampling.temperature if chosen is None else chosen,
            seed=self.sampling.seed,
            repeat_penalty=launched.sampling.repeat_penalty,
        )

    def _keep_question(
        self, question: str, before: Conversation | None, launched: "Launched"
    ) -> int:
        ref = lasting(launched.installed.ref)
        if before is None:
            self.conversation, _ = conversations.start(
                self.db, model=ref, system=self.system, question=question
            )
            return self.conversation
        if before.model != ref:
            conversations.set_model(self.db, before.id, ref)
        if before.system != self.system:
            conversations.set_system(self.db, before.id, self.system)
        conversations.append(self.db, before.id, "user", question)
        return before.id

    def _take_back(self, before: Conversation | None) -> None:
        if self.conversation is None:
            return
        if before is None:
            conversations.delete(self.db, self.conversation)
            self.conversation = None
        else:
            conversations.undo(self.db, before.id)

    def resume(self, conversation_id: int) -> Conversation:
        """Go on with a kept conversation and its system prompt; the model stays.

        Raises: UserError when there is none with this id.
        """
        found = conversations.load(self.db, conversation_id)
        self.conversation, self.system, self.heard = found.id, found.system, None
        return found

    def clear(self) -> None:
        """Begin anew with the same model and system prompt; nothing is deleted."""
        self.conversation, self.heard = None, None


class Keeper:
    """Keeps one answer while it grows: as interrupted, until it is known to be whole."""

    def __init__(self, db: Database, conversation: int) -> None:
        self._db = db
        self._conversation = conversation
        self._begun = now()
        self._message: int | None = None

    def keep(self, text: str, state: State = State.INTERRUPTED, tokens: int | None = None) -> None:
        """Bring what is on the disk up to `text`. May be called from any thread.

        Raises: HistoryError.
        """
        if self._message is None:
            self._message = conversations.append(
                self._db, self._conversation, "assistant", text,
                state=state, tokens=tokens, started_at=self._begun,
            )  # fmt: skip
        else:
            conversations.settle(self._db, self._message, text, state=state, tokens=tokens)

    def settle(self, answer: Answer, state: State) -> None:
        """Keep the answer as it ended.

        Raises: HistoryError.
        """
        self.keep(answer.text, state, answer.usage.completion_tokens if answer.usage else None)


def _too_long(error: PromptTooLong) -> PromptTooLong:
    return PromptTooLong(
        error.problem,
        error.because,
        "The conversation is as it was. /undo drops the last turn, /clear begins a new "
        "conversation, and `snugly chat --resume --context N` goes on with more room.",
    )
