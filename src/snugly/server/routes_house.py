"""The house's own routes: health, metrics, the document of all routes, what is loaded."""

import time
from typing import Any

from snugly import __version__
from snugly.server.calls import Call
from snugly.server.dialects.reading import Fields
from snugly.server.dialects.sampling import keep_alive
from snugly.server.metrics import CONTENT_TYPE
from snugly.server.routing import Body, Route
from snugly.server.security import Access


async def health(call: Call, body: Body) -> Any:
    """The server answers."""
    return {"status": "ok"}


async def ready(call: Call, body: Body) -> Any:
    """The server takes requests, and what it holds."""
    service = call.service
    return {
        "status": "ok",
        "models_loaded": len(service.pool.residents()),
        "requests_waiting": service.admission.waiting,
        "history": "failing" if service.ledger.failing else "ok",
    }


async def metrics(call: Call, body: Body) -> Any:
    """Counters and gauges for Prometheus."""
    text = call.service.metrics.text(call.service.gauges())
    await call.whole(text.encode(), CONTENT_TYPE.encode())


async def loaded(call: Call, body: Body) -> Any:
    """What is loaded: for `snugly ps`."""
    return {
        "version": __version__,
        "waiting": call.service.admission.waiting,
        "running": call.service.admission.running,
        "models": [
            {
                "name": resident.key,
                "ref": resident.ref,
                "mode": resident.mode,
                "context": resident.plan.context,
                "slots": resident.plan.setup.n_seq,
                "planned_bytes": resident.plan.estimate.total_bytes,
                "peak_bytes": resident.peak_bytes,
                "pid": resident.pid,
                "in_use": resident.in_use,
                "expires_in": resident.expires_in,
                "pinned": resident.pinned,
                "load_ms": resident.load_ms,
            }
            for resident in call.service.pool.residents()
        ],
    }


async def load(call: Call, body: Body) -> Any:
    """Load a model now; `pin` keeps it."""
    fields = Fields(body)
    volume = await call.service.volume(fields.needed("model"))
    began = time.monotonic()
    await call.service.pool.load(
        volume.installed,
        volume.spec,
        pin=fields.flag("pin"),
        context=fields.integer("context", low=1),
        keep_alive=keep_alive(fields),
    )
    return {"loaded": volume.installed.ref, "ms": 1000 * (time.monotonic() - began)}


async def stop(call: Call, body: Body) -> Any:
    """Unload a model once its answers are done; without a name, all of them."""
    name = Fields(body).text("model")
    refs = [r.ref for r in call.service.pool.residents()]
    if name:
        refs = [(await call.service.volume(name)).installed.ref]
    stopped = [ref for ref in dict.fromkeys(refs) if await call.service.pool.unload(ref)]
    return {"stopped": stopped}


async def document(call: Call, body: Body) -> Any:
    """Every route, as OpenAPI 3.1."""
    from snugly.server.openapi import openapi
    from snugly.server.routes import ROUTES as ALL

    return openapi(ALL)


ROUTES = (
    Route("GET", "/health", "snugly", health, "Whether the server answers", Access.OPEN),
    Route("GET", "/ready", "snugly", ready, "Whether the server takes requests", Access.OPEN),
    Route("GET", "/metrics", "snugly", metrics, "Counters for Prometheus", media_type="text/plain"),
    Route("GET", "/openapi.json", "snugly", document, "This document"),
    Route("GET", "/snugly/loaded", "snugly", loaded, "What is loaded", Access.ADMIN),
    Route("POST", "/snugly/load", "snugly", load, "Load a model", Access.ADMIN, needs=("model",)),
    Route("POST", "/snugly/stop", "snugly", stop, "Unload a model, or all", Access.ADMIN),
)
