"""The nouns of a machine. Every fact carries where it came from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Origin(StrEnum):
    """Where a fact came from."""

    PROBED = "probed"  # read from the operating system or a vendor tool
    MEASURED = "measured"  # timed on this machine
    ASSUMED = "assumed"  # a stated default, because nothing better could be had
    UNKNOWN = "unknown"  # could not be had; `how` says why


@dataclass(frozen=True, slots=True)
class Fact(Generic[T]):
    """A value, where it came from, and by what means.

    `value` is None exactly when `origin` is UNKNOWN; then `how` gives the reason
    ("nvidia-smi is not installed").
    """

    value: T | None
    origin: Origin
    how: str

    def __post_init__(self) -> None:
        if (self.value is None) != (self.origin is Origin.UNKNOWN):
            raise ValueError(f"a fact has a value exactly when it is known: {self!r}")

    def or_else(self, default: T) -> T:
        """Return the value, or `default` when it is unknown."""
        return default if self.value is None else self.value


def probed(value: T, how: str) -> Fact[T]:
    """Read from the operating system or a vendor tool named in `how`."""
    return Fact(value, Origin.PROBED, how)


def measured(value: T, how: str) -> Fact[T]:
    """Timed on this machine by the method named in `how`."""
    return Fact(value, Origin.MEASURED, how)


def assumed(value: T, why: str) -> Fact[T]:
    """Take a stated default for the reason in `why`."""
    return Fact(value, Origin.ASSUMED, why)


def unknown(why: str) -> Fact[T]:
    """Could not be had, for the reason in `why`."""
    return Fact(None, Origin.UNKNOWN, why)


NOT_TOLD: Fact[Any] = unknown("not told")


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor: counts are cores and threads of this machine.

    Caches are bytes over the whole machine; where the source tells those of one core or one
    socket only (old lscpu, sysctl), `how` says so.
    """

    model: Fact[str]
    architecture: Fact[str]  # "x86_64" or "arm64", whatever the system calls it
    sockets: Fact[int]
    physical_cores: Fact[int]
    logical_cores: Fact[int]
    performance_cores: Fact[int]
    efficiency_cores: Fact[int]
    usable_cores: Fact[float]  # what affinity and cgroup quota leave us; may be fractional
    instructions: Fact[tuple[str, ...]]  # of those that matter, names as in `cpu.INSTRUCTIONS`
    l1d_bytes: Fact[int]
    l2_bytes: Fact[int]
    l3_bytes: Fact[int]
    load: Fact[float]  # busy cores right now, 0.0 .. logical_cores
    numa_nodes: Fact[int] = NOT_TOLD
    # By data sheet, of the memory it reads and of all its cores; `Rates` has what was measured.
    bandwidth_bytes_per_s: Fact[float] = NOT_TOLD
    f32_flops: Fact[float] = NOT_TOLD
    int8_ops: Fact[float] = NOT_TOLD


@dataclass(frozen=True, slots=True)
class Memory:
    """RAM in bytes. `total` and `available` respect the cgroup we live in."""

    total_bytes: Fact[int]
    available_bytes: Fact[int]
    swap_total_bytes: Fact[int]
    swap_free_bytes: Fact[int]
    cgroup_limit_bytes: Fact[int]  # unknown, with the reason, when there is no limit
    installed_bytes: Fact[int] = NOT_TOLD  # memory modules; more than the system may use


class GpuKind(StrEnum):
    """Whether a GPU has its own memory."""

    DISCRETE = "discrete"
    INTEGRATED = "integrated"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, or one MIG instance of it. Bytes are what it may allocate.

    A GPU that is cut into MIG instances is listed too, with `partitioned` true: it is no
    place for bytes itself, its instances are.
    """

    vendor: str  # "nvidia", "amd", "intel", "apple", or "unknown"
    index: int  # the vendor's own index
    name: Fact[str]
    kind: Fact[GpuKind]
    total_bytes: Fact[int]
    free_bytes: Fact[int]
    unified: Fact[bool]  # shares its memory with the CPU
    driver: Fact[str]
    compute_capability: Fact[str]  # NVIDIA: "8.9"
    utilization: Fact[float]  # 0.0 .. 1.0
    mig: str = ""  # profile of a MIG instance, such as "1g.10gb"; empty for a whole GPU
    mig_index: int = -1  # the vendor's number of the instance within its GPU
    partitioned: Fact[bool] = NOT_TOLD  # cut into MIG instances
    used_bytes: Fact[int] = NOT_TOLD
    bus: Fact[str] = NOT_TOLD  # PCI address, "0000:01:00.0"
    architecture: Fact[str] = NOT_TOLD  # "Ampere", "gfx1151"
    cores: Fact[int] = NOT_TOLD  # the vendor's own unit: Apple GPU cores, Intel EUs, MIG's SMs
    runtime: Fact[str] = NOT_TOLD  # CUDA or HIP version that the driver serves
    carveout_bytes: Fact[int] = NOT_TOLD  # AMD: VRAM; of an APU the part of RAM set aside
    gtt_bytes: Fact[int] = NOT_TOLD  # AMD: system memory that the GPU may map
    bandwidth_bytes_per_s: Fact[float] = NOT_TOLD  # of its memory, by data sheet
    f16_flops: Fact[float] = NOT_TOLD  # by data sheet, with matrix units where it has them
    int8_ops: Fact[float] = NOT_TOLD  # by data sheet

    @property
    def label(self) -> str:
        """A short name: "GPU 0", "GPU 0 MIG 2 1g.10gb"."""
        return f"GPU {self.index}" + (f" MIG {self.mig_index} {self.mig}" if self.mig else "")


@dataclass(frozen=True, slots=True)
class Npu:
    """A neural processing unit."""

    vendor: str
    name: Fact[str]
    driver: Fact[str]


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk under the model store."""

    path: str
    free_bytes: Fact[int]
    total_bytes: Fact[int]
    spins: Fact[bool]


