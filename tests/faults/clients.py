"""Rows about clients: strangers, leavers, floods, slow ones, and what they send."""

import asyncio
import json
import random
import re
import socket
from typing import Any

import httpx2

from snugly.server.routes import ROUTES
from snugly.server.security import Access
from tests.faults.figure import Figure, at_once, p
from tests.server.making import TOKEN, Served, eventually, served


def _paths() -> list[tuple[str, str, Access]]:
    return [(r.method, re.sub(r"\{[^}]*\}", "x", r.path), r.access) for r in ROUTES]


async def foreign_hosts(soak: bool) -> Figure:
    """Row 4."""
    hosts = ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "0.0.0.0"]
    asked = passed = 0
    async with served() as it:
        for method, path, _ in _paths():
            for host in hosts if soak else hosts[:2]:
                answer = await it.client.request(method, path, headers={"host": host})
                asked, passed = asked + 1, passed + (answer.status_code != 403)
    return Figure(
        4, "foreign Host, every route", "403", f"{asked} requests, {passed} let in", not passed
    )


async def odd_hosts(soak: bool) -> Figure:
    """Row 5."""
    asked = passed = 0
    async with served(serve_keyless=False) as it:
        own = f"127.0.0.1:{it.port}"
        odd = [own + tail for tail in ("?x", "#x", "/x", "/../health", "@x", "%2f", "\\x", " x")]
        for method, path, _ in _paths():
            for host in odd if soak else odd[:3]:
                answer = await it.client.request(method, path, headers={"host": host})
                asked, passed = asked + 1, passed + (answer.status_code != 400)
    return Figure(
        5, "Host with `?`, `#`, `/`", "400", f"{asked} requests, {passed} let in", not passed
    )


async def foreign_origins(soak: bool) -> Figure:
    """Row 6: what a page can send without asking first."""
    asked = passed = 0
    body = b'{"model":"tiny","messages":[{"role":"user","content":"hi"}]}'
    async with served() as it:
        for method, path, _ in _paths():
            for origin in ("http://evil.example", "null"):
                headers = {"origin": origin, "content-type": "text/plain"}
                answer = await it.client.request(method, path, content=body, headers=headers)
                wrong = answer.status_code != 403 or "access-control-allow-origin" in answer.headers
                asked, passed = asked + 1, passed + wrong
        effects = len(it.service.pool.residents())
    return Figure(
        6, "foreign or `null` Origin, simple POST", "403, no CORS header",
        f"{asked} requests, {passed} let in, {effects} side effects", not passed and not effects,
    )  # fmt: skip


async def wrong_tokens(soak: bool) -> Figure:
    """Row 7."""
    wrong: list[dict[str, str]] = [
        {}, {"authorization": "Bearer " + "x" * 43}, {"x-api-key": TOKEN[:-1]},
        {"authorization": f"Basic {TOKEN}"}, {"authorization": f"Bearer {TOKEN}x"},
    ]  # fmt: skip
    asked = passed = 0
    async with served(serve_keyless=False) as it:
        for method, path, access in _paths():
            if access is Access.OPEN:
                continue
            for headers in wrong if soak else wrong[:3]:
                answer = await it.client.request(method, path, headers=headers)
                asked, passed = asked + 1, passed + (answer.status_code != 401)
    return Figure(
        7, "missing or wrong token", "401 on every route but health",
        f"{asked} requests, {passed} let in", not passed,
    )  # fmt: skip


