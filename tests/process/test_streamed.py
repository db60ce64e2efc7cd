"""One answer over a private socket: whatever pieces it comes in, and however it ends."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from snugly.engine.address import Address
from snugly.engine.streamed import streamed

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def engine(answer: Answer, asked: list[bytes]) -> AsyncIterator[Address]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head + await reader.readexactly(2))
        try:
            await answer(writer)
        except ConnectionError:
            pass  # the reader has what it wanted
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Address("", server.sockets[0].getsockname()[1], "secret")


async def read(answer: Answer, silence: float = 5.0) -> tuple[int, bytes]:
    async with (
        engine(answer, []) as address,
        streamed(address, "/x", b"{}", silence) as found,
    ):
        return found.status, await found.whole()


def says(*pieces: bytes, pause: float = 0.0) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    return answer


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_chunks_cut_anywhere(size: int) -> None:
    whole = CHUNKED + b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"
    cut = [whole[i : i + size] for i in range(0, len(whole), size)]
    assert await read(says(*cut)) == (200, b"abc0123456789")


async def test_a_length_and_an_end_by_closing() -> None:
    assert await read(says(HEAD + b"Content-Length: 3\r\n\r\nabc")) == (200, b"abc")
    assert await read(says(HEAD + b"\r\nabc", b"def", pause=0.01)) == (200, b"abcdef")
    refused = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}"
    assert await read(says(refused)) == (400, b"{}")


@pytest.mark.parametrize(
    "cut", [b"", b"HTTP/1.1 20", CHUNKED, CHUNKED + b"3\r\nabc\r\n", b"nonsense\r\n\r\n"]
)
async def test_an_answer_that_is_cut_off_is_an_error_never_an_end(cut: bytes) -> None:
    with pytest.raises(ConnectionError):
        await read(says(cut))


async def test_silence_is_measured_between_pieces() -> None:
    pieces = [CHUNKED, *[b"1\r\na\r\n"] * 8, b"0\r\n\r\n"]
    assert await read(says(*pieces, pause=0.05), silence=0.3) == (200, b"a" * 8)
    with pytest.raises(TimeoutError):
        await read(says(CHUNKED, b"", pause=0.5), silence=0.2)


async def test_nobody_listens() -> None:
    with pytest.raises(ConnectionError):
        async with streamed(Address("", 1, ""), "/x", b"{}", 1.0):
            pass


async def test_the_key_and_the_body_are_sent() -> None:
    asked: list[bytes] = []
    async with (
        engine(says(HEAD + b"Content-Length: 0\r\n\r\n"), asked) as address,
        streamed(address, "/x", b"{}", 5.0) as found,
    ):
        assert await found.whole() == b""
    assert asked[0].startswith(b"POST /x HTTP/1.1\r\n")
    assert b"Authorization: Bearer secret\r\n" in asked[0]
    assert asked[0].endswith(b"\r\n\r\n{}")


async def test_what_is_not_read_makes_the_engine_wait() -> None:
    sent = 0

    async def flood(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(CHUNKED)
        for _ in range(1000):
            writer.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
            await writer.drain()
            sent += 1

    async with engine(flood, []) as address, streamed(address, "/x", b"{}", 5.0) as found:
        await asyncio.sleep(0.3)
        stopped = sent
        assert stopped < 900  # the kernel's buffers, and no more
        await asyncio.sleep(0.1)
        assert sent == stopped
        heard = 0
        while heard < 900 * 0x4000:
            heard += len(await found.read())


@pytest.mark.skipif(sys.platform == "win32", reason="no uvloop, no Unix sockets")
def test_uvloop_over_a_unix_socket(tmp_path: Path) -> None:
    import uvloop

    async def main() -> bytes:
        path = str(tmp_path / "e.sock")

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(CHUNKED + b"3\r\nabc\r\n0\r\n\r\n")
            writer.close()

        async with (
            await asyncio.start_unix_server(serve, path),
            streamed(Address(path, 0, ""), "/x", b"{}", 5.0) as found,
        ):
            return await found.whole()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == b"abc"
