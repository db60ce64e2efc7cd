"""Lists of models as each dialect tells them: OpenAI, Anthropic, Ollama, LM Studio.

Sources: https://platform.openai.com/docs/api-reference/models,
https://docs.anthropic.com/en/api/models-list, Ollama docs/api.md and api/types.go,
https://lmstudio.ai/docs/developer/rest.
"""

from collections.abc import Sequence

from snugly.server.dialects.ollama import time_text
from snugly.server.dialects.types import Body, Loaded, ModelCard

FOR_EVER = 10_413_792_000.0  # the year 2300: Ollama tells "for ever" as a date as far away


def openai_model(card: ModelCard) -> Body:
    """One entry of `/v1/models`; vLLM's and llama.cpp's clients look for the last two."""
    return {
        "id": card.name,
        "object": "model",
        "created": int(card.modified),
        "owned_by": card.publisher or "local",
        "max_model_len": card.loaded.context if card.loaded else card.context_train,
        "meta": {
            "n_ctx_train": card.context_train,
            "n_embd": card.embedding_length,
            "n_params": card.n_params,
            "size": card.bytes,
        },
    }


def openai_models(cards: Sequence[ModelCard]) -> Body:
    """`/v1/models`."""
    return {"object": "list", "data": [openai_model(card) for card in cards]}


def anthropic_model(card: ModelCard) -> Body:
    """One entry of Anthropic's list."""
    return {
        "type": "model",
        "id": card.name,
        "display_name": card.name,
        "created_at": time_text(card.modified),
    }


def anthropic_models(cards: Sequence[ModelCard]) -> Body:
    """Anthropic's `/v1/models`, all on one page."""
    return {
        "data": [anthropic_model(card) for card in cards],
        "has_more": False,
        "first_id": cards[0].name if cards else None,
        "last_id": cards[-1].name if cards else None,
    }


def ollama_details(card: ModelCard) -> Body:
    """Ollama's `details`, of which Zed wants every one."""
    return {
        "parent_model": "",
        "format": "gguf",
        "family": card.architecture,
        "families": [card.architecture],
        "parameter_size": card.size_text,
        "quantization_level": card.quantization,
    }


def ollama_name(name: str) -> str:
    """A name with a tag: Open WebUI adds `:latest` to others, and looks for that in the lists."""
    return name if ":" in name else f"{name}:latest"


def _ollama_entry(card: ModelCard) -> Body:
    return {
        "name": ollama_name(card.name),
        "model": ollama_name(card.name),
        "size": card.bytes,
        "digest": card.digest,
        "details": ollama_details(card),
    }


def ollama_tags(cards: Sequence[ModelCard]) -> Body:
    """`/api/tags`."""
    return {
        "models": [
            _ollama_entry(card)
            | {
                "modified_at": time_text(card.modified),
                "capabilities": list(card.capabilities),
                "context_length": card.context_train,
            }
            for card in cards
        ]
    }


def ollama_ps(cards: Sequence[ModelCard]) -> Body:
    """`/api/ps`: those of `cards` that are loaded."""
    return {"models": [_running(card, card.loaded) for card in cards if card.loaded]}


def _running(card: ModelCard, loaded: Loaded) -> Body:
    return _ollama_entry(card) | {
        "size": loaded.bytes,
        "size_vram": loaded.gpu_bytes,
        "context_length": loaded.context,
        "expires_at": time_text(FOR_EVER if loaded.expires is None else loaded.expires),
    }


# Continue allows fill-in-the-middle only where Ollama's template speaks of a suffix.
_INSERT_TEMPLATE = "{{- if .Suffix }}{{ .Prompt }}{{ .Suffix }}{{- end }}"


def ollama_show(card: ModelCard, sampling: str = "") -> Body:
    """`/api/show`. `sampling` are lines such as "temperature 0.7"."""
    insert = _INSERT_TEMPLATE if "insert" in card.capabilities else ""
    architecture = card.architecture
    # What clients read of model_info must be there even where a header lacks it.
    known = {
        "general.architecture": architecture,
        "general.parameter_count": card.n_params,
        f"{architecture}.context_length": card.context_train,
        f"{architecture}.embedding_length": card.embedding_length,
    }
    return {
        "license": card.licence,
        "modelfile": f"FROM {card.name}\n",
        "parameters": sampling,
        "template": insert + card.chat_template,
        "details": ollama_details(card),
        "model_info": card.metadata | known,
        "capabilities": list(card.capabilities),
        "modified_at": time_text(card.modified),
    }


def _lmstudio_type(card: ModelCard) -> str:
    if "embedding" in card.capabilities:
        return "embeddings"
    return "vlm" if "vision" in card.capabilities else "llm"


def lmstudio_v0_model(card: ModelCard) -> Body:
    """One entry of `/api/v0/models`."""
    entry: Body = {
        "id": card.name,
        "object": "model",
        "type": _lmstudio_type(card),
        "publisher": card.publisher or "local",
        "arch": card.architecture,
        "compatibility_type": "gguf",
        "quantization": card.quantization,
        "state": "loaded" if card.loaded else "not-loaded",
        "max_context_length": card.context_train,
        "capabilities": ["tool_use"] if "tools" in card.capabilities else [],
    }
    return entry | ({"loaded_context_length": card.loaded.context} if card.loaded else {})


def lmstudio_v0(cards: Sequence[ModelCard]) -> Body:
    """`/api/v0/models`."""
    return {"object": "list", "data": [lmstudio_v0_model(card) for card in cards]}


def lmstudio_v1(cards: Sequence[ModelCard]) -> Body:
    """`/api/v1/models`."""
    return {"models": [_lmstudio_v1_model(card) for card in cards]}


def _lmstudio_v1_model(card: ModelCard) -> Body:
    embeds = "embedding" in card.capabilities
    bits = 8 * card.bytes / card.n_params if card.n_params else None
    instances = []
    if card.loaded:
        config = {"context_length": card.loaded.context, "parallel": card.loaded.slots}
        instances.append({"id": card.name, "config": config})
    entry: Body = {
        "type": "embedding" if embeds else "llm",
        "publisher": card.publisher or "local",
        "key": card.name,
        "display_name": card.name,
        "architecture": card.architecture,
        "quantization": {
            "name": card.quantization,
            "bits_per_weight": None if bits is None else round(bits, 2),
        },
        "size_bytes": card.bytes,
        "params_string": card.size_text,
        "loaded_instances": instances,
        "max_context_length": card.context_train,
        "format": "gguf",
        "description": None,
    }
    if not embeds:
        entry["capabilities"] = {
            "vision": "vision" in card.capabilities,
            "trained_for_tool_use": "tools" in card.capabilities,
        }
    return entry
