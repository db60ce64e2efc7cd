"""Events of an engine as pieces of an answer whose text is whole characters."""

from collections.abc import Callable
from dataclasses import replace

from snugly.chat.types import Delta
from snugly.engine.wire import delta_of


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
        self._top = top
        self._silent = silent
        self._text, self._reasoning = WholeCharacters(), WholeCharacters()
        self._arguments: dict[int, WholeCharacters] = {}

    def read(self, data: str, more: bool = False) -> Delta:
        """The piece in one event; `more` says that the next one is here already.

        Raises: as `parse`.
        """
        delta = self._parse(data)
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
