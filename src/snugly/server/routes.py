"""Every route of the server, in one table."""

from snugly.server import (
    routes_anthropic,
    routes_house,
    routes_llamacpp,
    routes_ollama,
    routes_openai,
)
from snugly.server.routing import Route
from snugly.server.security import Access

ROUTES: tuple[Route, ...] = (
    *routes_house.ROUTES,
    *routes_openai.ROUTES,
    *routes_anthropic.ROUTES,
    *routes_ollama.ROUTES,
    *routes_llamacpp.ROUTES,
    Route(
        "POST", "/models/load", "llama.cpp", routes_llamacpp.load, "Load a model", Access.ADMIN,
        needs=("model",),
    ),
    Route(
        "POST", "/models/unload", "llama.cpp", routes_llamacpp.unload, "Unload a model",
        Access.ADMIN, needs=("model",),
    ),
    Route("GET", "/models", "openai", routes_openai.models, "The installed models"),
    # Some clients leave out /v1.
    Route(
        "POST", "/chat/completions", "openai", routes_openai.chat, "Chat",
        needs=("messages",), streams="text/event-stream", asks_model=True,
    ),
)  # fmt: skip
