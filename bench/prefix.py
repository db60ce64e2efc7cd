"""What a second question about a document costs after the server was started again.

    python bench/prefix.py MODEL.gguf ... [--tokens 4000] [--answer 32] [--rounds 2]
                           [--who peer,forgetful,snugly,wheel] [--server PATH]

Each contender is started, asked about a document, stopped, started again and asked something
else about it: `peer` is llama-server with its defaults, `snugly` is `snugly serve` on the
same llama-server, `wheel` the same on the wheel, `forgetful` is `snugly` with nothing kept
(`prefix_cache_bytes` 0). Times are the client's: to the first token and to the last. Ratios are
of wall times to the peer's in the same round.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from peers_servers import Answer, Contender, serving
from workload import header

from snugly.engine.native_found import find
from snugly.engine.prefix_keeper import folder_of
from snugly.engine.prefix_store import PrefixStore
from snugly.settings import settings

DOCS = Path(__file__).parents[1] / "docs"
QUESTIONS = ("What is this text about?", "Name one command.")
WHO = ("peer", "forgetful", "snugly", "wheel")


def contender(name: str, model: str, server: str, home: Path) -> Contender:
    """Who takes part; `forgetful` is Snugly in an environment of its own."""
    return Contender("snugly" if name == "forgetful" else name, model, server, home)


@contextmanager
def keeping(name: str) -> Iterator[None]:
    """The environment in which a contender is started."""
    if name == "forgetful":
        os.environ["SNUGLY_PREFIX_CACHE_BYTES"] = "0"
    try:
        yield
    finally:
        os.environ.pop("SNUGLY_PREFIX_CACHE_BYTES", None)


async def asked(who: Contender, document: str, tokens: int) -> tuple[Answer, Answer]:
    """The first question, a restart, the second question."""
    answers = []
    for question in QUESTIONS:
        async with serving(who) as client:
            await client.ask([{"role": "user", "content": "Hello."}], 4)  # the model is loaded
            words = [{"role": "user", "content": f"{document}\n\n{question}"}]
            answers.append(await client.ask(words, tokens))
    return answers[0], answers[1]


async def document_of(who: Contender, number: int, tokens: int) -> str:
    """A text of so many tokens that no earlier run has asked about."""
    salt = f"Run {os.getpid()}, round {number}.\n"
    words = salt + "\n".join(page.read_text() for page in sorted(DOCS.glob("*.md")))
    async with serving(replace(who, name="peer")) as client:
        return await client.cut(words, tokens)


def kept(tokens: int) -> str:
    """The state of the document on the disk, which was used last."""
    config = settings()
    entries = PrefixStore(folder_of(config.cache), config.prefix_cache_bytes).entries()
    latest = next((entry for entry in entries if entry.tokens >= tokens), None)
    if latest is None:
        return "nothing kept"
    return f"{latest.n_bytes / 1e6:.1f} MB on disk, {latest.n_bytes / latest.tokens:,.0f} a token"


async def measure(model: str, options: argparse.Namespace, server: str, home: Path) -> None:
    """Print one model's table."""
    found: dict[str, list[tuple[Answer, Answer]]] = {name: [] for name in options.who.split(",")}
    for number in range(options.rounds):
        first = contender("peer", model, server, home)
        document = await document_of(first, number, options.tokens)
        for name in found:
            with keeping(name):
                who = contender(name, model, server, home)
                found[name].append(await asked(who, document, options.answer))
    print(f"\n{Path(model).name}: {options.tokens:,} tokens in, {options.answer} out")
    print("contender   first question: token, all s   after a restart: token, all s   ratio")
    for name, pairs in found.items():
        times = [
            statistics.median(getattr(pair[place], field) for pair in pairs)
            for place in (0, 1)
            for field in ("first_s", "seconds")
        ]
        ratios = [
            peer[1].seconds / own[1].seconds
            for peer, own in zip(found.get("peer", []), pairs, strict=False)
        ]
        ratio = f"{statistics.median(ratios):6.1f}" if ratios else "     -"
        print(
            f"{name:10}  {times[0]:19.2f} {times[1]:9.2f} {times[2]:22.2f} {times[3]:9.2f} {ratio}"
        )
    print(kept(options.tokens))


def main() -> None:
    """Measure each model."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("models", nargs="+")
    words.add_argument("--tokens", type=int, default=4000)
    words.add_argument("--answer", type=int, default=32)
    words.add_argument("--rounds", type=int, default=2)
    words.add_argument("--who", default=",".join(WHO))
    words.add_argument("--server", default="")
    options = words.parse_args()
    native = find(settings())
    server = options.server or (native.path if native else "")
    if not server:
        raise SystemExit("no llama-server: name one with --server")
    header("a second question after a restart")
    with tempfile.TemporaryDirectory() as home:
        for model in options.models:
            asyncio.run(measure(str(Path(model).absolute()), options, server, Path(home)))


if __name__ == "__main__":
    main()
