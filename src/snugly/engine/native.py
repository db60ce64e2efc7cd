"""llama.cpp as a program of its own: a llama-server that is compiled for this processor."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snugly.engine.address import Address, new_address
from snugly.engine.facts import NATIVE as NAME
from snugly.engine.facts import native_facts
from snugly.engine.facts import repacks as repacks
from snugly.engine.llama_cpp import spec_types
from snugly.engine.llama_http import LlamaCppRunning
from snugly.engine.native_found import Native, find
from snugly.engine.native_process import NativeProcess
from snugly.engine.prefix_keeper import Memory, memory_of
from snugly.engine.starting import started
from snugly.engine.types import Mode
from snugly.engine.worker import ENGINE_PING_SECONDS
from snugly.errors import EngineError
from snugly.machine.types import Machine
from snugly.plan.memory import CHECKPOINTS
from snugly.plan.types import EngineFacts, Plan
from snugly.settings import Settings

NATIVE_WORKER = (sys.executable, "-I", "-S", str(Path(__file__).with_name("native_worker.py")))


def facts(machine: Machine, native: Native | None) -> EngineFacts:
    """What the planner must know of this llama-server on this machine."""
    return native_facts(machine, native.backend if native else "")


@dataclass(frozen=True, slots=True)
class NativeLlama:
    """Starts llama-server. `found` is None where there is none: `unusable` says so."""

    start_seconds: float
    silence_seconds: float
    found: Native | None
    name: str = NAME
    memory: Memory | None = None  # where it keeps what it has read; None: in its slots alone

    def unusable(self, architecture: str, instructions: Sequence[str]) -> str:
        """Why it cannot run; empty when it can."""
        if sys.platform == "win32":
            return "on Windows it could outlive Snugly: the wheel is used there"
        if self.found is None:
            return "there is no llama-server: `snugly engine build` makes one"
        if instructions and (lacking := self.found.built_for.difference(instructions)):
            return f"it was compiled for a processor with {', '.join(sorted(lacking))}"
        return self.found.unusable

    async def start(self, plan: Plan, mode: Mode = "generate") -> LlamaCppRunning:
        """Start llama-server for `plan` and wait until it answers.

        Raises: EngineError with the cause.
        """
        why = self.unusable("", ())
        if self.found is None or why:
            raise EngineError("There is no llama-server to start.", f"{why}.")
        address = new_address() if self.found.sockets else new_address("win32")
        writes = mode == "generate"
        memory = self.memory.there() if self.memory and writes and not plan.projector else None
        kept = ["--slot-save-path", memory.slot_folder] if memory else []
        words = [*arguments(plan, address, mode, self.found.options), *kept]
        config = {
            "command": [self.found.path, *words],
            "environment": _environment(plan, address),
            "polite": plan.polite,
        }
        process = NativeProcess(NATIVE_WORKER, address)
        return await started(
            plan, process, config, self.start_seconds, self.silence_seconds, writes, memory
        )


def _environment(plan: Plan, address: Address) -> dict[str, str]:
    """What is given by variable: the key is no argument, everybody here could read it there."""
    values = {"LLAMA_API_KEY": address.key} if address.key else {}
    if plan.spin_rounds:
        values["GOMP_SPINCOUNT"] = str(plan.spin_rounds)
    return values


def make(settings: Settings) -> NativeLlama:
    """The engine with the llama-server that is found."""
    found = find(settings)
    build = f"{NAME} {found.version} {found.file_bytes}" if found else ""
    can = found is not None and "--slot-save-path" in found.options
    return NativeLlama(
        settings.engine_start_seconds, settings.engine_silence_seconds, found,
        memory=memory_of(settings, build) if can else None,
    )  # fmt: skip


def arguments(
    plan: Plan, address: Address, mode: Mode = "generate", options: frozenset[str] | None = None
) -> list[str]:
    """The command line that keeps to `plan`, of the options that the server has.

    The same as `engine.worker` sets for the wheel. `options` None: all of them.
    """
    wanted = _shape(plan) + _quiet(plan, address) + _placing(plan) + _for_mode(plan, mode)
    wanted += _guessing(plan, mode)
    kept = [option for option in wanted if options is None or option[0] in options]
    return [word for option in kept for word in option]


def _shape(plan: Plan) -> list[tuple[str, ...]]:
    setup = plan.setup
    values: dict[str, Any] = {
        "--model": plan.model_path,
        "--ctx-size": setup.context,
        "--parallel": setup.n_seq,
        "--batch-size": setup.batch,
        "--ubatch-size": setup.ubatch,
        "--threads": plan.threads,
        "--threads-batch": plan.threads_batch,
        "--cache-type-k": setup.kv_type.lower(),
        "--cache-type-v": (setup.v_type or setup.kv_type).lower(),
        "--flash-attn": "on" if setup.flash_attention else "off",
        "--ctx-checkpoints": CHECKPOINTS,
        "--cache-ram": 0,  # 8 GiB by default
        "--fit": "off",  # the plan has sized everything
    }
    flags = ["--kv-unified", "--jinja", "--no-context-shift", "--no-warmup"]
    flags += [] if setup.repack else ["--no-repack"]
    return [(name, str(value)) for name, value in values.items()] + [(flag,) for flag in flags]


def _quiet(plan: Plan, address: Address) -> list[tuple[str, ...]]:
    """Where it listens, and nothing beside answers: no page, no downloads, no slots to read."""
    return [
        ("--host", address.socket or "127.0.0.1"),
        ("--port", str(address.port or 8080)),  # not used beside a socket
        ("--timeout", "3600"),
        ("--sse-ping-interval", str(ENGINE_PING_SECONDS)),
        # Each answer holds one for as long as it lasts; four more for short questions.
        ("--threads-http", str(plan.setup.n_seq + 4)),
        ("--no-slots",),
        ("--no-ui",),
        ("--offline",),
    ]


def _placing(plan: Plan) -> list[tuple[str, ...]]:
    placement = plan.placement
    found: list[tuple[str, ...]] = [("--n-gpu-layers", str(plan.gpu_layers))]
    if len(placement.gpu_layers) > 1:
        found.append(("--tensor-split", ",".join(map(str, placement.gpu_layers))))
    if plan.experts_until:
        found.append(("--n-cpu-moe", str(plan.experts_until)))
    if not placement.kv_on_gpu:
        found.append(("--no-kv-offload",))
    return found


def _guessing(plan: Plan, mode: Mode) -> list[tuple[str, ...]]:
    """Tokens that are guessed ahead (llama.cpp docs/speculative.md)."""
    guess = plan.speculation
    if mode != "generate" or not guess.most:
        return []
    found: list[tuple[str, ...]] = [("--spec-type", ",".join(spec_types(guess)))]
    if guess.n_match:
        found += [
            ("--spec-ngram-mod-n-match", str(guess.n_match)),
            ("--spec-ngram-mod-n-min", str(guess.n_min)),
            ("--spec-ngram-mod-n-max", str(guess.n_max)),
        ]
    if drafter := guess.drafter:
        found += [
            ("--spec-draft-model", drafter.path),
            ("--spec-draft-n-max", str(drafter.n_tokens)),
            ("--spec-draft-ngl", "all" if plan.gpu_layers else "0"),
        ]
    return found


def _for_mode(plan: Plan, mode: Mode) -> list[tuple[str, ...]]:
    from snugly.engine.llama_cpp import pooling

    if mode == "generate" and plan.projector:
        where = [] if plan.gpu_layers else [("--no-mmproj-offload",)]
        return [("--mmproj", plan.projector), *where]
    if mode == "generate":
        return []
    how = pooling(plan.model_path, mode)
    # An encoder reads a text in one micro-batch.
    found: list[tuple[str, ...]] = [("--embeddings",), ("--batch-size", str(plan.setup.ubatch))]
    return found + ([("--pooling", how)] if how else [])
