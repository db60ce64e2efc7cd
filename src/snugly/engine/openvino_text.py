"""From tokens to text as it comes: whole characters only, and nothing of a stop string. Pure."""

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]
_UNFINISHED = "\ufffd"  # what a decoder writes for bytes that are no character yet
_LOOK_BACK = 8  # tokens before the new ones: some decoders put a blank before a word or not


class Words:
    """The text of tokens that come one by one.

    Only the last tokens are decoded again each time, so that long answers stay cheap.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._from = self._told = 0  # decode from there; told up to there

    def feed(self, tokens: Sequence[int]) -> str:
        """The text that these tokens add; what ends inside a character waits for the next."""
        self._tokens += tokens
        before = self._decode(self._tokens[self._from : self._told])
        text = self._decode(self._tokens[self._from :])
        if text.endswith(_UNFINISHED) or len(text) < len(before):
            return ""
        self._told = len(self._tokens)
        self._from = max(self._from, self._told - _LOOK_BACK)
        return text[len(before) :]

    def rest(self) -> str:
        """What is left at the end, be it a whole character or not."""
        before = self._decode(self._tokens[self._from : self._told])
        return self._decode(self._tokens[self._from :])[len(before) :]


class Stops:
    """Holds text back that may be the beginning of a stop string."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = [word for word in words if word]
        self._held = ""
        self.found = ""  # the stop string that ended the text

    def feed(self, text: str) -> str:
        """What of it, and of what was held, can be told now."""
        if self.found:
            return ""
        text = self._held + text
        hits = [(text.find(word), word) for word in self._words if word in text]
        if hits:
            at, self.found = min(hits)
            self._held = ""
            return text[:at]
        keep = max((_overlap(text, word) for word in self._words), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """What was held back and turned out to be no stop string."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, word: str) -> int:
    """How many characters at the end of `text` could begin `word`."""
    for size in range(min(len(word) - 1, len(text)), 0, -1):
        if text.endswith(word[:size]):
            return size
    return 0
