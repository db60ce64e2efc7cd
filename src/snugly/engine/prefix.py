"""What a prompt begins with, as marks that can be compared: which work was done before.

A mark stands for everything up to it, so two prompts have a prefix in common exactly as far
as their marks are equal. Marks choose what is restored; whether it is right, the engine sees
by comparing tokens. They begin with the holder: nobody's marks are ever another's.
"""

import hashlib
import json
from dataclasses import dataclass

from snugly.chat.requests import Prompt
from snugly.chat.types import ChatRequest, Delta, Message

# Bytes of prompt to a mark: about 64 tokens, a tenth of a second of reading at worst.
BLOCK = 256
MARK = 8  # bytes; a wrong guess costs one restoring in vain
_TURN, _SPEAKS = b"\x1e", b"\x1f"  # ASCII's record and unit separators


@dataclass(frozen=True, slots=True)
class Trail:
    """A prompt of `n_bytes`, by its marks. `whole` is the mark of all of it."""

    marks: bytes
    n_bytes: int
    whole: bytes

    def shared(self, other: "Trail") -> int:
        """Bytes, in whole blocks, that two prompts begin with alike."""
        low, high = 0, min(len(self.marks), len(other.marks)) // MARK
        while low < high:  # equal up to somewhere, different from there on
            middle = (low + high + 1) // 2
            span = slice((middle - 1) * MARK, middle * MARK)
            if self.marks[span] == other.marks[span]:
                low = middle
            else:
                high = middle - 1
        return low * BLOCK


def trail_of(holder: str, words: bytes) -> Trail:
    """The marks of a prompt of one holder."""
    chain = hashlib.blake2b(holder.encode(), digest_size=MARK, person=b"snugly prefix")
    marks = bytearray()
    full = len(words) // BLOCK * BLOCK
    for start in range(0, full, BLOCK):
        chain.update(words[start : start + BLOCK])
        marks += chain.digest()
    chain.update(words[full:])
    return Trail(bytes(marks), len(words), chain.digest())


def goes_on(holder: str, words: bytes, kept: Trail) -> bool:
    """Whether a prompt begins with the whole of a kept one."""
    return len(words) > kept.n_bytes and trail_of(holder, words[: kept.n_bytes]) == kept


def words_of(request: ChatRequest) -> bytes:
    """What decides about the beginning of a chat's prompt, in the order of templates."""
    tools = [[tool.name, tool.description, tool.parameters] for tool in request.tools]
    thinking = request.reasoning
    head = [tools, request.tool_choice.mode, thinking.enabled, thinking.effort]
    said = json.dumps(head, ensure_ascii=False).encode("utf-8", "replace")
    return said + b"".join(_turn(message) for message in request.messages)


def _turn(message: Message) -> bytes:
    words = [message.text, *(call.name + call.arguments for call in message.tool_calls)]
    said = "".join(words).encode("utf-8", "replace")
    seen = b"".join(hashlib.sha256(image.data).digest() for image in message.images)
    return _TURN + message.role.encode() + _SPEAKS + seen + said


def words_of_prompt(prompt: Prompt) -> bytes:
    """The same of a prompt without a template: words, or tokens."""
    if isinstance(prompt, str):
        return prompt.encode("utf-8", "replace")
    return b"".join(token.to_bytes(4, "little", signed=True) for token in prompt)


class Heard:
    """An answer as it comes, so that the next question's prompt is known to begin with it."""

    def __init__(self, request: object) -> None:
        turns = request.messages if isinstance(request, ChatRequest) else ()
        # An engine with pictures among the tokens does not save them.
        self._savable = not any(turn.images for turn in turns)
        begins = bool(turns) and turns[-1].role != "assistant"  # else a turn is continued
        self._words = [(_TURN + b"assistant" + _SPEAKS).decode()] if begins else []
        self.tokens = 0  # prompt and answer; 0 until they are counted, or not to be saved
        self.read_tps = 0.0
        self.read = self.cached = 0

    def feed(self, delta: Delta) -> None:
        """One more piece."""
        self._words.append(delta.text)
        for piece in delta.tool_calls:
            self._words += (piece.name, piece.arguments)
        if delta.usage is not None:
            usage = delta.usage
            count = usage.prompt_tokens + usage.completion_tokens
            self.tokens = count if self._savable else 0
            self.cached = usage.cached_tokens
            self.read = usage.prompt_tokens - self.cached
            self.read_tps = usage.prefill_tps

    @property
    def words(self) -> bytes:
        """What stands after the prompt now."""
        return "".join(self._words).encode("utf-8", "replace")
