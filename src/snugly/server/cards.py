"""What clients are told of each model: from the store, the header, and the pool."""

import asyncio
import hashlib
import os
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from snugly.chat.fim import MARKERS, fim_family
from snugly.engine.seat import Resident
from snugly.model.gguf import read_header
from snugly.server.dialects.types import Loaded, ModelCard
from snugly.server.service import Service
from snugly.server.shelf import Volume

_WORDS = frozenset({"tokenizer.ggml.tokens"})
# Models that turn text into vectors although their architecture is a decoder's say so in
# their names alone.
_VECTOR_NAMES = ("embed", "bge-", "gte-", "e5-", "minilm")


async def cards(service: Service) -> list[ModelCard]:
    """Every model, by name."""
    volumes = await asyncio.to_thread(service.shelf.all)
    residents = service.pool.residents()
    return sorted((_card(v, _of(v, residents)) for v in volumes), key=lambda card: card.name)


async def card_of(service: Service, name: str) -> ModelCard:
    """One model, under the name that the client used.

    Raises: UnknownModel.
    """
    volume = await service.volume(name)
    card = _card(volume, _of(volume, service.pool.residents()))
    return replace(card, name=name or card.name)


async def full_card_of(service: Service, name: str) -> ModelCard:
    """One model with its header's metadata, long lists left out.

    Raises: UnknownModel, BadModelFile.
    """
    volume = await service.volume(name)
    header = await asyncio.to_thread(read_header, volume.installed.path, _WORDS)
    card = await card_of(service, name)
    kept = {key: value for key, value in header.metadata.items() if not isinstance(value, list)}
    found = card.capabilities
    if "completion" in found and "insert" not in found:
        # Qwen's headers name no marker as such: the vocabulary tells.
        words = header.metadata.get(*_WORDS)
        marks = set(MARKERS).intersection(words if isinstance(words, list) else ())
        if fim_family(volume.spec.special_tokens, marks, f"{volume.spec.name} {volume.name}"):
            found += ("insert",)
    return replace(card, metadata=kept, capabilities=found)


def _of(volume: Volume, residents: Iterable[Resident]) -> Resident | None:
    mine = [r for r in residents if r.ref == volume.installed.ref]
    return next((r for r in mine if r.mode == "generate"), mine[0] if mine else None)


def _card(volume: Volume, resident: Resident | None) -> ModelCard:
    spec, installed = volume.spec, volume.installed
    try:
        modified = os.path.getmtime(installed.path)
    except OSError:
        modified = 0.0
    return ModelCard(
        name=volume.name,
        publisher=installed.ref.partition("/")[0] if "/" in installed.ref else "",
        bytes=installed.provenance.n_bytes or spec.file_bytes,
        modified=modified,
        digest=installed.provenance.sha256 or _identity(installed.ref, spec.file_bytes, modified),
        architecture=spec.architecture,
        n_params=spec.n_params,
        quantization=spec.file_type,
        context_train=spec.context_train,
        embedding_length=spec.embedding_length,
        capabilities=_capabilities(volume),
        chat_template=spec.chat_template,
        licence=spec.licence,
        special_tokens=spec.special_tokens,
        loaded=None if resident is None else _loaded(resident),
    )


def _identity(ref: str, n_bytes: int, modified: float) -> str:
    """Stands for a file whose checksum nobody wrote down: `ollama list` cuts 12 digits of it."""
    return hashlib.sha256(f"{ref} {n_bytes} {modified}".encode()).hexdigest()


def _loaded(resident: Resident) -> Loaded:
    uses = resident.plan.estimate.uses
    on_gpu = sum(use.total_bytes for use in uses if use.pool not in ("RAM", "unified"))
    expires = None if resident.expires_in is None else time.time() + resident.expires_in
    total = resident.plan.estimate.total_bytes
    return Loaded(resident.plan.context, total, on_gpu, expires, resident.plan.setup.n_seq)


def _capabilities(volume: Volume) -> tuple[str, ...]:
    """What a model can do, by its header: encoders embed, templates tell of tools and thoughts."""
    spec = volume.spec
    name = f"{spec.name} {volume.name}".lower()
    if spec.made_for or any(word in name for word in _VECTOR_NAMES):
        return ("embedding",)
    found = ["completion"]
    if volume.projector:
        found.append("vision")
    if "tools" in spec.chat_template:
        found.append("tools")
    if any(role.startswith("fim") for role in spec.special_tokens):
        found.append("insert")
    if "think" in spec.chat_template:
        found.append("thinking")
    return tuple(found)


def sampling_lines(volume: Any) -> str:
    """What is recommended for a model, as Ollama writes parameters."""
    known = volume.sampling
    lines = []
    if known.temperature is not None:
        lines.append(f"temperature {known.temperature:g}")
    if known.repeat_penalty is not None:
        lines.append(f"repeat_penalty {known.repeat_penalty:g}")
    return "\n".join(lines)
