"""What `snugly bench` asks, and what it makes of the answers."""

import asyncio
import json
from pathlib import Path

import pytest

from snugly.engine.bench import Answer, figures, measured, prompt
from snugly.engine.bench_peer import peer, peer_environment
from snugly.errors import UserError
from snugly.machine.energy import Counter, counters, spent
from snugly.machine.host import Host
from snugly.settings import Settings


class Server:
    """Reads 1,000 tokens/s, remembers the beginning, writes 100 tokens/s."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self.asked: list[tuple[int, int]] = []

    async def __call__(self, text: str, tokens: int) -> Answer:
        await asyncio.sleep(0)
        words = len(text.split())
        known = max((n for before, n in self.known.items() if text.startswith(before)), default=0)
        self.known[text] = words
        self.asked.append((words, tokens))
        first = (words - known) / 1000
        return Answer(first, first + (tokens - 1) / 100, words, tokens)


def test_rates_are_of_what_had_to_be_read_and_of_what_was_written() -> None:
    found = asyncio.run(measured(Server(), 16_384, 1, 0, 60.0))
    rates = {(of, at): rate for of, at, rate in found}
    assert set(rates) == {(of, at) for of in ("prefill", "decode") for at in (0, 2048, 8192)}
    for (of, _), rate in rates.items():
        assert rate == pytest.approx(1000 if of == "prefill" else 100, rel=0.02)


def test_what_the_context_or_the_time_does_not_allow_is_left_out() -> None:
    short = asyncio.run(measured(Server(), 4096, 1, 0, 60.0))
    assert {at for _, at, _ in short} == {0, 2048}
    hasty = asyncio.run(measured(Server(), 16_384, 1, 0, 5.0))  # 8,192 tokens would take 8 s
    assert {at for of, at, _ in hasty if of != "crowd"} == {0, 2048}


def test_several_at_once_where_there_are_slots() -> None:
    found = asyncio.run(measured(Server(), 1024, 4, 0, 60.0))
    assert [at for of, at, _ in found if of == "crowd"] == [2, 4]


def test_medians_of_rounds() -> None:
    made = figures([[("decode", 0, 10.0)], [("decode", 0, 30.0)], [("decode", 0, 20.0)]])
    assert [(f.words, f.middle) for f in made] == [("decode", 20.0)]
    assert figures([[("crowd", 4, 1.0)]])[0].words == "4 answers at once"
    assert figures([[("prefill", 2048, 1.0)]])[0].words == "prefill after 2,048 tokens"


def test_prompts_differ_by_round_and_are_the_same_for_all() -> None:
    assert prompt(64, 1) == prompt(64, 1)
    assert prompt(64, 1) != prompt(64, 2)
    assert len(prompt(64, 1).split()) == 64


async def test_nobody_to_compare_with(tmp_path: Path) -> None:
    for name in ("vllm", "http://127.0.0.1:9"):
        with pytest.raises(UserError):
            async with peer(name, "/m.gguf", Settings(cache=tmp_path)):
                pass


async def test_another_server_is_asked_by_openais_api(tmp_path: Path) -> None:
    """One that answers with three tokens and tells the counts."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"GET /v1/models" in head:
            body = json.dumps({"data": [{"id": "m"}]}).encode()
        else:
            usage = {"prompt_tokens": 7, "completion_tokens": 3}
            events = [{"choices": [{"text": "x"}]}] * 3 + [{"choices": [], "usage": usage}]
            body = b"".join(b"data: " + json.dumps(e).encode() + b"\n\n" for e in events)
            body += b"data: [DONE]\n\n"
        length = f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        writer.write(b"HTTP/1.1 200 OK\r\n" + length + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with peer(f"http://127.0.0.1:{port}", "", Settings(cache=tmp_path)) as (name, ask):
            answer = await ask("Hello", 3)
    assert name.endswith(str(port))
    assert (answer.prompt_tokens, answer.tokens) == (7, 3)
    assert 0 < answer.first_s <= answer.whole_s


def test_the_peer_waits_in_its_own_way() -> None:
    assert "GOMP_SPINCOUNT" not in peer_environment({"PATH": "/bin"})
    assert peer_environment({"GOMP_SPINCOUNT": "7"})["GOMP_SPINCOUNT"] == "7"
    assert "OPENAI_API_KEY" not in peer_environment({"OPENAI_API_KEY": "k"})


def test_energy_of_packages_and_a_counter_that_begins_again(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/powercap/intel-rapl:0"
    folder.mkdir(parents=True)
    (folder / "name").write_text("package-0\n")
    (folder / "energy_uj").write_text("900000000\n")
    (folder / "max_energy_range_uj").write_text("1000000000\n")
    before = counters(Host(root=tmp_path))
    assert before == (Counter("package-0", 900.0, 1000.0),)
    (folder / "energy_uj").write_text("50000000\n")
    assert spent(before, counters(Host(root=tmp_path))) == pytest.approx(150.0)
    assert spent((), ()) is None
    assert counters(Host(root=tmp_path / "nothing")) == ()
