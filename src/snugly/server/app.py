"""The ASGI app: every route guarded, answered, cancelled when its client leaves, written down."""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Route as StarletteRoute

from snugly.errors import HistoryError, SnuglyError
from snugly.server import security
from snugly.server.bodies import Gone, Receive, json_body, left, read_body, words_of
from snugly.server.calls import UNREAD, Call, Send
from snugly.server.dialects.faults import HttpFault, headers_of, status_of
from snugly.server.dialects.sending import dump
from snugly.server.routes import ROUTES
from snugly.server.routing import ERRORS, Route
from snugly.server.security import Access, Policy
from snugly.server.service import Service, told

log = logging.getLogger("snugly.server")
_BUG = HttpFault(
    500, "Something went wrong inside Snugly.", "It is in the log.", "Please report it."
)


def make_app(service: Service, policy: Policy, routes: Iterable[Route] = ROUTES) -> Any:
    """The server as one callable."""
    table = [
        StarletteRoute(route.path, Endpoint(route, service, policy), methods=[route.method])
        for route in routes
    ]
    app = Starlette(routes=table)
    app.router.redirect_slashes = False  # a redirect would be built from the Host header
    return Guard(app, service, policy, routes)


class Guard:
    """Before any route: Host, Origin, preflights, and answers for what no route takes."""

    def __init__(self, app: Any, service: Service, policy: Policy, routes: Iterable[Route]) -> None:
        self._app, self._service, self._policy = app, service, policy
        self._methods: dict[str, set[str]] = {}
        for route in routes:
            self._methods.setdefault(route.path, set()).add(route.method)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return await self._other(scope, receive, send)
        cors = security.cors_headers(scope, self._policy)
        try:
            security.check(scope, self._policy, Access.OPEN)
            if scope["method"] == "OPTIONS" and cors:
                headers = [*cors, *security.PREFLIGHT]
                await _plain(send, 204, b"", headers)
                return None
        except SnuglyError as error:
            return await _error(send, error, "openai")
        sent = _Sent(send, cors)
        scope.setdefault("extensions", {})["snugly.send"] = send
        await self._app(scope, receive, sent)
        return None

    async def _other(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})


class _Sent:
    """`send` that adds what every answer carries, and puts our words for the router's own."""

    def __init__(self, send: Send, more: Any) -> None:
        self._send, self._more = send, more
        self._replaced = False

    async def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = list(message["headers"])
            kind = dict(headers).get(b"content-type", b"")
            if message["status"] in (404, 405) and kind.startswith(b"text/plain"):
                self._replaced = True
                fault = (
                    HttpFault(404, "There is no such route.", remedy="/openapi.json lists them.")
                    if message["status"] == 404
                    else HttpFault(405, "This route does not take that method.")
                )
                allow = [(k, v) for k, v in headers if k == b"allow"]
                await _error(self._send, fault, "openai", [*allow, *self._more])
                return
            headers += [(b"x-content-type-options", b"nosniff"), *self._more]
            message = {**message, "headers": headers}
        if not self._replaced:
            await self._send(message)


class Endpoint:
    """One route as an ASGI app."""

    def __init__(self, route: Route, service: Service, policy: Policy) -> None:
        self._route, self._service, self._policy = route, service, policy

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """One request."""
        route, service = self._route, self._service
        client = security.client_of(scope, self._policy)
        call = Call(service, scope, send, route.path, route.dialect, client)
        try:
            security.check(scope, self._policy, route.access)
            raw = await read_body(scope, receive, service.config.serve_body_bytes)
            body = json_body(scope, raw)
            if route.asks_model:
                if service.config.keep_prompts:
                    call.note(prompt=words_of(body), answer="")
                call.line = service.ledger.begin(call.asked)
            await self._while_there(call, body, receive)
        except Gone as gone:
            await service.settled(call, "cancelled", 499, str(gone))
        except SnuglyError as error:
            await self._failed(call, error)
        except asyncio.CancelledError:
            await service.settled(call, "interrupted", 499, "the server stops")
            raise
        except Exception:
            log.exception("a bug of ours in %s", route.path)
            await self._failed(call, _BUG)
        finally:
            call.ended()

    async def _while_there(self, call: Call, body: Any, receive: Receive) -> None:
        """Run the handler; when the client leaves first it is cancelled, and the slot is free.

        Raises: Gone; what the handler raises.
        """
        work = asyncio.ensure_future(self._handled(call, body))
        watch = asyncio.ensure_future(left(receive))
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                await asyncio.wait({work})
                if work.cancelled():
                    raise Gone(UNREAD if call.stalled else "the client left")
            work.result()
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.wait({work})
            raise
        finally:
            watch.cancel()
            await asyncio.wait({watch})

    async def _handled(self, call: Call, body: Any) -> None:
        value = await self._route.handler(call, body)
        if not call.started:
            await self._service.settled(call, "done", 200)
            await call.json(value)

    async def _failed(self, call: Call, error: SnuglyError) -> None:
        error = told(error)
        await self._service.failed(call, error)
        if call.started:
            call.abort()  # half an answer must not look like a whole one
            return
        await _error(call.send, error, self._route.dialect, call.headers)


async def _error(send: Send, error: SnuglyError, dialect: str, more: Any = ()) -> None:
    status = 507 if isinstance(error, HistoryError) else status_of(error)
    headers = [(k.lower().encode(), v.encode()) for k, v in headers_of(error).items()]
    body = dump(ERRORS[dialect](error))
    headers.append((b"content-type", b"application/json"))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status in (408, 413):
        headers.append((b"connection", b"close"))  # what is left of the body is not read
    await _plain(send, status, body, [*headers, *more])


async def _plain(send: Send, status: int, body: bytes, headers: Any) -> None:
    length = (b"content-length", str(len(body)).encode())
    if status == 204:
        length = (b"x-content-type-options", b"nosniff")
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