async def leavers(soak: bool) -> Figure:
    """Row 17, on the fake engine: before the first token, and in the middle."""
    rounds, freed = 200 if soak else 10, []
    loop = asyncio.get_running_loop()
    for switches in (("--hang",), ("--pieces", "10000", "--delay", "0.01")):
        async with served(*switches) as it:
            await it.service.pool.load(*await _tiny(it))
            for _ in range(rounds // 2):
                body = {"model": "tiny", "stream": True,
                        "messages": [{"role": "user", "content": "hi"}]}  # fmt: skip
                data = json.dumps(body).encode()
                head = (
                    f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{it.port}\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
                )
                _, writer = await asyncio.open_connection("127.0.0.1", it.port)
                writer.write(head.encode() + data)
                await eventually(lambda: it.service.admission.running == 1)
                await asyncio.sleep(0.05)
                began = loop.time()
                writer.close()
                await eventually(lambda: it.service.admission.running == 0)
                freed.append(loop.time() - began)
    return Figure(
        17, "client leaves (before and after the first token), fake engine", "the slot is free",
        f"{len(freed)} times, p95 {1000 * p(freed, 95):.0f} ms", p(freed, 95) <= 2.0,
    )  # fmt: skip


async def _tiny(it: Served) -> Any:
    volume = await it.service.volume("tiny")
    return volume.installed, volume.spec


async def flood(soak: bool) -> Figure:
    """Row 21: a thousand connections on a queue of 128."""
    count = 1000 if soak else 200
    async with served("--pieces", "2", "--delay", "0.002", serve_slots=1) as it:
        await it.chat()
        statuses: list[int] = []
        resets = wrong = unhinted = 0

        async def one() -> None:
            nonlocal resets, wrong, unhinted
            try:
                answer = await it.chat()
            except httpx2.TransportError:
                resets += 1
                return
            statuses.append(answer.status_code)
            if answer.status_code == 200:
                wrong += answer.json()["choices"][0]["message"]["content"] != "word word "
            else:
                unhinted += answer.status_code != 503 or "retry-after" not in answer.headers

        await asyncio.gather(*(one() for _ in range(count)))
    done = statuses.count(200)
    return Figure(
        21, f"{count:,} connections, queue of 128", "503 with Retry-After for the rest",
        f"{done} answered, {statuses.count(503)} told to wait, {resets} resets, {wrong} wrong"
        " answers", not resets and not wrong and not unhinted and done > 0,
    )  # fmt: skip


async def slow_headers(soak: bool) -> Figure:
    """Row 22: connections that send a byte now and then."""
    count, health = 500 if soak else 60, list[float]()
    loop = asyncio.get_running_loop()
    from snugly.server import protocol

    before, protocol.HEADER_SECONDS = protocol.HEADER_SECONDS, 2.0
    try:
        async with served() as it:
            pairs = [await asyncio.open_connection("127.0.0.1", it.port) for _ in range(count)]
            # Heard as it comes: a byte that is sent later is answered with a reset.
            lines = [asyncio.create_task(reader.readline()) for reader, _ in pairs]
            for byte in b"GET /":
                for (_, writer), line in zip(pairs, lines, strict=True):
                    if not line.done():
                        writer.write(bytes([byte]))
                began = loop.time()
                assert (await it.client.get("/health")).status_code == 200
                health.append(loop.time() - began)
                await asyncio.sleep(0.3)
            async with asyncio.timeout(30):
                said = await asyncio.gather(*lines, return_exceptions=True)
            closed = sum(isinstance(s, bytes) and s.startswith(b"HTTP/1.1 408") for s in said)
            for _, writer in pairs:
                writer.close()
    finally:
        protocol.HEADER_SECONDS = before
    return Figure(
        22, "slow headers", "408, health answers",
        f"{count} connections, {closed} closed with 408, p99 of health"
        f" {1000 * p(health, 99):.0f} ms",
        closed == count,
    )  # fmt: skip


async def slow_reader(soak: bool) -> Figure:
    """Row 23: a client that never reads, beside one that does."""
    import psutil

    word = "x" * 20_000
    async with served(
        "--pieces", "100000", "--words", word, serve_stall_seconds=1.0, serve_slots=2
    ) as it:
        await it.service.pool.load(*await _tiny(it))
        me = psutil.Process()
        before = me.memory_info().rss
        sock = socket.create_connection(("127.0.0.1", it.port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        body = {"model": "tiny", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        data = json.dumps(body).encode()
        sock.sendall(
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{it.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        await eventually(lambda: it.service.admission.running == 1)
        most = 0
        loop = asyncio.get_running_loop()
        began = loop.time()
        while it.service.admission.running and loop.time() - began < 20:
            await asyncio.sleep(0.05)
            most = max(most, me.memory_info().rss - before)
        took = loop.time() - began
        cut = it.service.admission.running == 0
        sock.close()
    return Figure(
        23, "slow reader", "bounded buffer, then cut",
        f"cut after {took:.1f} s (limit 1 s), {most / 2**20:.1f} MiB more resident at most",
        cut and most < 16 * 2**20,
    )  # fmt: skip


def _nested(depth: int) -> Any:
    value: Any = {"type": "string"}
    for _ in range(depth):
        value = {"type": "object", "properties": {"a": value}}
    return value


async def deep_schemas(soak: bool) -> Figure:
    """Row 36: nothing of this reaches an engine."""
    shapes: list[Any] = [
        _nested(60), _nested(400), {"$ref": "http://evil.example/x.json"},
        {"type": "array", "minItems": 10**9}, {"enum": ["x"] * 50_000}, 5, [], "x",
    ]  # fmt: skip
    bodies: list[dict[str, Any]] = [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": shape}}}
        for shape in shapes
    ]
    bodies += [{"grammar": "root ::= " + "(" * 300_000}, {"grammar": 7}]
    wrong = 0
    async with served() as it:
        for more in bodies:
            answer = await it.chat(**more)
            wrong += answer.status_code != 400
        loaded = len(it.service.pool.residents())
    return Figure(
        36, "deep schema, endless grammar", "400 before the engine",
        f"{len(bodies)} bodies, {wrong} not refused, {loaded} engines started",
        not wrong and not loaded,
    )  # fmt: skip


_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**31, -(2**63), 10**30, 1e308, -0.5, "", "x", "\ud800", "\u0000",
    "auto", [], {}, [None], [[]], [{}], {"type": "text"}, {"role": "user"}, [1, 2, 3], ["a", 1],
    [{"role": "user", "content": "hi"}], [{"role": "tool", "content": None}], "tiny", "9" * 400,
)  # fmt: skip
_FIELDS = (
    "model messages prompt input suffix max_tokens max_completion_tokens temperature top_p top_k n"
    " stop stream stream_options seed tools tool_choice response_format logprobs top_logprobs echo"
    " logit_bias presence_penalty options keep_alive think format images raw system query documents"
    " texts top_n tokens content n_predict n_probs input_prefix input_suffix input_extra samplers"
    " id_slot truncation reasoning previous_response_id store metadata name source destination"
    " dimensions encoding_format min_p typical_p repeat_penalty grammar json_schema cache_prompt"
).split()


async def fuzzed(soak: bool) -> Figure:
    """Row 37: random fields with random values on every route that takes a body."""
    rounds = 300 if soak else 4
    rng = random.Random(37)
    bad: list[tuple[str, dict[str, Any], int, str]] = []
    key = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    async with served("--pieces", "1", serve_slots=4) as it:

        async def one(path: str) -> None:
            names = rng.sample(_FIELDS, rng.randint(0, 8))
            body = {name: rng.choice(_VALUES) for name in names}
            if rng.random() < 0.7:
                body["model"] = "tiny"
            data = json.dumps(body).encode()
            answer = await it.client.post(path, content=data, headers=key, timeout=60)
            if answer.status_code >= 500:
                bad.append((path, body, answer.status_code, answer.text[:200]))

        paths = [path for method, path, _ in _paths() if method == "POST" and path != "/api/pull"]
        await at_once(8, (one(path) for path in paths for _ in range(rounds)))
        asked = rounds * len(paths)
    for case in bad[:5]:
        print(case)
    return Figure(
        37, "fuzzed bodies, negative and huge numbers", "4xx",
        f"{asked} requests, {len(bad)} with 5xx",
        not bad,
    )  # fmt: skip


ROWS = (
    foreign_hosts, odd_hosts, foreign_origins, wrong_tokens, leavers, flood, slow_headers,
    slow_reader, deep_schemas, fuzzed,
)  # fmt: skip
