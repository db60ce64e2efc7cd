"""Between the internal language and llama-server beside chat: completions, vectors, tokens.

`/completion` tells more than its OpenAI twin: the stop word, the ids, the cached tokens.
Fill-in-the-middle goes through it too, with our own templates: the server's `/infill` cuts
prefix and suffix to its batch without a word.
"""

import math
from collections.abc import Sequence
from typing import Any

from snugly.chat.requests import (
    CompletionRequest,
    Embeddings,
    EmbedRequest,
    InfillRequest,
    Prompt,
    Ranked,
    Ranking,
    RerankRequest,
    TokenizeRequest,
)
from snugly.chat.types import Delta
from snugly.engine.wire import event_of, logprobs_of, sampling, slot_of, unreadable, usage_of

COMPLETION, EMBEDDINGS, RERANK = "/completion", "/v1/embeddings", "/v1/rerank"
TOKENIZE, DETOKENIZE = "/tokenize", "/detokenize"


def completion_body(request: CompletionRequest | InfillRequest, prompt: Prompt) -> dict[str, Any]:
    """The JSON body of a streamed completion of one prompt, for `/completion`.

    For fill-in-the-middle `prompt` is what the model's template makes of the request.
    """
    body: dict[str, Any] = (
        {
            "prompt": prompt if isinstance(prompt, str) else list(prompt),
            "stream": True,
            "return_tokens": True,
        }
        | slot_of(request)
        | sampling(request)
    )
    if request.max_tokens is not None:
        body["n_predict"] = request.max_tokens
    if request.logprobs is not None:
        body["n_probs"] = max(1, request.logprobs)  # 0 gives none at all
    if request.schema is not None:
        body["json_schema"] = request.schema
    elif request.grammar:
        body["grammar"] = request.grammar
    return body | (_infill(request) if isinstance(request, InfillRequest) else {})


def _infill(request: InfillRequest) -> dict[str, Any]:
    # The server has no limit for reading a prompt (server-schema.cpp: "TODO: implement
    # t_max_prompt_ms"), so `prompt_ms` is the caller's to keep.
    given = {
        "t_max_predict_ms": request.predict_ms,
        "n_indent": request.indent,
        "samplers": list(request.samplers) or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def completion_delta(data: str) -> Delta:
    """One event of `/completion` as a Delta.

    Raises: EngineError for an error event or for anything that is not an event.
    """
    event = event_of(data)
    try:
        done = bool(event.get("stop"))
        limit = event.get("stop_type") == "limit"
        timings = event.get("timings")
        return Delta(
            text=event.get("content") or "",
            finish_reason=("length" if limit else "stop") if done else None,
            usage=usage_of(event["tokens_evaluated"], event["tokens_predicted"], timings)
            if done and timings
            else None,
            logprobs=logprobs_of(event.get("completion_probabilities")),
            stop_word=event.get("stopping_word") or "",
            tokens=tuple(int(token) for token in event.get("tokens") or ()),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise unreadable(data) from None


def embed_body(request: EmbedRequest) -> dict[str, Any]:
    """The body for `/v1/embeddings`."""
    inputs = [text if isinstance(text, str) else list(text) for text in request.inputs]
    return {"input": inputs, "encoding_format": "float"}


def embeddings_of(answer: Any, request: EmbedRequest) -> Embeddings:
    """The vectors, in the order of the inputs, cut to the dimensions that were asked for.

    Raises: EngineError for an answer of another shape.
    """
    try:
        items = sorted(answer["data"], key=lambda item: int(item["index"]))
        vectors = tuple(tuple(float(x) for x in item["embedding"]) for item in items)
        tokens = int(answer["usage"]["prompt_tokens"])
    except (KeyError, TypeError, ValueError):
        raise unreadable(answer) from None
    if len(vectors) != len(request.inputs):
        raise unreadable(answer)
    return Embeddings(tuple(shortened(v, request.dimensions) for v in vectors), tokens)


def shortened(vector: Sequence[float], dimensions: int | None) -> tuple[float, ...]:
    """The first `dimensions` numbers of a vector, scaled to length 1 again.

    What models trained for it (Matryoshka) allow, and what OpenAI's `dimensions` does.
    """
    if dimensions is None or dimensions >= len(vector):
        return tuple(vector)
    first = tuple(vector[:dimensions])
    length = math.sqrt(sum(x * x for x in first))
    return tuple(x / length for x in first) if length > 0 else first


def rerank_body(request: RerankRequest) -> dict[str, Any]:
    """The body for `/v1/rerank`; every document is wanted back, the dialect cuts."""
    return {"query": request.query, "documents": list(request.documents)}


def ranking_of(answer: Any) -> Ranking:
    """Relevances by document.

    Raises: EngineError for an answer of another shape.
    """
    try:
        items = (Ranked(int(r["index"]), float(r["relevance_score"])) for r in answer["results"])
        return Ranking(tuple(items), int(answer["usage"]["prompt_tokens"]))
    except (KeyError, TypeError, ValueError):
        raise unreadable(answer) from None


def tokenize_body(request: TokenizeRequest) -> dict[str, Any]:
    """The body for `/tokenize`."""
    return {
        "content": request.text,
        "add_special": request.add_special,
        "parse_special": request.parse_special,
    }


def tokens_of(answer: Any) -> tuple[int, ...]:
    """The ids out of `/tokenize`'s answer.

    Raises: EngineError for an answer of another shape.
    """
    try:
        return tuple(int(token) for token in answer["tokens"])
    except (KeyError, TypeError, ValueError):
        raise unreadable(answer) from None
