"""The nouns of planning."""

from dataclasses import dataclass


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
