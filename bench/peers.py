"""Snugly beside what a person would otherwise run: the same work, in alternation, ratios.

    python bench/peers.py run MODEL.gguf ... [--works short,edit] [--rounds N] [--who snugly,wheel]
    python bench/peers.py limits MODEL.gguf ...
    python bench/peers.py table [--write]

`run` asks each contender in turn, every time a server that was just started, and appends each
result to `--results` (a JSON line each): what stands there is not measured again, so it may be
interrupted. The llama-server is the one that `snugly engine` finds, or `--server`; with `--ours`
Snugly runs another one, which is how what `snugly engine build` compiles (docs/engines.md) stands
beside llama.cpp as everybody compiles it. `limits` says what share of the machine's rates is used:
of memory (`snugly machine --measure` first) and of 8-bit products, by bench/int8_rate.cpp, which
does nothing else (a C++ compiler is needed). `table` prints everything as Markdown; with --write
into docs/performance.md.

Each work begins with nothing remembered: `snugly cache purge` runs before it, on this machine's own
cache of prompts.

The wheel and Ollama's defaults take part in the first round only. About 24 minutes for a 1.5B on
two cores (`--who peer,snugly,wheel`), 6 for SmolLM2 with all four.

The order of contenders turns with every round. Ratios are of wall times in the same round.
Where two answers have different lengths, the time for writing is scaled to the peer's length.
"""

import argparse
import asyncio
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2
from peers_servers import Contender, Refused, serving
from peers_work import WORKS, Texts, texts

from snugly.engine.native_found import find
from snugly.machine.detect import detect
from snugly.machine.rates import load_rates
from snugly.model.gguf import read_header
from snugly.model.spec import read_spec
from snugly.settings import settings

RESULTS = Path.home() / ".cache" / "snugly-peers" / "results.jsonl"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"
ENDS = ("eos_token_id", "eot_token_id", "eom_token_id", "padding_token_id")
WHO = ("peer", "snugly", "wheel", "ollama")
# What is longer than Ollama's context; and what takes minutes and says nothing new.
NOT_ASKED = {"document": ("ollama",), "restart": ("ollama",), "deep": ("ollama", "wheel")}
HEAD = "| work | Snugly | with the wheel | Ollama's defaults | asked |"
ONCE = ("wheel", "ollama")  # one round: what is asked for is Snugly beside the peer
DEEPEST = 16_384 + 512


