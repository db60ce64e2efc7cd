"""Reranking: `/v1/rerank` as Jina, Cohere and llama.cpp have it, and `/rerank` of TEI.

Source: https://jina.ai/reranker, https://docs.cohere.com/reference/rerank,
https://huggingface.github.io/text-embeddings-inference.
"""

from collections.abc import Mapping
from typing import Any

from snugly.chat.requests import Ranking, RerankRequest
from snugly.server.dialects.faults import BadRequest
from snugly.server.dialects.reading import Fields, whole_text
from snugly.server.dialects.types import Body, Reply

MAX_DOCUMENTS = 10_000


def read(body: Mapping[str, Any]) -> RerankRequest:
    """A query with its documents: texts, or objects with a `text`.

    Raises: BadRequest naming the field.
    """
    fields = Fields(body)
    name = "texts" if is_tei(body) else "documents"
    items = fields.listed(name, MAX_DOCUMENTS)
    if not items:
        raise fields.wrong(name, "a list of at least one text")
    documents = tuple(_document(item, f"{name}[{index}]") for index, item in enumerate(items))
    return RerankRequest(
        fields.text("model"),
        fields.needed("query"),
        documents,
        top_n=fields.integer("top_n", "top_k", low=1),
        return_documents=fields.flag("return_documents") or fields.flag("return_text"),
        ignored=fields.unread(),
    )


def is_tei(body: Mapping[str, Any]) -> bool:
    """Whether a body is of TEI's kind, which wants a bare list back."""
    return "texts" in body and "documents" not in body


def _document(item: Any, path: str) -> str:
    if isinstance(item, str):
        return whole_text(item)
    if isinstance(item, Mapping):
        return Fields(item, path).text("text")
    raise BadRequest(f"`{path}` must be text.", path)


def _best(request: RerankRequest, found: Ranking) -> list[tuple[int, float]]:
    ranked = sorted(found.items, key=lambda item: (-item.score, item.index))
    return [(item.index, item.score) for item in ranked[: request.top_n]]


def write(reply: Reply, request: RerankRequest, found: Ranking) -> Body:
    """The best documents, best first."""
    results = []
    for index, score in _best(request, found):
        result: Body = {"index": index, "relevance_score": score}
        if request.return_documents:
            result["document"] = {"text": request.documents[index]}
        results.append(result)
    return {
        "id": f"rerank-{reply.id}",
        "object": "list",
        "model": reply.model,
        "results": results,
        "usage": {"prompt_tokens": found.prompt_tokens, "total_tokens": found.prompt_tokens},
    }


def write_tei(request: RerankRequest, found: Ranking) -> list[Body]:
    """The same as TEI tells it."""
    return [
        {"index": index, "score": score}
        | ({"text": request.documents[index]} if request.return_documents else {})
        for index, score in _best(request, found)
    ]
