"""Events of an engine as pieces of an answer whose text is whole characters."""

import json
from collections.abc import Callable
from dataclasses import replace

from snugly.chat.types import Delta
from snugly.engine.wire import delta_of
from snugly.errors import EngineError


class WholeCharacters:
    """Joins characters that arrive in halves.

    An engine that escapes non-ASCII text may send an emoji's two surrogates in two
    events; each alone is not text and could not be printed.
    """

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """`text` with what was held before it, less a half that waits for the next."""
        if not self._held and text.isascii():
            return text
        text = self._held + text
        self._held = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        whole = text[: len(text) - len(self._held)]
        return whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_value_at = json.JSONDecoder().raw_decode
_TRIES = 8  # at finding what stays the same, before an engine counts as one that varies it


class Frame:
    """What all pieces of an answer have in common around their words.

    Between two words nothing changes but, once a second, a time: only the words are parsed.
    """

    def __init__(self) -> None:
        self._head, self._tail = "\0", ""  # fits nothing
        self._tries, self._fitted = _TRIES, False

    def words(self, data: str) -> str | None:
        """The text in an event that is framed like the one before; None for all others."""
        head = self._head
        if not (data.startswith(head) and data.endswith(self._tail)):
            return None
        try:
            text, end = _value_at(data, len(head))
        except (ValueError, RecursionError):
            return None
        if type(text) is not str or end != len(data) - len(self._tail):
            return None
        self._fitted = True
        return text

    def learn(self, data: str, delta: Delta) -> None:
        """Take over the frame of an event that was read as `delta`."""
        if self._fitted:
            self._tries, self._fitted = _TRIES, False
        if not self._tries or delta != Delta(text=delta.text):
            return
        self._tries -= 1
        head, name, rest = data.partition('"content":')
        head += name + rest[: len(rest) - len(rest.lstrip())]
        try:
            _, end = _value_at(data, len(head))
            tail = data[end:]
            # It frames words and nothing else where other words in it are all that changes.
            other = f"{delta.text}."
            if delta_of(f"{head}{json.dumps(other)}{tail}") == Delta(text=other):
                self._head, self._tail = head, tail
        except (ValueError, EngineError):
            return


class Pieces:
    """Turns the events of one answer into its pieces.

    `parse` is `wire.delta_of` for chat, or `wire_raw.completion_delta`. `top` is how many
    alternatives to each token are wanted: the engine is asked for one at least. `silent`
    takes away the one token that llama-server writes even where none was wanted.
    """

    def __init__(
        self,
        parse: Callable[[str], Delta] = delta_of,
        top: int | None = None,
        silent: bool = False,
    ) -> None:
        self._parse = parse
        self._frame = Frame() if parse is delta_of and not silent else None
        self._top = top
        self._silent = silent
        self._text, self._reasoning = WholeCharacters(), WholeCharacters()
        self._arguments: dict[int, WholeCharacters] = {}

    def read(self, data: str, more: bool = False) -> Delta:
        """The piece in one event; `more` says that the next one is here already.

        Raises: as `parse`.
        """
        frame = self._frame
        if frame is not None and (words := frame.words(data)) is not None:
            return Delta(text=self._text.feed(words), more=more)
        delta = self._parse(data)
        if frame is not None:
            frame.learn(data, delta)
        if self._silent:
            usage = delta.usage and replace(delta.usage, completion_tokens=0)
            return Delta(finish_reason=delta.finish_reason, usage=usage)
        text = self._text.feed(delta.text)
        if not delta.tool_calls and not delta.logprobs:  # nearly every piece
            if text is delta.text and not delta.reasoning and not more:
                return delta
            reasoning = self._reasoning.feed(delta.reasoning)
            return replace(delta, text=text, reasoning=reasoning, more=more)
        calls = (
            replace(
                call,
                arguments=self._arguments.setdefault(call.index, WholeCharacters()).feed(
                    call.arguments
                ),
            )
            for call in delta.tool_calls
        )
        return replace(
            delta,
            text=text,
            reasoning=self._reasoning.feed(delta.reasoning),
            tool_calls=tuple(calls),
            logprobs=tuple(replace(token, top=token.top[: self._top]) for token in delta.logprobs),
            more=more,
        )
