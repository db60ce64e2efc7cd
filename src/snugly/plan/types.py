"""The nouns of planning."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from snugly.machine.types import NOT_TOLD, Fact, Kernel, Pool
from snugly.model.build import weight_bytes
from snugly.model.types import Build, Outline
from snugly.plan.speculation_types import NO_SPECULATION, Speculation


@dataclass(frozen=True, slots=True)
class Need:
    """What the person wants. None leaves the choice to the plan.

    `task` is a name in `plan.tasks`; `context` in tokens, of all `n_seq` sequences together;
    `min_tps` the slowest decoding that is still good; `budget_bytes` caps what is taken of
    all pools together, below what is free.
    """

    context: int | None = None
    budget_bytes: int | None = None
    task: str = "chat"
    kv_type: str | None = None
    min_tps: float | None = None
    n_seq: int = 1


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What a plan must know of the engine that will run it.

    `repacks` are the tensor types that the engine keeps a second, faster copy of.
    `offloads_to` is the backend by which the engine computes on GPUs ("cuda", "rocm",
    "vulkan", "sycl", "metal"); empty: on the CPU alone.
    """

    name: str
    code_bytes: int  # resident before any model is loaded
    repacks: frozenset[str] = frozenset()
    offloads_to: str = ""
    device_bytes: int = 0  # on each GPU before any model: its context, kernels, work space
    device_ram_bytes: int = 0  # in RAM for each GPU: the driver's share of our process
    gateway_bytes: int = 0  # our own process beside the engine's
    # Whether kernels that were timed on the machine are those that it computes with, and not only
    # much like them: then they tell whether the copy is the faster way here.
    is_timed: bool = True


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
    each fact says which. `vector_flops` is f32 without matrix units. `kernels` and
    `layer_seconds` (of a layer beside its weights) are there where the engine's kernels were timed.
    """

    pool: str
    kind: str  # "cpu", "cuda", "rocm", "vulkan", "sycl", "metal"
    name: str
    bandwidth_bytes_per_s: Fact[float]
    f16_flops: Fact[float]
    int8_ops: Fact[float]
    vector_flops: Fact[float] = NOT_TOLD
    kernels: tuple[Kernel, ...] = ()
    layer_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """Peak bytes of a run, per pool and by what they are for."""

    uses: tuple[PoolUse, ...]

    def _sum(self, part: str) -> int:
        return sum(getattr(use, part) for use in self.uses)

    @property
    def weights_bytes(self) -> int:
        """Exact: the tensors of the file, and what the loader duplicates of them."""
        return self._sum("weights_bytes")

    @property
    def repack_bytes(self) -> int:
        """Exact: second copy of the tensors that the engine lays out anew."""
        return self._sum("repack_bytes")

    @property
    def kv_bytes(self) -> int:
        """Exact: caches and states of every kind of attention, and their snapshots."""
        return self._sum("kv_bytes")

    @property
    def compute_bytes(self) -> int:
        """Activations, masks and outputs of one micro-batch."""
        return self._sum("compute_bytes")

    @property
    def extras_bytes(self) -> int:
        """Projector, draft model, adapters."""
        return self._sum("extras_bytes")

    @property
    def overhead_bytes(self) -> int:
        """The engine's code, tokenizer and allowance."""
        return self._sum("overhead_bytes")

    @property
    def total_bytes(self) -> int:
        """Everything together."""
        return self._sum("total_bytes")


@dataclass(frozen=True)
class Candidate:
    """One build that could be run: how good it is, and what a person calls it.

    `make` gives the build, which is made once, when it is first looked at: of most models of
    the catalogue their outline tells enough.
    """

    make: Callable[[], Build]
    ref: str  # what `snugly run -m` takes
    quality: float  # of 100, for the task in hand, the loss by quantization taken off
    basis: str  # where that figure comes from
    model: str  # the same for all builds of one model
    file_type: str
    outline: Outline
    here: bool = False  # installed: nothing has to be fetched

    @property
    def file_bytes(self) -> int:
        """Bytes of the file."""
        return self.outline.file_bytes

    @cached_property
    def build(self) -> Build:
        """The model in this quantization."""
        return self.make()

    @cached_property
    def least_bytes(self) -> int:
        """Bytes of the weights: less than this it never takes."""
        return weight_bytes(self.build)


@dataclass(frozen=True, slots=True)
class Fit:
    """One way to run a candidate that fits: bytes per pool, and how fast it will be."""

    candidate: Candidate
    setup: Setup
    placement: Placement
    uses: tuple[PoolUse, ...]
    speed: Speed


@dataclass(frozen=True, slots=True)
class Plan:
    """How to run one model file: every figure the engine needs, and why."""

    model_path: str
    model_name: str
    setup: Setup
    placement: Placement
    threads: int  # decode
    threads_batch: int  # prefill
    gpu_layers: int  # of all GPUs together; 0: CPU only
    pools: tuple[Pool, ...]  # what the bytes come from, with what was free then
    reserves: tuple[int, ...]  # bytes left to the rest of the machine, per pool
    estimate: Estimate
    speed: Speed | None
    why: tuple[str, ...]
    # Experts of layers before this one are in RAM, counted from the model's first layer, as
    # llama.cpp names them (--n-cpu-moe); layers that lie in RAM as a whole come first.
    experts_until: int = 0
    # How often a thread looks whether the others are done before it sleeps; 0: as the house does.
    spin_rounds: int = 0
    speculation: Speculation = NO_SPECULATION
    projector: str = ""  # the file that lets it see; empty: it does not
    free_cores: int = 0  # that it was made for; 0: not told
    polite: bool = False  # with low priority

    @property
    def context(self) -> int:
        """Tokens of all sequences together."""
        return self.setup.context


@dataclass(frozen=True, slots=True)
class Change:
    """One change that would make a model fit."""

    words: str  # a whole clause: "a context of 24,576 tokens"
    flags: str  # the same for the command line: "--context 24576"; empty: not ours to make


@dataclass(frozen=True, slots=True)
class Rejected:
    """What does not fit, and the changes that would make it fit, the smallest first."""

    model_name: str
    needed_bytes: int
    pools: tuple[Pool, ...]
    budgets: tuple[int, ...]  # bytes that a plan may take, per pool
    changes: tuple[Change, ...]