def rows(path: Path) -> list[dict[str, Any]]:
    """What was measured so far."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def versions(server: str, ours: str) -> str:
    """What must be the same for results to stand in one table."""
    told = hashlib.sha256()
    for path in (server, *filter(None, (ours,))):
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        told.update((said.stdout + said.stderr).encode())
    return told.hexdigest()[:8]


async def run(asked: argparse.Namespace) -> None:
    """Measure what is not in the results yet."""
    server = asked.server or (found.path if (found := find(settings())) else "")
    if not server:
        raise SystemExit("There is no llama-server: `snugly engine build`, or --server.")
    home = asked.results.parent / "home"
    (home / "models").mkdir(parents=True, exist_ok=True)
    mark, salt = versions(server, asked.ours), str(int(time.time()))
    for model in asked.models:
        contenders = [
            Contender(name, model, server, home, asked.ours) for name in asked.who.split(",")
        ]
        for work in asked.works.split(",") if asked.works else WORKS:
            for number in range(asked.rounds or WORKS[work].rounds):
                now = [c for c in contenders if c.name not in ONCE or number == 0]
                await one_round(asked.results, now, work, number, salt, mark)


async def one_round(
    results: Path, contenders: list[Contender], work: str, number: int, salt: str, mark: str
) -> None:
    """Every contender once, beginning with another one in every round."""
    model = contenders[0].model
    name = Path(model).stem
    have = {(r["model"], r["work"], r["who"], r["round"]) for r in rows(results)}
    missing = [c for c in contenders if (name, work, c.name, number) not in have]
    if not missing:
        return
    given = await cut(missing[0], number, salt)
    turned = missing[number % len(missing) :] + missing[: number % len(missing)]
    for contender in turned:
        if contender.name in NOT_ASKED.get(work, ()):
            continue
        load = os.getloadavg()[0]
        begun = time.perf_counter()
        try:
            forget()
            found = await WORKS[work].run(contender, given)
        except (Refused, httpx2.HTTPError) as error:
            print(f"{name[:28]:<29}{work:<11}{number} {contender.name:<7}failed: {error}")
            continue
        taken = time.perf_counter() - begun
        row = {
            "model": name, "work": work, "who": contender.name, "round": number, "load": load,
            "server": mark, "at": time.time(), "took": taken, **found,
        }  # fmt: skip
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{name[:28]:<29}{work:<11}{number} {contender.name:<7}{found['seconds']:8.2f} s "
              f"{found['tokens']:>5} tokens, took {taken:.0f} s", flush=True)  # fmt: skip


def forget() -> None:
    """What Snugly remembers of prompts is purged: no work begins with what another has read."""
    subprocess.run(
        [sys.executable, "-m", "snugly", "cache", "purge"], check=True, capture_output=True
    )


async def cut(contender: Contender, number: int, salt: str) -> Texts:
    """The round's texts, by a llama-server's tokenizer."""
    header = read_header(contender.model).metadata
    ends = {header.get(f"tokenizer.ggml.{name}") for name in ENDS}
    trained = read_spec(contender.model).context_train
    peer = Contender("peer", contender.model, contender.server, contender.home)
    async with serving(peer) as client:
        kept = tuple(end for end in ends if isinstance(end, int))
        return await texts(client, number, salt, kept, min(DEEPEST, trained - 64))


# ---- what came out


def seconds_of(row: dict[str, Any], peer: dict[str, Any]) -> float:
    """Wall time, with the time for writing scaled to as many tokens as the peer wrote."""
    first, whole = row["first_s"], row["seconds"]
    if row["tokens"] == peer["tokens"] or row["work"] in ("cold", "turns", "crowd", "deep"):
        return float(whole)
    return float(first + (whole - first) * peer["tokens"] / max(1, row["tokens"]))


def ratios(every: list[dict[str, Any]], model: str, work: str, who: str) -> list[float]:
    """The peer's time over a contender's, a value per round."""
    of = {(r["who"], r["round"]): r for r in every if (r["model"], r["work"]) == (model, work)}
    pairs = [(of["peer", n], r) for (name, n), r in of.items() if name == who and ("peer", n) in of]
    return [peer["seconds"] / seconds_of(row, peer) for peer, row in pairs]


def shown(values: list[float]) -> str:
    """Median, least and most, and of how many."""
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:.2f} (once)"
    middle = statistics.median(values)
    return f"{middle:.2f} ({min(values):.2f} .. {max(values):.2f}, {len(values)} rounds)"


def table(every: list[dict[str, Any]]) -> str:
    """The Markdown that stands between the markers."""
    told: list[str] = []
    for model in dict.fromkeys(r["model"] for r in every):
        told += [f"### {model}", "", HEAD, "|---|---|---|---|---|"]
        middles: list[float] = []
        counted = 0
        for name, work in WORKS.items():
            found = {who: ratios(every, model, name, who) for who in WHO}
            if name in ("deep", "clients"):
                continue
            counted += work.target is not None and name != "cold"
            if work.target is not None and name != "cold" and found["snugly"]:
                middles.append(statistics.median(found["snugly"]))
            least = "" if work.target is None else f"{work.target:g}"
            told.append(
                f"| {work.words} | {shown(found['snugly'])} | {shown(found['wheel'])}"
                f" | {shown(found['ollama'])} | {least} |"
            )
        whole = len(middles) == counted
        mean = f"{statistics.geometric_mean(middles):.2f}" if whole else "not all were measured"
        told.append(f"| geometric mean of {counted} | {mean} | | | 1.8 |")
        told += ["", *curves(every, model)]
    return "\n".join(told).rstrip() + "\n"


def curves(every: list[dict[str, Any]], model: str) -> list[str]:
    """Rates that grow or fall with depth and with clients, beside the peer's."""
    told: list[str] = []
    for work, words in (("deep", "prefill tokens/s at depth"), ("clients", "tokens/s of clients")):
        found = {r["who"]: r["rates"] for r in every if (r["model"], r["work"]) == (model, work)}
        if "peer" not in found:
            continue
        steps = list(found["peer"])
        told += [f"| {words} | " + " | ".join(steps) + " |", "|---" * (len(steps) + 1) + "|"]
        for who in WHO:
            if who in found:
                cells = (f"{found[who].get(step, 0):.1f}" for step in steps)
                told.append(f"| {who} | " + " | ".join(cells) + " |")
        told.append("")
    numeric = [r for r in every if (r["model"], r["work"]) == (model, "numeric")]
    for who in WHO:
        if rates := [r["decode_tps"] for r in numeric if r["who"] == who]:
            told.append(f"Beside the numeric job {who} writes {shown(rates)} tokens/s.")
    return [*told, ""]


