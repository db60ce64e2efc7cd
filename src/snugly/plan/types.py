"""The nouns of planning."""

from dataclasses import dataclass

from snugly.machine.types import Fact
from snugly.model.types import Build


@dataclass(frozen=True, slots=True)
class Need:
    """What the person wants. None leaves the choice to the plan.

    `context` is in tokens; `budget_bytes` caps memory below what is free.
    """

    context: int | None = None
    budget_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What a plan must know of the engine that will run it.

    `repacks` are the tensor types that the engine keeps a second, faster copy of.
    `offloads_to` is "metal" where the engine computes on the GPU, else empty.
    """

    name: str
    code_bytes: int  # resident before any model is loaded
    repacks: frozenset[str] = frozenset()
    offloads_to: str = ""
    device_bytes: int = 0  # on each GPU before any model: its context, kernels, work space
    device_ram_bytes: int = 0  # in RAM for each GPU: the driver's share of our process
    gateway_bytes: int = 0  # our own process beside the engine's


@dataclass(frozen=True, slots=True)
class Estimate:
    """Peak resident bytes of a run, by what they are for; they add up to `total_bytes`."""

    weights_bytes: int  # exact: the tensors of the file
    repack_bytes: int  # exact: second copy of the tensors that the engine lays out anew
    kv_bytes: int  # exact for full, grouped, sliding and latent attention
    compute_bytes: int  # activations and masks of one micro-batch
    overhead_bytes: int  # the engine's code, tokenizer and allowance

    @property
    def total_bytes(self) -> int:
        """Everything together."""
        return (
            self.weights_bytes
            + self.repack_bytes
            + self.kv_bytes
            + self.compute_bytes
            + self.overhead_bytes
        )


@dataclass(frozen=True, slots=True)
class Setup:
    """How an engine is to hold its work: what the search varies beside the model itself."""

    context: int  # tokens of all sequences together
    n_seq: int = 1  # slots
    kv_type: str = "F16"  # of K
    v_type: str | None = None  # of V; None: as K
    batch: int = 2048
    ubatch: int = 512
    repack: bool = True  # of what stays in RAM
    flash_attention: bool = True


@dataclass(frozen=True, slots=True)
class Placement:
    """Which layers live where. The default is everything in RAM, computed by the CPU.

    `gpu_layers` counts, per GPU in the order of `Machine.pools[1:]`, the layers it holds;
    as in llama.cpp the last layers go to GPUs, and the output head is one layer more, so
    the sum is at most layers + 1. Of the first `cpu_experts` layers that lie on a GPU the
    routed experts stay in RAM (`--n-cpu-moe`). `kv_on_gpu` False keeps all caches in RAM.
    """

    gpu_layers: tuple[int, ...] = ()
    cpu_experts: int = 0
    kv_on_gpu: bool = True


@dataclass(frozen=True, slots=True)
class Extras:
    """What runs beside the model: nothing unless said.

    `projector_bytes` is the size of an mmproj file, `adapter_bytes` of LoRA files together.
    A drafter is placed whole where the last layer of the model is.
    """

    projector_bytes: int = 0
    adapter_bytes: int = 0
    draft: Build | None = None
    draft_setup: Setup | None = None


@dataclass(frozen=True, slots=True)
class PoolUse:
    """Bytes that a run takes of one pool, by what they are for."""

    pool: str
    weights_bytes: int = 0
    repack_bytes: int = 0
    kv_bytes: int = 0
    compute_bytes: int = 0
    extras_bytes: int = 0  # projector, draft model, adapters
    overhead_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """Everything together."""
        return (
            self.weights_bytes
            + self.repack_bytes
            + self.kv_bytes
            + self.compute_bytes
            + self.extras_bytes
            + self.overhead_bytes
        )


@dataclass(frozen=True, slots=True)
class Interval:
    """An expected value, and between which values four of five measurements fall."""

    low: float
    expected: float
    high: float


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a run will be. Rates in tokens per second, times in seconds."""

    decode_tps: Interval  # at depth 0
    prefill_tps: Interval  # of a prompt of one ubatch
    decode_tps_deep: Interval  # with the context full
    first_token_s: Interval  # for a prompt of `prompt_tokens`
    prompt_tokens: int
    load_s: Interval  # from disk, with a cold cache
    because: str  # what binds it, and where the rates come from


@dataclass(frozen=True, slots=True)
class Processor:
    """What computes, and the pool it reads: the CPU over RAM, a GPU over its memory.

    Rates are what the hardware can do at most (data sheet) or what was measured here;
    each fact says which.
    """

    pool: str
    kind: str  # "cpu", "cuda", "rocm", "vulkan", "sycl", "metal"
    name: str
    bandwidth_bytes_per_s: Fact[float]
    f16_flops: Fact[float]
    int8_ops: Fact[float]


@dataclass(frozen=True, slots=True)
class Plan:
    """How to run one model file: every figure the engine needs, and why."""

    model_path: str
    model_name: str
    context: int
    threads: int  # decode
    threads_batch: int  # prefill
    batch: int
    ubatch: int
    gpu_layers: int  # 0: CPU only
    repack: bool
    pool: str  # name of the pool that the bytes come from
    free_bytes: int  # what was free in that pool when the plan was made
    reserve_bytes: int  # what is left to the rest of the machine
    estimate: Estimate
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    """What does not fit, and the smallest change that would make it fit."""

    model_name: str
    needed_bytes: int
    free_bytes: int
    reserve_bytes: int
    pool: str
    remedy: str
