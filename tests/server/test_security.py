"""Who is let in: rows 4 to 8, 13 of the faults, and what a page in a browser may try."""

import asyncio
import re
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snugly.errors import UserError
from snugly.server.dialects.faults import HttpFault
from snugly.server.routes import ROUTES
from snugly.server.security import Access, Policy, check, check_bind, cors_headers, is_loopback
from snugly.server.tokens import own_token, read_token, same, token_path
from tests.server.making import TOKEN, Served, served

POLICY = Policy("127.0.0.1", 8484, TOKEN)


def scope(host: str | None = "127.0.0.1:8484", client: str = "127.0.0.1", **headers: str) -> Any:
    pairs = [] if host is None else [(b"host", host.encode("latin-1", "replace"))]
    pairs += [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    return {"headers": pairs, "client": (client, 1), "server": ("127.0.0.1", 8484), "path": "/"}


def status(found: Any, policy: Policy = POLICY, access: Access = Access.MODELS) -> int:
    try:
        check(found, policy, access)
    except HttpFault as fault:
        return fault.status
    return 200


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8484", "localhost:8484", "LOCALHOST:8484", "[::1]:8484"]
)
def test_own_hosts(host: str) -> None:
    assert status(scope(host)) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8484", "127.0.0.1", "127.0.0.1:80",
        "localhost.evil.example:8484",
        "127.0.0.1.evil.example:8484", "192.168.1.5:8484", "0x7f000001:8484", "evil-localhost:8484",
    ],
)  # fmt: skip
def test_foreign_hosts(host: str) -> None:
    assert status(scope(host), access=Access.OPEN) == 403


@pytest.mark.parametrize(
    "host",
    [
        None, "", "a?b", "127.0.0.1:8484?x", "127.0.0.1:8484#x", "127.0.0.1:8484/x",
        "a@127.0.0.1:8484",
        "127.0.0.1:8484 ", "127.0.0.1:8484,evil", "127.0.0.1:", "[::1", "127.0.0.1:84848484",
        "127.0.0.1\\evil:8484", "\u00e9:8484",
    ],
)  # fmt: skip
def test_hosts_that_are_none(host: str | None) -> None:
    assert status(scope(host), access=Access.OPEN) == 400


def test_two_hosts_are_none() -> None:
    twice = scope()
    twice["headers"].append((b"host", b"127.0.0.1:8484"))
    assert status(twice) == 400


@given(st.text(max_size=40))
def test_any_host_is_ours_or_refused(host: str) -> None:
    expected = {"127.0.0.1:8484", "localhost:8484", "[::1]:8484"}
    if status(scope(host.encode("latin-1", "replace").decode("latin-1"))) == 200:
        name = host.lower()
        assert name in expected or is_loopback(name.rpartition(":")[0])


@pytest.mark.parametrize(
    "origin",
    [
        "null", "http://evil.example", "https://127.0.0.1:8484", "http://127.0.0.1:3000",
        "http://127.0.0.1:8484.evil.example", "http://localhost", "file://", "http://127.0.0.1:8484/",
    ],
)  # fmt: skip
def test_foreign_origins(origin: str) -> None:
    assert status(scope(origin=origin), access=Access.OPEN) == 403
    assert cors_headers(scope(origin=origin), POLICY) == []


def test_own_origin_and_listed_ones() -> None:
    assert status(scope(origin="http://127.0.0.1:8484")) == 200
    policy = Policy("127.0.0.1", 8484, TOKEN, origins=("https://chat.example",))
    allowed = scope(origin="https://chat.example")
    assert status(allowed, policy) == 200
    assert (b"access-control-allow-origin", b"https://chat.example") in cors_headers(
        allowed, policy
    )
    assert status(scope(origin="https://chat.example.evil"), policy) == 403


def test_a_page_without_an_origin_is_told_by_its_browser() -> None:
    assert status(scope(sec_fetch_site="cross-site")) == 403
    assert status(scope(sec_fetch_site="same-site")) == 403
    assert status(scope(sec_fetch_site="none")) == 200


def test_keyless_is_for_models_on_this_machine_alone() -> None:
    assert status(scope(), access=Access.MODELS) == 200
    assert status(scope(), access=Access.ADMIN) == 401
    assert status(scope(client="10.0.0.7")) == 401
    assert status(scope(), Policy("127.0.0.1", 8484, TOKEN, keyless=False)) == 401
    public = Policy("0.0.0.0", 8484, TOKEN)
    assert status(scope(), public) == 401
    assert status(scope(authorization=f"Bearer {TOKEN}"), public) == 200
    assert status(scope(x_api_key=TOKEN), public) == 200
    assert status(scope(authorization=f"Bearer {TOKEN}x"), public) == 401
    assert (
        status(scope(authorization="Bearer "), Policy("127.0.0.1", 8484, ""), Access.ADMIN) == 401
    )


def test_a_public_server_answers_to_the_address_that_was_reached() -> None:
    public = Policy("0.0.0.0", 8484, TOKEN)
    reached = scope("192.168.1.5:8484", authorization=f"Bearer {TOKEN}")
    reached["server"] = ("192.168.1.5", 8484)
    assert status(reached, public) == 200
    assert status(scope("my.box:8484", authorization=f"Bearer {TOKEN}"), public) == 403
    named = Policy("0.0.0.0", 8484, TOKEN, hosts=("my.box",))
    assert status(scope("my.box:8484", authorization=f"Bearer {TOKEN}"), named) == 200