def limits(models: list[str], every: list[dict[str, Any]]) -> None:
    """Shares of the measured rates of memory and of 8-bit products that the work reaches."""
    config = settings()
    rates = load_rates(detect(config.store), config.cache)
    bandwidth = max(r.or_else(0.0) for _, r in rates.bandwidth_bytes_per_s) if rates else 0.0
    products, instruction = int8_rate()
    print(f"memory {bandwidth / 1e9:.1f} GB/s")
    print(f"8-bit products {products / 1e12:.2f} Tops/s ({instruction})")
    for path in models:
        spec = read_spec(path)
        name = Path(path).stem
        for who in WHO:
            of = [r for r in every if (r["model"], r["who"]) == (name, who)]
            decode = [r["decode_tps"] for r in of if r["work"] == "short"]
            prefill = [r["prompt"] / r["first_s"] for r in of if r["work"] == "document"]
            if not decode or not prefill:
                continue
            read = spec.weight_bytes * statistics.median(decode)
            done = 2 * spec.n_params * statistics.median(prefill)
            reads = f"decode {read / 1e9:6.1f} GB/s ({read / bandwidth:.0%})" if bandwidth else ""
            does = f"prefill {done / 1e12:.3f} Tops/s ({done / products:.0%})" if products else ""
            print(f"{name[:28]:<29}{who:<7}{reads}  {does}")


def int8_rate() -> tuple[float, str]:
    """Operations/s of the widest instruction for 8-bit products on all cores, and its name.

    0 and why, where no compiler is there or it knows none.
    """
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder) / "int8_rate")
        source = str(Path(__file__).with_name("int8_rate.cpp"))
        flags = ("-O3", "-march=native", "-pthread")
        try:
            subprocess.run(["c++", *flags, source, "-o", program], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            return 0.0, str(error)
        said = subprocess.run(
            [program, str(os.cpu_count())], check=True, capture_output=True, text=True
        )
    value, _, name = said.stdout.strip().partition(" ")
    return float(value), name


def write(text: str) -> None:
    """Put the table between the markers of docs/performance.md."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("run", "table", "limits"))
    parser.add_argument("models", nargs="*")
    parser.add_argument("--works", default="")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--who", default=",".join(WHO))
    parser.add_argument("--server", default="")
    parser.add_argument("--ours", default="", help="what `snugly engine build` made")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    if asked.what == "run":
        asyncio.run(run(asked))
    elif asked.what == "limits":
        limits(asked.models, rows(asked.results))
    else:
        text = table(rows(asked.results))
        print(text)
        if asked.write:
            write(text)


if __name__ == "__main__":
    main()
