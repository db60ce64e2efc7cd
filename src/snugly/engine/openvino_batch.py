"""All answers of one pipeline, computed step by step in one thread."""

import asyncio
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

# What a pipeline's status says of an answer.
RUNNING, FINISHED, IGNORED = "RUNNING", "FINISHED", "IGNORED"


class PipelineBroke(Exception):
    """A step failed: the text is the library's."""


@dataclass(eq=False, slots=True)
class Answer:
    """One answer on its way.

    On `tokens` arrive an empty list when the request was taken, then its tokens; None ends
    them, an exception fails them.
    """

    ids: Any
    config: Any
    loop: asyncio.AbstractEventLoop
    tokens: "asyncio.Queue[Sequence[int] | Exception | None]" = field(default_factory=asyncio.Queue)
    handle: Any = None
    at_limit: bool = False

    def tell(self, what: "Sequence[int] | Exception | None") -> None:
        """Hand something to the event loop, from the thread."""
        self.loop.call_soon_threadsafe(self.tokens.put_nowait, what)


class Batch:
    """Owns the pipeline: nothing else may touch it. `pipe` is a ContinuousBatchingPipeline."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._orders: queue.SimpleQueue[tuple[str, Answer]] = queue.SimpleQueue()
        self._under_way: list[Answer] = []
        self._number = 0
        threading.Thread(target=self._work, daemon=True).start()

    def begin(self, ids: Any, config: Any) -> Answer:
        """Start an answer to the tokens `ids` (a tensor)."""
        answer = Answer(ids, config, asyncio.get_running_loop())
        self._orders.put(("begin", answer))
        return answer

    def cancel(self, answer: Answer) -> None:
        """Let an answer be; its tokens end. Nothing happens when it is done."""
        self._orders.put(("cancel", answer))

    def _work(self) -> None:
        while True:
            self._obey(wait=not self._under_way)
            try:
                if self._pipe.has_non_finished_requests():
                    self._pipe.step()
            except Exception as error:
                # The pipeline's state is not to be trusted any more: all its answers fail.
                for answer in self._under_way:
                    answer.tell(PipelineBroke(str(error)))
                self._under_way.clear()
                continue
            self._hand_out()

    def _obey(self, wait: bool) -> None:
        while wait or not self._orders.empty():
            order, answer = self._orders.get()
            wait = False
            if order == "begin":
                self._begin(answer)
            elif answer in self._under_way:
                answer.handle.cancel()
                self._under_way.remove(answer)
                answer.tell(None)

    def _begin(self, answer: Answer) -> None:
        self._number += 1
        try:
            answer.handle = self._pipe.add_request(self._number, answer.ids, answer.config)
        except Exception as error:  # a schema that is none, a value out of range
            answer.tell(PipelineBroke(str(error)))
            return
        self._under_way.append(answer)
        answer.tell([])  # it was taken: what follows is its text

    def _hand_out(self) -> None:
        for answer in list(self._under_way):
            while answer.handle.can_read():
                for piece in answer.handle.read().values():
                    answer.at_limit = str(piece.finish_reason).endswith("LENGTH")
                    answer.tell(list(piece.generated_ids))
            status = str(answer.handle.get_status()).rpartition(".")[2]
            if status == RUNNING:
                continue
            self._under_way.remove(answer)
            broke = PipelineBroke("its cache has no room left") if status == IGNORED else None
            answer.tell(broke)