@dataclass(frozen=True, slots=True)
class Platform:
    """The operating system and what it runs in."""

    system: Fact[str]  # "Linux", "Darwin", "Windows"
    release: Fact[str]
    wsl: Fact[str]  # "wsl1" or "wsl2"; unknown, with the reason, when not in WSL
    container: Fact[str]  # "docker", "podman", "kubernetes", "lxc", ...
    notebook: Fact[str]  # "colab", "kaggle", "jupyter"
    board: Fact[str]  # "Raspberry Pi 5 Model B", "NVIDIA Jetson Orin Nano", a laptop's name


@dataclass(frozen=True, slots=True)
class Kernel:
    """How fast the engine's own matrix product is for one tensor type, on so many threads.

    Attention stands here too, as type "ATTENTION64" and "ATTENTION128" by the width of a
    head: both rates are then operations per second, of one query and of many.
    """

    threads: int
    ggml_type: str
    repacked: bool  # in the layout that the engine makes of it in RAM
    read_bytes_per_s: float  # weights out of memory, times one vector
    ops_per_s: float  # weights in cache, times many vectors; a multiply-add is two


@dataclass(frozen=True, slots=True)
class Rates:
    """What `--measure` found. Rates are per second; bandwidth is by thread count.

    `layer_seconds` is what a layer costs beside its weights, by thread count: many small
    operations, and threads that wait for each other after each. Empty where the engine's
    library has no such kernels for this processor.
    """

    bandwidth_bytes_per_s: tuple[tuple[int, Fact[float]], ...]  # (threads, rate), ascending
    f32_flops: Fact[float]
    int8_ops: Fact[float]
    disk_read_bytes_per_s: Fact[float]
    taken_at: str  # ISO 8601, UTC
    load_then: float  # busy cores when it was taken
    seconds: float  # how long measuring took
    kernels: tuple[Kernel, ...] = ()
    layer_seconds: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What one output of one tool told. None and () mean: nothing about that."""

    tool: str  # "lscpu", "nvidia-smi -q -x", ...
    section: str = ""  # the heading it stood under in its file
    cpu: Cpu | None = None
    memory: Memory | None = None
    gpus: tuple[Gpu, ...] = ()
    npus: tuple[Npu, ...] = ()
    platform: Platform | None = None
    remarks: tuple[str, ...] = ()  # what could not be read, or must be known to use it


@dataclass(frozen=True, slots=True)
class Capture:
    """The readings found in one file of captured output, in the file's order."""

    name: str
    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class Pool:
    """Memory that a plan may fill: one per place where bytes can live."""

    name: str  # "RAM", "GPU 0", "unified"
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything known about one box."""

    cpu: Cpu
    memory: Memory
    gpus: tuple[Gpu, ...]
    npus: tuple[Npu, ...]
    disk: Disk
    platform: Platform
    missing: tuple[Fact[str], ...]  # tools that could not be asked, each with its reason
    rates: Rates | None = None

    @property
    def ram(self) -> Pool:
        """Main memory as a pool; unknown amounts count as nothing free."""
        return Pool(
            "RAM", self.memory.total_bytes.or_else(0), self.memory.available_bytes.or_else(0)
        )

    @property
    def gpus_with_memory(self) -> tuple[Gpu, ...]:
        """GPUs that have memory of their own, by vendor and index: the pools after RAM.

        A GPU that shares the RAM is none, nor is one that is cut into MIG instances (each
        instance is).
        """
        own = (
            gpu
            for gpu in self.gpus
            if not gpu.unified.or_else(False) and not gpu.partitioned.or_else(False)
        )
        return tuple(sorted(own, key=lambda gpu: (gpu.vendor, gpu.index, gpu.mig_index)))

    @property
    def pools(self) -> tuple[Pool, ...]:
        """RAM first, then each GPU that has memory of its own. Names are unique."""
        own = self.gpus_with_memory
        vendors = {gpu.vendor for gpu in own}
        names: dict[str, int] = {}
        pools = [self.ram]
        for gpu in own:
            name = gpu.label + (f" {gpu.vendor}" if len(vendors) > 1 else "")
            names[name] = names.get(name, 0) + 1
            if names[name] > 1:  # two captures of different boxes, shown together
                name += f" #{names[name]}"
            pools.append(Pool(name, gpu.total_bytes.or_else(0), gpu.free_bytes.or_else(0)))
        return tuple(pools)

    def with_free(self, free_bytes: Mapping[str, int], how: str) -> "Machine":
        """The same box with other amounts free, by the names of its pools.

        `how` says where the amounts come from. Pools that are not named stay as they are.
        """
        names = [pool.name for pool in self.pools[1:]]
        changed = {
            id(gpu): replace(gpu, free_bytes=assumed(free_bytes[name], how))
            for name, gpu in zip(names, self.gpus_with_memory, strict=True)
            if name in free_bytes
        }
        memory = self.memory
        if (ram := free_bytes.get(self.ram.name)) is not None:
            memory = replace(memory, available_bytes=assumed(ram, how))
        gpus = tuple(changed.get(id(gpu), gpu) for gpu in self.gpus)
        return replace(self, memory=memory, gpus=gpus)
