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
class Estimate:
    """Bytes that a run will hold, by what they are for. They add up to `total_bytes`."""

    weights_bytes: int  # exact: the tensors of the file
    kv_bytes: int  # exact for full, grouped and sliding attention
    compute_bytes: int  # activations and logits
    overhead_bytes: int  # the engine itself: code, tokenizer, allocator

    @property
    def total_bytes(self) -> int:
        """Everything together."""
        return self.weights_bytes + self.kv_bytes + self.compute_bytes + self.overhead_bytes


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
    pool: str  # name of the pool that the bytes come from
    free_bytes: int  # what was free in that pool when the plan was made
    estimate: Estimate
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    """What does not fit, and the smallest change that would make it fit."""

    model_name: str
    needed_bytes: int
    free_bytes: int
    pool: str
    remedy: str
