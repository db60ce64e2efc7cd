"""The OpenAPI document, made from the table of routes, so that it cannot be wrong about them."""

import re
from collections.abc import Iterable
from typing import Any

from snugly import __version__
from snugly.server.routing import ERRORS, Route
from snugly.server.security import Access

_PATH_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
_MEANINGS = {
    400: "The request cannot be read, or the prompt is longer than the context (with both counts).",
    401: "The token is missing or wrong.",
    403: "The Host or the Origin is not ours, or this is not done here on purpose.",
    404: "There is no such model, or nothing stored under this id.",
    408: "The request did not come whole in time.",
    413: "The request is too large.",
    415: "The body is not JSON.",
    422: "The model cannot do this, or its file is damaged.",
    500: "The engine crashed, hung or refused.",
    502: "A download failed.",
    503: "The queue is full or memory is in use; Retry-After says when to come again.",
    507: "The model does not fit the memory, with the numbers.",
}
_MODELS = (400, 401, 403, 404, 408, 413, 415, 422, 500, 502, 503, 507)
# Field names that clients of every dialect know, with their JSON types.
_FIELDS: dict[str, dict[str, Any]] = {
    "messages": {"type": "array", "items": {"type": "object"}, "minItems": 1},
    "model": {"type": "string"},
    "query": {"type": "string"},
    "tokens": {"type": "array", "items": {"type": "integer", "minimum": 0}},
}


def openapi(routes: Iterable[Route]) -> dict[str, Any]:
    """OpenAPI 3.1 for these routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = _PATH_PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Snugly",
            "version": __version__,
            "description": "Models of this machine, in the dialects of OpenAI, Anthropic, "
            "Ollama, LM Studio and llama.cpp. Fields that are not named here are read where "
            "their dialect has them (docs/api.md).",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "schemas": {f"Error-{dialect}": {"type": "object"} for dialect in sorted(ERRORS)},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "tags": [route.dialect],
        "responses": _responses(route),
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PATH_PARAMETER.findall(route.path)
    ] + [
        {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
        for name in route.query
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.access is not Access.OPEN:
        # {}: on loopback without a token, where the settings allow it.
        free: list[dict[str, Any]] = [{}] if route.access is Access.MODELS else []
        operation["security"] = [{"token": []}, {"key": []}, *free]
    if route.method == "POST":
        operation["requestBody"] = _body(route)
    return operation


def _body(route: Route) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    if route.needs:
        schema["required"] = list(route.needs)
        schema["properties"] = {name: _FIELDS.get(name, {}) for name in route.needs}
    if route.streams:
        schema.setdefault("properties", {})["stream"] = {"type": "boolean"}
    return {"required": bool(route.needs), "content": {"application/json": {"schema": schema}}}


def _responses(route: Route) -> dict[str, Any]:
    content: dict[str, Any] = {route.media_type: {}}
    if route.streams:
        content[route.streams] = {}
    error = {
        "application/json": {"schema": {"$ref": f"#/components/schemas/Error-{route.dialect}"}}
    }
    statuses: Iterable[int] = _MODELS if route.access is not Access.OPEN else (400, 403)
    told = {
        str(status): {"description": _MEANINGS[status], "content": error} for status in statuses
    }
    return {"200": {"description": "Done.", "content": content}} | told
