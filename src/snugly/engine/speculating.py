"""What guessing ahead brings with each model is kept, and decides whether it goes on guessing."""

import contextlib
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

from snugly.chat.requests import CompletionRequest, InfillRequest
from snugly.chat.types import ChatRequest, Generation, Usage
from snugly.model import sidecar
from snugly.plan.speculation import LOOKUP, Tally, pays
from snugly.plan.speculation_types import NO_SPECULATION, Speculation
from snugly.settings import Settings

# After this long without guessing it is tried again: people change what they do.
_RETRY_SECONDS = 24 * 3600.0
# Fewer prompt tokens than these were mostly waiting: their rate says nothing about checking.
_LEAST_PROMPT = 64
_LONG_CHARS = 2000  # about 500 tokens: a document, or code to be changed
_SAVE_EVERY = 8  # answers


def kind_of(request: Generation) -> str:
    """What a request is about, as far as guessing goes: how likely the answer repeats it.

    "edit" (long code in a chat, or a text that the answer will repeat), "document" (another
    long question), "chat", "infill", "completion".
    """
    if isinstance(request, InfillRequest):
        return "infill"
    if isinstance(request, CompletionRequest):
        return "completion"
    if not isinstance(request, ChatRequest):
        return "other"
    text = request.messages[-1].text if request.messages else ""
    if request.prediction:
        return "edit"
    if len(text) < _LONG_CHARS:
        return "chat"
    return "edit" if "```" in text else "document"


def path_of(cache: Path) -> Path:
    """The file that tallies are kept in."""
    return cache / "speculation.json"


def load(cache: Path, model_path: str, now: float) -> dict[str, Tally]:
    """What guessing brought with a model, by kind of request; nothing when that is too old."""
    try:
        entry = _read(cache)[model_path]
        if now - float(entry["at"]) > _RETRY_SECONDS and not pays(_tallies(entry)):
            return {}
        return _tallies(entry)
    except (KeyError, TypeError, ValueError):
        return {}


def _tallies(entry: Any) -> dict[str, Tally]:
    return {str(kind): Tally(**told) for kind, told in entry["kinds"].items()}


def save(cache: Path, model_path: str, tallies: dict[str, Tally], now: float) -> None:
    """Keep it, all at once or not at all; a cache that cannot be written is no reason to stop."""
    data = _read(cache)
    kinds = {kind: dataclasses.asdict(tally) for kind, tally in tallies.items()}
    data[model_path] = {"at": now, "kinds": kinds}
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        sidecar.write_text(path_of(cache), json.dumps(data), 0o600, lasting=False)


def _read(cache: Path) -> dict[str, Any]:
    try:
        data = json.loads(path_of(cache).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def guess_for(
    model_path: str, settings: Settings, drafter: Speculation | None = None
) -> Speculation:
    """How to guess with a model: as measured acceptance says, from the text at first."""
    if settings.speculate == "off" or not pays(load(settings.cache, model_path, time.time())):
        return NO_SPECULATION
    return dataclasses.replace(LOOKUP, drafter=drafter.drafter) if drafter else LOOKUP


class Guessed:
    """What guessing brings in one running engine."""

    def __init__(self, model_path: str, guesses: Speculation, cache: Path) -> None:
        self._model_path, self._guesses, self._cache = model_path, guesses, cache
        self._tallies: dict[str, Tally] | None = None
        self._check_ms = 0.0
        self._unsaved = 0

    def note(self, request: Generation, usage: Usage) -> None:
        """Count one answer."""
        if not self._guesses.most or usage.completion_tokens < 1:
            return
        if self._tallies is None:
            self._tallies = load(self._cache, self._model_path, time.time())
        read = usage.prompt_tokens - usage.cached_tokens
        if read >= _LEAST_PROMPT:
            self._check_ms = usage.prefill_ms / read
        kind = kind_of(request)
        self._tallies[kind] = self._tallies.get(kind, Tally()).plus(
            usage.completion_tokens,
            usage.drafted_tokens,
            usage.accepted_tokens,
            usage.decode_ms,
            # Nothing known yet: as much as a token of its own.
            self._check_ms or usage.decode_ms / usage.completion_tokens,
        )
        self._unsaved += 1
        if self._unsaved >= _SAVE_EVERY:
            self.save()

    @property
    def pays(self) -> bool:
        """Whether it is worth going on."""
        return self._tallies is None or pays(self._tallies)

    def save(self) -> None:
        """Keep what was counted for the next start."""
        if self._unsaved and self._tallies is not None:
            save(self._cache, self._model_path, self._tallies, time.time())
            self._unsaved = 0
