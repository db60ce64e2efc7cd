"""llama.cpp in a process of its own, through the `xllamacpp` wheel."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snugly.chat.sse import EventStream
from snugly.chat.types import ChatRequest, Delta
from snugly.engine.address import Address, new_address
from snugly.engine.pieces import Pieces
from snugly.engine.process import EngineProcess
from snugly.engine.wire import body_of, refusal
from snugly.errors import EngineError, UserError
from snugly.plan.memory import CHECKPOINTS
from snugly.plan.types import EngineFacts, Plan
from snugly.units import MiB

if TYPE_CHECKING:
    import httpx2

WORKER = (sys.executable, "-P", "-m", "snugly.engine.worker")
X86_64 = ("x86_64", "AMD64", "amd64")
AVX2_REPACKS = frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"})
_NEEDED = ("avx2", "fma", "bmi2", "f16c")  # what the x86-64 wheel is compiled for


def facts(system: str, architecture: str) -> EngineFacts:
    """What the planner must know of the wheel.

    32 MiB: Python with the extension loaded, measured on Linux (`bench/memory.py`).
    Repacked types: AVX2 builds lay out these anew (llama.cpp ggml-cpu/repack.cpp); the
    arm64 wheel is built for baseline armv8-a, which has no such layout. On Apple silicon
    the wheel computes through Metal, elsewhere on PyPI on the CPU.
    """
    metal = system == "darwin" and architecture not in X86_64
    return EngineFacts(
        name="xllamacpp",
        code_bytes=32 * MiB,
        repacks=AVX2_REPACKS if architecture in X86_64 else frozenset(),
        offloads_to="metal" if metal else "",
    )


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """Starts workers. `command` is another program that speaks the worker's protocol."""

    start_seconds: float
    silence_seconds: float
    command: Sequence[str] = WORKER
    name: str = "xllamacpp"

    def unusable(self, architecture: str, instructions: Sequence[str]) -> str:
        """Why the wheel cannot run on this processor; empty when it can.

        Importing it without these instructions would end the process with SIGILL.
        """
        if architecture not in X86_64:
            return ""
        missing = [name for name in _NEEDED if name not in instructions]
        return f"this processor lacks {', '.join(missing)}" if missing else ""

    async def start(self, plan: Plan) -> "LlamaCppRunning":
        """Start a worker for `plan` and wait until it answers."""
        config = worker_config(plan, address := new_address())
        process = EngineProcess(self.command, address)
        # Importing the HTTP client takes as long as loading a small model: do both at once.
        client = asyncio.create_task(asyncio.to_thread(import_module, "httpx2"))
        await process.start(config, self.start_seconds)
        try:
            await client
        except BaseException:
            await process.stop()
            raise
        return LlamaCppRunning(plan, process, self.silence_seconds)


def worker_config(plan: Plan, address: Address) -> dict[str, Any]:
    """What the worker reads from its stdin. The key travels here, never in arguments."""
    names = ("model_path", "model_name", "threads", "threads_batch", "gpu_layers")
    chosen = {name: getattr(plan, name) for name in names}
    how = {name: getattr(plan.setup, name) for name in ("context", "batch", "ubatch", "repack")}
    return chosen | how | {"checkpoints": CHECKPOINTS} | asdict(address)


class LlamaCppRunning:
    """A worker that answers."""

    def __init__(self, plan: Plan, process: EngineProcess, silence_seconds: float) -> None:
        self.plan = plan
        self.pid = process.pid
        self._process = process
        self._silence_seconds = silence_seconds
        self._http: httpx2.AsyncClient | None = None

    @property
    def http(self) -> "httpx2.AsyncClient":
        """The one client for this worker's socket."""
        import httpx2

        if self._http is None:
            address = self._process.address
            self._http = httpx2.AsyncClient(
                transport=httpx2.AsyncHTTPTransport(uds=address.socket or None),
                base_url=address.base_url,
                headers={"Connection": "close"}
                | ({"Authorization": f"Bearer {address.key}"} if address.key else {}),
                timeout=httpx2.Timeout(10.0, read=self._silence_seconds),
                # A connection each: the server drops idle ones without a word, and closing
                # one is how an answer is cancelled.
                limits=httpx2.Limits(max_keepalive_connections=0),
                trust_env=False,
            )
        return self._http

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        """Answer piece by piece; closing the iterator cancels the answer."""
        finished = False
        async with self._guarded():
            async with self.http.stream(
                "POST", "/v1/chat/completions", json=body_of(request)
            ) as response:
                if response.status_code != 200:
                    error = refusal(_json(await response.aread()), response.status_code)
                    if request.schema and isinstance(error, EngineError | UserError):
                        raise UserError("The engine cannot use this schema.", error.because)
                    raise error
                events, pieces = EventStream(), Pieces(top=request.logprobs)
                async for chunk in response.aiter_raw():
                    for data in events.feed(chunk):
                        if data == "[DONE]":
                            finished = True
                            break
                        yield pieces.read(data)
            if not finished:
                raise await self._process.failure("The engine stopped in the middle of its answer.")

    async def count_tokens(self, request: ChatRequest) -> int:
        """Tokens of the request after the model's chat template."""
        body = body_of(request)
        async with self._guarded():
            shaped = await self._post("/apply-template", {"messages": body["messages"]})
            text = shaped["prompt"]
            answer = await self._post(
                "/tokenize", {"content": text, "add_special": True, "parse_special": True}
            )
        return len(answer["tokens"])

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        response = await self.http.post(path, json=body)
        if response.status_code != 200:
            raise refusal(_json(response.content), response.status_code)
        return response.json()

    @asynccontextmanager
    async def _guarded(self) -> AsyncIterator[None]:
        """Turn what a broken connection means into an error with the cause in words."""
        import httpx2

        try:
            yield
        except httpx2.ReadTimeout:
            await self.stop()
            raise EngineError(
                "The engine went silent and was stopped.",
                f"Nothing came from it for {self._silence_seconds:.0f} seconds.",
                "Ask again to start it anew; a very slow machine may need"
                " SNUGLY_ENGINE_SILENCE_SECONDS.",
            ) from None
        except ValueError as error:  # an event without end
            await self.stop()
            raise EngineError("The engine's answer cannot be read.", f"{error}.") from error
        except httpx2.TransportError:
            raise await self._process.failure(
                "The engine stopped while it was answering."
            ) from None

    def peak_bytes(self) -> int | None:
        """Peak resident memory of the worker so far."""
        return peak_bytes(self.pid)

    async def stop(self) -> None:
        """End the worker: TERM, then KILL."""
        try:
            if self._http is not None:
                await self._http.aclose()
        finally:
            await self._process.stop()


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return {"error": {"message": content[:200].decode(errors="replace")}}


def peak_bytes(pid: int, proc: Path = Path("/proc")) -> int | None:
    """Peak resident bytes of a process: VmHWM on Linux, what psutil knows elsewhere."""
    if proc.is_dir():
        try:
            status = (proc / str(pid) / "status").read_text()
        except OSError:
            return None
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        high = fields.get("VmHWM")
        return int(high.split()[0]) * 1024 if high else None
    import psutil

    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return None
    # Windows tells the peak; macOS only the present.
    return int(getattr(memory, "peak_wset", memory.rss))
