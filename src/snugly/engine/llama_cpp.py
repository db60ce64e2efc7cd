"""llama.cpp in a process of its own, through the `xllamacpp` wheel."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from snugly.engine.address import Address, new_address
from snugly.engine.facts import AVX2_REPACKS as AVX2_REPACKS
from snugly.engine.facts import X86_64
from snugly.engine.facts import box_facts as box_facts
from snugly.engine.facts import facts as facts
from snugly.engine.facts import on_gpus as on_gpus
from snugly.engine.llama_http import LlamaCppRunning
from snugly.engine.prefix_keeper import Memory
from snugly.engine.process import EngineProcess
from snugly.engine.starting import started
from snugly.engine.types import Mode
from snugly.model.gguf import read_header
from snugly.plan.memory import CHECKPOINTS
from snugly.plan.speculation_types import Speculation
from snugly.plan.types import Plan

WORKER = (sys.executable, "-P", "-m", "snugly.engine.worker")
_NEEDED = ("avx2", "fma", "bmi2", "f16c")  # what the x86-64 wheel is compiled for


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """Starts workers. `command` is another program that speaks the worker's protocol."""

    start_seconds: float
    silence_seconds: float
    command: Sequence[str] = WORKER
    name: str = "xllamacpp"
    memory: Memory | None = None  # where it keeps what it has read; None: in its slots alone

    def unusable(self, architecture: str, instructions: Sequence[str]) -> str:
        """Why the wheel cannot run on this processor; empty when it can.

        Importing it without these instructions would end the process with SIGILL.
        """
        if architecture not in X86_64:
            return ""
        missing = [name for name in _NEEDED if name not in instructions]
        return f"this processor lacks {', '.join(missing)}" if missing else ""

    async def start(self, plan: Plan, mode: Mode = "generate") -> LlamaCppRunning:
        """Start a worker for `plan` and wait until it answers."""
        config = worker_config(plan, address := new_address()) | {"mode": mode}
        if mode == "generate":
            config["guess"] = guessing(plan)
        else:
            config["pooling"] = await asyncio.to_thread(pooling, plan.model_path, mode)
        process = EngineProcess(self.command, address)
        # llama-server saves no slots of models that see (server-context.cpp).
        writes = mode == "generate"
        memory = self.memory.there() if self.memory and writes and not plan.projector else None
        config["slot_folder"] = memory.slot_folder if memory else ""
        return await started(
            plan, process, config, self.start_seconds, self.silence_seconds, writes, memory
        )


def pooling(model_path: str, mode: Mode) -> str:
    """How the vectors of a text's tokens become one; empty: as the model's header says.

    Where it says nothing: a decoder's last token has seen all others; of an encoder's the
    mean is taken, as sentence-transformers does.

    Raises: BadModelFile.
    """
    if mode == "rerank":
        return "rank"
    metadata = read_header(model_path).metadata
    architecture = metadata.get("general.architecture", "")
    if metadata.get(f"{architecture}.pooling_type", 0):
        return ""
    return "last" if metadata.get(f"{architecture}.attention.causal", True) else "mean"


def spec_types(guess: Speculation) -> list[str]:
    """What guesses, by llama.cpp's names; the text so far is asked before a drafter is."""
    return ["ngram-mod"] * bool(guess.n_match) + ["draft-simple"] * bool(guess.drafter)


def guessing(plan: Plan) -> dict[str, Any]:
    """How tokens are guessed ahead, for the worker; empty: not at all."""
    guess = plan.speculation
    if not guess.most:
        return {}
    lookup = {name: getattr(guess, name) for name in ("n_match", "n_min", "n_max")}
    drafter = asdict(guess.drafter) if guess.drafter else {}
    return {"types": spec_types(guess), "lookup": lookup, "drafter": drafter}


def version() -> str:
    """The wheel's version; empty where it is not installed."""
    try:
        return metadata.version("xllamacpp")
    except metadata.PackageNotFoundError:
        return ""


def worker_config(plan: Plan, address: Address) -> dict[str, Any]:
    """What the worker reads from its stdin. The key travels here, never in arguments."""
    names = (
        "model_path", "model_name", "threads", "threads_batch", "gpu_layers", "spin_rounds",
        "projector",
    )  # fmt: skip
    chosen = {name: getattr(plan, name) for name in (*names, "polite")}
    kept = ("context", "batch", "ubatch", "repack", "n_seq", "kv_type", "flash_attention")
    how = {name: getattr(plan.setup, name) for name in kept}
    how["v_type"] = plan.setup.v_type or plan.setup.kv_type
    how["kv_on_gpu"] = plan.placement.kv_on_gpu
    # Counts of layers: llama.cpp divides what it offloads in their proportion, exactly.
    how["tensor_split"] = list(plan.placement.gpu_layers)
    how["cpu_experts"] = plan.experts_until
    return chosen | how | {"checkpoints": CHECKPOINTS} | asdict(address)
