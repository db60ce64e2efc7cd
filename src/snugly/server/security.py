"""Who may ask what. Pure decisions over the scope of a request; the app acts on them.

Everything is decided on what the server parsed (`scope`), never on a URL put together from
the Host header: that is how `Host: a?b` came to change the path that others authorised.
"""

import hashlib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from snugly.errors import UserError
from snugly.server.dialects.faults import HttpFault
from snugly.server.tokens import same

# What a host may look like: a name, an IPv4 address or [an IPv6 address], and a port.
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::([0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Access(StrEnum):
    """What a route asks for."""

    OPEN = "open"  # anybody who may reach the server: health
    MODELS = "models"  # the token, or a program on this machine where that is allowed
    ADMIN = "admin"  # the token, always


@dataclass(frozen=True, slots=True)
class Policy:
    """How one server is reached. `hosts` are names or name:port, `origins` whole origins."""

    host: str
    port: int
    token: str
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    keyless: bool = True
    secure: bool = False

    @property
    def public(self) -> bool:
        """Whether others than this machine can reach it."""
        return not is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_bind(policy: Policy) -> None:
    """Refuse to be reachable by others without a token.

    Raises: UserError.
    """
    if policy.public and not policy.token:
        raise UserError(
            f"A server on {policy.host} would be open to everybody who can reach it.",
            "It has no token.",
            "Start it without --no-token, or listen on 127.0.0.1.",
        )


def check(scope: Mapping[str, Any], policy: Policy, access: Access) -> None:
    """Let a request through, or not.

    Raises: HttpFault 400 for a Host that is none, 403 for a foreign Host or Origin, 401
    without the token.
    """
    headers = _headers(scope)
    _check_host(scope, headers, policy)
    check_origin(scope, headers, policy)
    if access is Access.OPEN:
        return
    given = tokens_of(headers)
    if policy.token and any([same(each, policy.token) for each in given]):
        return
    if access is Access.MODELS and policy.keyless and not policy.public and _is_local(scope):
        return
    raise HttpFault(
        401,
        "This needs the server's token." if not given else "The token is wrong.",
        "It lies in a file that only the owner of the server can read.",
        "Send it as `Authorization: Bearer TOKEN`; `snugly serve` says where it lies.",
    )


def _headers(scope: Mapping[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _is_local(scope: Mapping[str, Any]) -> bool:
    client = scope.get("client")
    return client is not None and is_loopback(str(client[0]))


def tokens_of(headers: Mapping[str, list[str]]) -> list[str]:
    """The tokens that a request carries: as OpenAI's clients send one, and as Anthropic's do.

    Either may be the right one. Anthropic's package sends both when the environment has a key
    for the real service beside the token for this one; whoever knows the token is let in.
    """
    kind, _, value = (headers.get("authorization") or [""])[0].partition(" ")
    bearer = value.strip() if kind.lower() == "bearer" else ""
    key = (headers.get("x-api-key") or [""])[0].strip()
    return [token for token in (bearer, key) if token]


def holder_of(scope: Mapping[str, Any]) -> str:
    """Who may be answered faster because of what was asked before: who holds the same key.

    Programs without a key are all one holder. The key itself is never kept.
    """
    given = "\0".join(tokens_of(_headers(scope)))
    return hashlib.sha256(b"key " + given.encode("utf-8", "replace")).hexdigest()


def _check_host(scope: Mapping[str, Any], headers: Mapping[str, list[str]], policy: Policy) -> None:
    hosts = headers.get("host", [])
    match = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if match is None:
        raise HttpFault(400, "The Host header is not a host.")
    if not is_own_host(match[1], match[2], scope, policy):
        raise HttpFault(
            403,
            f"This server is not called {hosts[0]}.",
            "A web page may have sent this request to a name that it made point here.",
            "If the name is right, add it to `serve_hosts` in the settings.",
        )


def is_own_host(name: str, port: str | None, scope: Mapping[str, Any], policy: Policy) -> bool:
    """Whether clients reach us by this name and port: exactly, never by a part of it."""
    name = name.lower()
    number = int(port) if port else _DEFAULT_PORTS["https" if policy.secure else "http"]
    listed = {entry.lower() for entry in policy.hosts}
    if name in listed or f"{name}:{number}" in listed:
        return True
    if number != policy.port:
        return False
    if name == "localhost" or is_loopback(name):
        return True
    # The address that the connection was made to: no name that anybody could redirect.
    server = scope.get("server")
    return server is not None and name.strip("[]") == str(server[0]).lower()


def check_origin(
    scope: Mapping[str, Any], headers: Mapping[str, list[str]], policy: Policy
) -> None:
    """Refuse what a foreign web page sent. Programs send no Origin.

    Raises: HttpFault 403.
    """
    origins = headers.get("origin", [])
    site = (headers.get("sec-fetch-site") or [""])[0].lower()
    if not origins and site not in ("cross-site", "same-site"):
        return
    if len(origins) == 1 and (
        origins[0] in policy.origins or _is_own_origin(origins[0], scope, policy)
    ):
        return
    raise HttpFault(
        403,
        f"Web pages of {origins[0][:100] if origins else 'another site'} may not use this server.",
        "Any page that you visit could otherwise use your models.",
        "If it should be allowed, add it to `serve_origins` in the settings.",
    )


def _is_own_origin(origin: str, scope: Mapping[str, Any], policy: Policy) -> bool:
    scheme, mark, rest = origin.partition("://")
    match = _HOST.fullmatch(rest)
    if not mark or match is None or scheme != ("https" if policy.secure else "http"):
        return False
    return is_own_host(match[1], match[2], scope, policy)


def cors_headers(scope: Mapping[str, Any], policy: Policy) -> list[tuple[bytes, bytes]]:
    """What tells a browser that an allowed page may read the answer: its origin, exactly."""
    origins = _headers(scope).get("origin", [])
    if len(origins) != 1 or origins[0] not in policy.origins:
        return []
    return [
        (b"access-control-allow-origin", origins[0].encode("latin-1")),
        (b"vary", b"Origin"),
    ]


PREFLIGHT = [
    (b"access-control-allow-methods", b"GET, POST, DELETE"),
    (b"access-control-allow-headers", b"authorization, content-type, x-api-key"),
    (b"access-control-max-age", b"600"),
]


def client_of(scope: Mapping[str, Any], policy: Policy) -> str:
    """Who asks, for the queue and the history: the address; a token is never written down."""
    client = scope.get("client")
    return str(client[0]) if client else "socket"
