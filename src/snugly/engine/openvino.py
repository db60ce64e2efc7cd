"""OpenVINO GenAI in a process of its own: Intel's processors, integrated GPUs and NPUs."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from snugly.engine.address import new_address
from snugly.engine.facts import OPENVINO as NAME
from snugly.engine.facts import X86_64
from snugly.engine.llama_cpp import worker_config
from snugly.engine.llama_http import LlamaCppRunning
from snugly.engine.process import EngineProcess
from snugly.engine.starting import started
from snugly.engine.types import Mode
from snugly.errors import EngineError
from snugly.plan.types import Plan
from snugly.settings import Settings

_WORKER = (sys.executable, "-P", "-m", "snugly.engine.openvino_worker")


@dataclass(frozen=True, slots=True)
class OpenVino:
    """Starts workers."""

    start_seconds: float
    silence_seconds: float
    device: str = "CPU"
    prompt_lookup: bool = False
    name: str = NAME

    def unusable(self, architecture: str, instructions: Sequence[str]) -> str:
        """Why it cannot run here; empty when it can."""
        if find_spec("openvino_genai") is None:
            return "it is not installed: `pip install snugly[openvino]`"
        if sys.platform == "win32":
            return "on Windows it has no private address yet"
        if architecture and architecture not in (*X86_64, "arm64", "aarch64"):
            return f"it is not made for {architecture}"
        return ""

    async def start(self, plan: Plan, mode: Mode = "generate") -> LlamaCppRunning:
        """Start a worker for `plan` and wait until it answers.

        Raises: EngineError with the cause.
        """
        if mode != "generate":
            raise EngineError("OpenVINO makes no vectors here.", "Only text is built in.",
                              "`snugly engine use xllamacpp`.")  # fmt: skip
        address = new_address()
        more = {"device": self.device, "prompt_lookup": self.prompt_lookup}
        process = EngineProcess(_WORKER, address)
        config = worker_config(plan, address) | more
        return await started(plan, process, config, self.start_seconds, self.silence_seconds)


def make(settings: Settings) -> OpenVino:
    """The engine with what the settings say of it."""
    return OpenVino(
        settings.engine_start_seconds,
        settings.engine_silence_seconds,
        settings.openvino_device,
        settings.openvino_prompt_lookup,
    )
