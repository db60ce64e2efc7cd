"""`snugly bench`: how fast a model is on this machine, alone or beside another program."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from snugly.cli.render import console, note, print_json

if TYPE_CHECKING:
    from snugly.engine.bench import Figure
    from snugly.engine.launch import Prepared

_BAR = 30  # characters
_PUBLIC = ("snugly", "llama-server", "ollama")  # any other is an address


def bench(
    model: str | None = None,
    *,
    against: str = "",
    rounds: Annotated[int, Parameter(validator=Number(gte=1))] = 3,
    seconds: Annotated[float, Parameter(validator=Number(gt=0))] = 60.0,
    share: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Measure how fast a model is here: prompts, answers, long contexts, several at once.

    Energy is told where the machine counts it. Beside another program both are asked.

    Parameters
    ----------
    model
        The model; without it the best installed one.
    against
        Whom to compare with: llama-server (with its own defaults), ollama, or the URL of a
        server that speaks OpenAI's API.
    rounds
        How often everything is measured; medians are shown.
    seconds
        How long a round may take: long contexts that would take longer are left out.
    share
        Write a JSON file that may be published: hardware, model and figures, no names or paths.
    as_json
        Print the same as JSON.
    """
    from snugly.engine.launch import prepare

    ready = prepare(model, say=note)
    note(f"Measuring {ready.name}, {rounds} rounds of at most {seconds:.0f} seconds each.")
    found = asyncio.run(_measure(ready, against, rounds, seconds))
    told = document(ready, found)
    if share is not None:
        share.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        note(f"{share} may be published: it holds no names and no paths.")
    if as_json:
        print_json(told)
    else:
        _print(found)


async def _measure(ready: "Prepared", against: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Figures of each who was asked, and joules per token of ours."""
    from contextlib import AsyncExitStack
    from dataclasses import replace

    from snugly.engine.bench import CROWDS, asks, figures, measured
    from snugly.engine.bench_peer import peer
    from snugly.engine.registry import DEFAULT, ENGINES
    from snugly.settings import settings

    engine = ENGINES[DEFAULT][1](settings())
    # Room for several answers in the one context: slots of their own cost next to nothing.
    slots = max(CROWDS)
    plan = replace(ready.plan, setup=replace(ready.plan.setup, n_seq=slots))
    seen: dict[str, list[list[tuple[str, int, float]]]] = {}
    joules = None
    async with AsyncExitStack() as stack:
        running = await engine.start(plan)
        stack.push_async_callback(running.stop)
        who = {"snugly": asks(running)}
        if against:
            name, ask = await stack.enter_async_context(
                peer(against, ready.plan.model_path, settings())
            )
            who[name] = ask
        for number in range(rounds):
            for name, ask in who.items():
                one = await measured(ask, plan.context, slots, number, seconds)
                seen.setdefault(name, []).append(one)
        joules = await _energy(who["snugly"])
    return {
        "figures": {name: figures(one) for name, one in seen.items()},
        "joules_per_token": joules, "engine": engine.name,
    }  # fmt: skip


async def _energy(ask: Any) -> float | None:
    """Joules per written token, with all that the box did meanwhile; None where not counted."""
    from snugly.engine.bench import prompt
    from snugly.machine.energy import counters, spent
    from snugly.machine.host import Host

    try:
        import pynvml as nvml
    except ImportError:
        nvml = None
    before = counters(Host(), nvml)
    if not before:
        return None
    answer = await ask(prompt(16, 5), 128)
    used = spent(before, counters(Host(), nvml))
    return used / answer.tokens if used is not None and answer.tokens else None


def document(ready: "Prepared", found: dict[str, Any]) -> dict[str, Any]:
    """What may be published: hardware, model, engine, figures.

    No address of a server, which may hold a password, and no name of a file.
    """
    from snugly import __version__

    way = ready.way
    machine = way.machine if way else None
    cpu = machine.cpu if machine else None
    return {
        "snugly": __version__,
        "engine": found["engine"],
        "machine": machine and {
            "cpu": cpu and cpu.model.or_else(""),
            "cores": cpu and cpu.usable_cores.or_else(0.0),
            "ram_bytes": machine.memory.total_bytes.or_else(0),
            "gpus": [gpu.name.or_else(gpu.vendor) for gpu in machine.gpus],
        },
        "model": {
            "name": ready.spec.own_name or ready.spec.architecture,
            "file_type": ready.spec.file_type,
            "parameters": ready.spec.n_params, "file_bytes": ready.spec.file_bytes,
        },
        "plan": {
            "context": ready.plan.context, "threads": ready.plan.threads,
            "threads_batch": ready.plan.threads_batch, "gpu_layers": ready.plan.gpu_layers,
            "kv_type": ready.plan.setup.kv_type,
        },
        "figures": [
            {"who": who if who in _PUBLIC else "another server", "of": f.of, "at": f.at,
             "tokens_per_s": list(f.values)}
            for who, every in found["figures"].items() for f in every
        ],
        "joules_per_token": found["joules_per_token"],
    }  # fmt: skip


def _print(found: dict[str, Any]) -> None:
    from rich.table import Table

    figures: dict[str, tuple[Figure, ...]] = found["figures"]
    ours, *others = figures.items()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("tokens/s", "Snugly", *(name for name, _ in others)):
        table.add_column(column, justify="left" if column == "tokens/s" else "right")
    if others:
        table.add_column("times", justify="right")
    table.add_column("")
    most = {f.of: max(g.middle for g in ours[1] if g.of == f.of) for f in ours[1]}
    for figure in ours[1]:
        cells = [figure.words, f"{figure.middle:.1f}"]
        for _, theirs in others:
            match = [f for f in theirs if (f.of, f.at) == (figure.of, figure.at)]
            cells.append(f"{match[0].middle:.1f}" if match else "–")
            cells.append(f"{figure.middle / match[0].middle:.2f}" if match else "")
        bar = "█" * max(1, round(_BAR * figure.middle / most[figure.of]))
        table.add_row(*cells, bar)
    out = console()
    out.print(table)
    if (joules := found["joules_per_token"]) is not None:
        out.print(f"{joules:.2f} joules for each written token, of the whole processor and GPUs.")