def test_a_public_bind_without_a_token_is_refused() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "my.box"):
        with pytest.raises(UserError, match="no token"):
            check_bind(Policy(host, 8484, ""))
    check_bind(Policy("127.0.0.1", 8484, ""))
    check_bind(Policy("::1", 8484, ""))
    check_bind(Policy("0.0.0.0", 8484, TOKEN))


def test_the_token_is_random_private_and_kept(tmp_path: Any) -> None:
    path = token_path(tmp_path / "data" / "history.db")
    token = own_token(path)
    assert len(token) >= 43
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    assert own_token(path) == token == read_token(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert same(token, token)
    assert not same(token + "\u00e9", token)


def paths() -> list[tuple[str, str, Access]]:
    return [(route.method, re.sub(r"\{[^}]*\}", "x", route.path), route.access) for route in ROUTES]


async def asked(it: Served, method: str, path: str, **headers: str) -> httpx2.Response:
    return await it.client.request(method, path, headers=headers)


async def test_every_route_refuses_foreign_hosts_and_origins() -> None:
    async with served() as it:
        for method, path, _ in [*paths(), ("GET", "/nothing", Access.OPEN)]:
            assert (await asked(it, method, path, host="evil.example")).status_code == 403, path
            answer = await asked(it, method, path, origin="http://evil.example")
            assert answer.status_code == 403, path
            assert "access-control-allow-origin" not in answer.headers


async def test_without_keyless_every_route_but_health_needs_the_token() -> None:
    async with served(serve_keyless=False) as it:
        wrong: tuple[dict[str, str], ...] = (
            {},
            {"authorization": "Bearer wrong"},
            {"x-api-key": "wrong"},
        )
        for number, (method, path, access) in enumerate(paths()):
            answer = await asked(it, method, path, **wrong[number % 3])
            expected = 200 if access is Access.OPEN else 401
            assert answer.status_code == expected, path
            assert (expected == 401) == ("www-authenticate" in answer.headers)


async def test_a_simple_post_of_a_page_has_no_effect() -> None:
    async with served() as it:
        body = b'{"model":"tiny","messages":[{"role":"user","content":"hi"}]}'
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
            answer = await it.client.post(
                "/v1/chat/completions", content=body, headers={"content-type": kind}
            )
            assert answer.status_code == 415, kind
        assert it.service.pool.residents() == ()


async def test_a_preflight_is_answered_for_allowed_pages_only() -> None:
    async with served(serve_origins=("https://chat.example",)) as it:
        foreign = await asked(it, "OPTIONS", "/v1/chat/completions", origin="https://evil.example")
        assert foreign.status_code == 403
        allowed = await asked(it, "OPTIONS", "/v1/chat/completions", origin="https://chat.example")
        assert allowed.status_code == 204
        assert allowed.headers["access-control-allow-origin"] == "https://chat.example"


async def raw(port: int, data: bytes, seconds: float = 5.0) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    await writer.drain()
    try:
        return await asyncio.wait_for(reader.read(), seconds)
    finally:
        writer.close()


async def test_odd_hosts_on_the_wire() -> None:
    async with served() as it:
        for host in (b"a?b", b"127.0.0.1/x", b"127.0.0.1#x", b"", b"x" * 300):
            said = await raw(it.port, b"GET /health HTTP/1.0\r\nHost: " + host + b"\r\n\r\n")
            assert said.startswith(b"HTTP/1.1 400"), host


async def test_nothing_tells_what_serves() -> None:
    async with served() as it:
        headers = (await it.client.get("/health")).headers
        assert "server" not in headers
        assert headers["x-content-type-options"] == "nosniff"
        answer = await it.client.get("/v1/models/")
        assert answer.status_code in (200, 404)
        assert "location" not in answer.headers


async def test_bodies_have_limits() -> None:
    async with served(serve_body_bytes=1000) as it:
        assert (await it.chat("x" * 2000)).status_code == 413

        async def pieces() -> Any:
            for _ in range(20):
                yield b"x" * 100

        answer = await it.client.post(
            "/v1/chat/completions", content=pieces(), headers={"content-type": "application/json"}
        )
        assert answer.status_code == 413
    deep = b"[" * 100_000
    async with served() as it:
        for body in (deep, b'{"messages":' + deep, b"{", b"[]", b"NaN", b"\xff", b'{"a":1e999}'):
            answer = await it.client.post(
                "/v1/chat/completions", content=body, headers={"content-type": "application/json"}
            )
            assert answer.status_code == 400, body[:20]
        assert (await it.client.get("/health")).status_code == 200


async def test_pictures_are_never_fetched() -> None:
    async with served() as it:
        part = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/x.png"}}
        body = {"model": "tiny", "messages": [{"role": "user", "content": [part]}]}
        answer = await it.client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 400
        assert "Nothing is fetched" in answer.text


async def test_slow_headers_are_closed_and_health_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snugly.server.protocol.HEADER_SECONDS", 0.3)
    async with served() as it:
        slow = [asyncio.create_task(raw(it.port, b"GET / HTTP/1.1\r\nHost:")) for _ in range(50)]
        assert (await it.client.get("/health")).status_code == 200
        for said in await asyncio.gather(*slow):
            assert said.startswith(b"HTTP/1.1 408")
