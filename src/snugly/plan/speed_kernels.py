"""Prices of a processor whose kernels were timed here. Pure.

Beside the types of tensors stand there what attention takes ("ATTENTION64" and "128", by the
width of a head), what it takes more for a cache in memory ("CACHE64" and "128") and what a row
of a matrix costs beside its bytes ("ROWS"): `snugly.machine.kernels` says how each is timed.
"""

from collections.abc import Callable, Iterable

from snugly.machine.types import Kernel
from snugly.model.types import Bytes
from snugly.plan.speed_prices import Looking, Prices, priced
from snugly.plan.speed_table import kernels
from snugly.plan.speed_terms import FAMILIES, bytes_per_weight, family, weights_in
from snugly.plan.types import Processor

_NO_TYPES = ("ATTENTION", "CACHE", "ROWS")
_TIMED_ROW = 2048  # weights in a row of the matrices that were timed (machine.kernels)
# The kernels that stand for types that were not timed, slowest of the family first.
_STANDS_FOR = {
    "float": ("F16",), "q8": ("Q8_0",), "k": ("Q5_0", "Q5_K", "Q4_K"),
    "low": ("Q3_K", "Q2_K"), "grid": ("IQ3_S", "IQ2_XXS", "Q3_K"),
}  # fmt: skip


Timed = dict[tuple[str, bool], Kernel]


def timed(processor: Processor, repack: bool) -> Prices:
    """By the engine's own kernels. `repack`: types are laid out anew where the engine can."""
    table = kernels()
    rates: Timed = {(k.ggml_type, k.repacked): k for k in processor.kernels}
    row = _row(rates)

    def kernel(type_name: str) -> Kernel:
        found = (repack and rates.get((type_name, True))) or rates.get((type_name, False))
        return found or _stand_in(type_name, processor.kernels)

    def token(part: Bytes, share: float | None) -> float:
        used = (1.0 if share is None else share) / table.read
        return used * sum(n * _byte(kernel(name), row) for name, n in part)

    def rows(part: Bytes) -> float:
        counted = ((name, n) for name, n in part if not kernel(name).repacked)
        return row / table.read * sum(n / bytes_per_weight(name) for name, n in counted)

    def prompt(part: Bytes, share: float | None) -> float:
        used = (1.0 if share is None else share) * 2 / table.ops
        return used * sum(
            weights_in(((name, n),))[family(name)] / kernel(name).ops_per_s for name, n in part
        )

    return Prices(
        priced(token),
        priced(prompt),
        lambda part: sum(n / kernel(name).read_bytes_per_s for name, n in part),
        rows,
        _looking(rates, kernel("F16"), processor.kernels[0].threads),
        0.0,
        table.layers * processor.layer_seconds,
        0.0,
        table.prompt_layers * processor.layer_seconds,
        0.0,
        table.decode_spread,
        table.prefill_spread,
    )


def _row(rates: Timed) -> float:
    """Seconds of a row beside its bytes."""
    found = rates.get(("ROWS", False))
    return 1 / found.read_bytes_per_s if found else 0.0


def _byte(kernel: Kernel, row: float) -> float:
    """Seconds per byte of rows without end. Half of what was timed at the least.

    What is laid out anew is dealt to the threads in whole parts, so its rows cost nothing.
    """
    whole = 1 / kernel.read_bytes_per_s
    if kernel.repacked:
        return whole
    return max(whole / 2, whole - row / (_TIMED_ROW * bytes_per_weight(kernel.ggml_type)))


def _looking(rates: Timed, half: Kernel, threads: int) -> Looking:
    table = kernels()
    head, op = _attention(rates, lambda k: k.read_bytes_per_s)
    prompt_head, prompt_op = _attention(rates, lambda k: k.ops_per_s)
    caches = [rates.get((f"CACHE{width}", False), half) for width in (64, 128)]
    narrow, wide = (table.cache / cache.read_bytes_per_s for cache in caches)
    return Looking(
        narrow, wide, table.attention * head, table.attention * op,
        table.prompt_attention * prompt_head, table.prompt_attention * prompt_op, 0.0, threads,
    )  # fmt: skip


def _attention(rates: Timed, rate: Callable[[Kernel], float]) -> tuple[float, float]:
    """(seconds per head and position, per operation), from heads of two widths.

    A head of width w takes 4 w operations per position.
    """
    found = [rates.get((f"ATTENTION{width}", False)) for width in (64, 128)]
    if found[0] is None or found[1] is None:
        half = rates.get(("F16", False))
        return 0.0, 1 / half.ops_per_s if half else 1e-10
    narrow, wide = 256 / rate(found[0]), 512 / rate(found[1])
    slope = max(0.0, wide - narrow) / 256
    return max(0.0, narrow - 256 * slope), slope


def _stand_in(type_name: str, timed: Iterable[Kernel]) -> Kernel:
    weights = [kernel for kernel in timed if not kernel.ggml_type.startswith(_NO_TYPES)]
    plain = {kernel.ggml_type: kernel for kernel in weights if not kernel.repacked}
    wanted = family(type_name)
    order = (*_STANDS_FOR[wanted], *(n for name in FAMILIES for n in _STANDS_FOR[name]))
    found = next((plain[name] for name in order if name in plain), None)
    return found or min(weights, key=lambda kernel: kernel.read_bytes_per_s)
