"""Fit the coefficients of the speed prediction on bench/data/speeds.csv, and judge them.

    python scripts/fit_speed.py            fit, leave each device out in turn, print residuals
    python scripts/fit_speed.py --write    and write src/snugly/plan/speed_table.json

A prediction is a sum of terms (`snugly.plan.speed_terms`), each times a coefficient that is
not negative. Each backend has its own, drawn to what all GPU backends share, which is drawn
to PRIOR: so a backend of which little is known behaves like the others. What is made small
is the sum of |ln(predicted / measured)|, by weighted least squares in rounds; a device counts
with the root of its number of rows.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "src" / "snugly" / "plan" / "speed_table.json"
sys.path.insert(0, str(ROOT / "bench"))

from speed_rows import Row, base, rows  # noqa: E402

from snugly.plan.speed_prices import rates_of  # noqa: E402
from snugly.plan.speed_terms import (  # noqa: E402
    DECODE,
    FAMILIES,
    FILL,
    PREFILL,
    attention_ops,
    cache_row,
    cache_term,
    decode_terms,
    experts_share,
    fill_term,
    flow_term,
    is_mixture,
    overlap,
    prefill_terms,
    read_term,
    touched,
    weights_in,
)

Array = NDArray[np.float64]
Theta = dict[str, Array]

# What coefficients are drawn to: times over the data sheet's rate, then microseconds. Rough
# values out of the rows themselves and of llama.cpp's kernels: about 10 vector operations to
# unpack a weight of 4 bits, matrix units used to a third, some 15 us per layer of launches;
# a micro-batch filled up with 128 tokens more. The last four of prompts are for rows of old
# builds alone, a plan's engine is new: the share by which matrices and attention took longer for
# each year that the engine is older; matrices that go over the memory bus in f16 (COPIED), at the
# price of all weights that do; and the share by which AMD's dense quantized products by Vulkan took
# longer until January 2026 (llama.cpp pull request 18749: 1.36 to 1.76 times by RADV on the 8060S,
# and the RX 9060 XT gained too).
PRIOR = {
    "decode": (1.15, 1.6, 6, 6, 10, 14, 20, 1.5, 3, 12, 30, 100),
    "prefill": (2.2, 2.8, 0.4, 0.6, 2.8, 4, 1.2, 5, 10, 40, 1, 1, 1.2, 0.3, 0.3, 1.2, 0.5),
}
# A GPU unpacks a tile once for 64 tokens and more, a processor's dot product for each token: as in
# answers, where PRIOR has low and grid types at 1.4 and 2 times the others' operations.
# It multiplies f16 in f32, at 0.4 of what it reaches in 4 to 6 bits (`snugly machine --measure` on
# a Zen 5: 62 against 123 to 167 GFLOPS a core); and its kernels take at most 16 columns at a time
# (ggml-cpu.c), of which half are wasted at the end.
ON_CPU = {"low": 0.4 * 2.8, "grid": 2.8, "float": 2.8 / 0.4, "fill": 8 / FILL}
# What grew faster with the engine: matrices in f16 go to the makers' own libraries.
DENSE, LOOKING = ("quant", "low", "grid", "flat"), ("attention", "plain")
MATRICES = (*DENSE, "experts", "fill")
# Where dense quantized matrices were written to memory in f16 and multiplied by the maker's library
# (from 33 or 64 tokens on), and how old an engine is that did so: CUDA until June 2024 (llama.cpp
# pull requests 7676, 7860), ROCm on RDNA 3 until December 2025 (17576). Routed experts are not
# counted: few tokens of a micro-batch meet any one of them.
COPIED = {"cuda": 1.9, "rocm": 0.3}
COPY = 2 * 2  # bytes of a weight, written and read
AMD_TUNED = 0.25  # years before the newest rows: pull request 18749
BATCH = 2048  # llama-bench's, and Snugly's
TO_SHARED, TO_PRIOR = 1.5, 1.5  # how strongly a coefficient is drawn
# Processors half as strongly: two devices stand against PRIOR, which was made for GPUs.
TO_CPU = 0.5
ROUNDS, SWEEPS = 25, 60
LEAST = 0.02  # of its prior
CLOSE = 0.03  # errors below this count as equal
# Rows of one device are alike, so quantiles over rows are too narrow for a new device. Widened so
# that of devices left out 80% lie inside (`bench/speed_accuracy.py` prints the share).
WIDER = {"decode": 1.1, "prefill": 1.2}
FEW = 30  # rows of one backend, below which its spread is that of all


def decode_features(row: Row) -> Array:
    """Terms of one token of the answer."""
    build, rates = row.build, rates_of(row.processor)
    share = experts_share(build)
    found: dict[int, Array] = {}
    total = np.array(decode_terms(build.output, rates))
    for layer in build.weights:
        if id(layer) not in found:
            terms = np.array(decode_terms(layer.dense, rates))
            if layer.experts:
                terms = terms + np.array(decode_terms(layer.experts, rates, share))
            found[id(layer)] = terms
        total = total + found[id(layer)]
    depth = row.answer_depth
    cache = sum(2 * cache_row(layer) * min(depth, layer.window or depth) for layer in build.layers)
    total[DECODE.index("cache" if row.flash_attention else "plain")] = cache / rates.bandwidth
    total[DECODE.index("layer")] = len(build.weights) * 1e-6
    total[DECODE.index("mixture")] = sum(map(is_mixture, build.weights)) * 1e-6
    total[DECODE.index("hop")] = (row.count - 1) * 1e-6
    return total


def prefill_features(row: Row) -> Array:
    """Terms of the whole prompt, over its tokens."""
    build, rates, tokens = row.build, rates_of(row.processor), row.prompt
    share, batches = experts_share(build), -(-tokens // row.ubatch)
    part = touched(share, min(tokens, row.ubatch))
    found: dict[int, tuple[Array, float, float]] = {}
    total, read = np.zeros(len(PREFILL)), read_term(build.output, rates)
    fill = fill_term(build.output, rates)
    for layer in build.weights:
        if id(layer) not in found:
            terms = np.array(prefill_terms(layer.dense, rates))
            once = read_term(layer.dense, rates) + part * read_term(layer.experts, rates)
            more = fill_term(layer.dense, rates) + part * fill_term(layer.experts, rates)
            if layer.experts:
                terms = terms + np.array(prefill_terms(layer.experts, rates, share))
            found[id(layer)] = terms, once, more
        total = total + tokens * found[id(layer)][0]
        read += found[id(layer)][1]
        fill += found[id(layer)][2]
    total[PREFILL.index("read")] = batches * read
    total[PREFILL.index("fill")] = batches * fill
    flow = len(build.weights) * flow_term(build.embedding_length, rates)
    total[PREFILL.index("flow")] = tokens * flow
    mean = row.prompt_depth + tokens / 2
    look = sum(attention_ops(build, it) * min(mean, it.window or mean) for it in build.layers)
    place = PREFILL.index("attention" if row.flash_attention else "plain")
    total[place] = tokens * look / rates.matrix
    if row.flash_attention:
        looked = sum(cache_row(it) * min(mean, it.window or mean) for it in build.layers)
        total[PREFILL.index("cache")] = tokens * cache_term(looked, rates)
    total[PREFILL.index("layer")] = batches * len(build.weights) * 1e-6
    return overlap(batches, row.count, BATCH // row.ubatch) * total / tokens


def aged(row: Row) -> Array:
    """Terms of the whole prompt, over its tokens, and of them what an old engine makes slow."""
    total = prefill_features(row)
    prior = dict(zip(PREFILL, PRIOR["prefill"], strict=False))
    copied = copies(row)
    if copied:  # a product in f16, which does not age
        rates = rates_of(row.processor)
        flat, quant = PREFILL.index("flat"), PREFILL.index("quant")
        dense = total[quant] + total[flat] * rates.flat / rates.matrix
        total[PREFILL.index("float")] += dense
        total[[PREFILL.index(name) for name in DENSE]] = 0.0
    here = row.kind == "vulkan" and "Radeon" in row.device and "amdvlk" not in row.row["backend"]
    untuned = here and row.age > AMD_TUNED

    def slow(names: Sequence[str], years: float) -> float:
        return years * sum(prior[name] * total[PREFILL.index(name)] for name in names)

    old = slow(MATRICES, row.age), slow(LOOKING, row.age), copied, slow(DENSE, float(untuned))
    return np.append(total, old)


def copies(row: Row) -> float:
    """Seconds of a token in which dense quantized matrices go to memory in f16 and come back."""
    if row.kind not in COPIED or row.age < COPIED[row.kind]:
        return 0.0
    counts = Counter(id(layer) for layer in row.build.weights)
    layers = {id(layer): weights_in(layer.dense) for layer in row.build.weights}
    weights = sum(
        counts[key] * (sum(found[name] for name in FAMILIES) - found["float"])
        for key, found in layers.items()
    )
    batches = -(-row.prompt // row.ubatch)
    seconds = batches * COPY * weights / rates_of(row.processor).bandwidth
    return overlap(batches, row.count, BATCH // row.ubatch) * seconds / row.prompt


def solve(x: Array, kinds: Sequence[str], y: Array, weights: Array, prior: Array) -> Theta:
    """Coefficients by backend and "shared"; processors share nothing with GPUs."""
    cpu = np.array([kind == "cpu" for kind in kinds])
    found: Theta = {}
    for part in (~cpu, cpu):
        if part.any():
            names = [kind for kind, is_in in zip(kinds, part, strict=True) if is_in]
            own = prior.copy()
            if names[0] == "cpu" and len(prior) == len(PRIOR["prefill"]):
                own[[PREFILL.index(name) for name in ON_CPU]] = list(ON_CPU.values())
            found |= _solve(x[part], names, y[part], weights[part], own)
    if cpu.all():
        found["shared"] = prior
    return found


def _solve(x: Array, kinds: list[str], y: Array, weights: Array, prior: Array) -> Theta:
    names = sorted(set(kinds))
    terms, blocks = len(prior), len(names) + 1
    a = np.zeros((len(y), terms * blocks))
    for i, kind in enumerate(kinds):
        start = (names.index(kind) + 1) * terms
        a[i, start : start + terms] = x[i] * prior / y[i]
    pull, pulled, strength = _pulls(terms, blocks, TO_CPU if names == ["cpu"] else 1.0)
    z = np.ones(terms * blocks)
    counts = weights.copy()
    for number in range(ROUNDS):
        if number:
            ratio = a @ z
            counts = weights / (np.maximum(ratio, 0.02) * np.maximum(np.abs(ratio - 1), CLOSE))
        m = (a * counts[:, None]).T @ a + (pull * strength[:, None]).T @ pull
        b = a.T @ counts + pull.T @ (strength * pulled)
        z = _least_squares(m, b)
    theta = z.reshape(blocks, terms) * prior
    shared = "cpu" if names == ["cpu"] else "shared"
    return {shared: theta[0]} | {name: theta[i + 1] for i, name in enumerate(names)}


def _least_squares(m: Array, b: Array) -> Array:
    """Where z'mz / 2 - b'z is least with every z at LEAST or above: first guess which are at it."""
    low = np.zeros(len(b), dtype=bool)
    z = np.full(len(b), LEAST)
    for _ in range(SWEEPS):
        free = ~low
        z = np.full(len(b), LEAST)
        rest = b[free] - LEAST * m[np.ix_(free, low)].sum(axis=1)
        z[free] = np.linalg.solve(m[np.ix_(free, free)], rest)
        now = np.where(low, m @ z > b, z < LEAST)
        if (now == low).all():
            break
        low = now
    return np.maximum(z, LEAST)


def _pulls(terms: int, blocks: int, times: float) -> tuple[Array, Array, Array]:
    """Equations that draw what is shared to 1 (the prior), and each backend to what is shared."""
    rows_, wanted, strength = [], [], []
    for j in range(terms):
        one = np.zeros(terms * blocks)
        one[j] = 1
        rows_.append(one)
        wanted.append(1.0)
        strength.append(times * TO_PRIOR)
        for block in range(1, blocks):
            other = np.zeros(terms * blocks)
            other[block * terms + j], other[j] = 1, -1
            rows_.append(other)
            wanted.append(0.0)
            strength.append(times * TO_SHARED)
    return np.array(rows_), np.array(wanted), np.array(strength)


def weights_of(found: Sequence[Row]) -> Array:
    """A device with many rows counts more, but not as much more."""
    counts = Counter((base(row.device), row.kind) for row in found)
    return np.array([counts[base(row.device), row.kind] ** -0.5 for row in found])


def errors(x: Array, y: Array, found: Sequence[Row], theta: Theta) -> Array:
    """ln(measured time / predicted time) of each row."""
    return np.array(
        [
            np.log(y[i] / (x[i] @ theta.get(row.kind, theta["shared"])))
            for i, row in enumerate(found)
        ]
    )


def left_out(x: Array, y: Array, found: Sequence[Row], prior: Array) -> Array:
    """The errors, each device predicted from all the others. One's multiples go with it."""
    devices = np.array([base(row.device) for row in found])
    weights, result = weights_of(found), np.zeros(len(y))
    for device in sorted(set(devices)):
        others = devices != device
        kinds = [row.kind for row, is_in in zip(found, others, strict=True) if is_in]
        theta = solve(x[others], kinds, y[others], weights[others], prior)
        own = np.nonzero(~others)[0]
        result[own] = errors(x[own], y[own], [found[i] for i in own], theta)
    return result


def told(name: str, error: Array) -> str:
    """One line: how far off in tokens per second."""
    off = np.abs(np.exp(error) - 1)
    factor = np.exp(np.abs(error))
    return (
        f"{name:46}{len(error):6} rows   median |error| {np.median(off):6.1%}"
        f"   90% within factor {np.quantile(factor, 0.9):5.2f}"
        f"   measured/predicted {1 / np.exp(np.median(error)):5.2f}"
    )


PHASES: dict[str, tuple[tuple[str, ...], Callable[[Row], Array], Callable[[Row], float]]] = {
    "decode": (DECODE, decode_features, lambda row: row.decode_tps),
    "prefill": (PREFILL, aged, lambda row: row.prefill_tps),
}


def measured(
    phase: str, found: Sequence[Row], everything: bool = False
) -> tuple[list[Row], Array, Array]:
    """The rows that measured a phase, their features, and seconds per token.

    `everything`: those too whose prefill is set aside, but for the shortest prompts.
    """
    _, features, rate = PHASES[phase]
    own = [row for row in found if rate(row) > 0]
    if phase == "prefill":
        own = [r for r in own if not r.prefill_aside or (everything and r.prompt >= 64)]
    return own, np.array([features(row) for row in own]), np.array([1 / rate(row) for row in own])


def spread(error: Array, phase: str) -> list[float]:
    """Between which values of ln(measured time / predicted time) 80% lie; never less than 10%."""
    low, high = WIDER[phase] * np.quantile(error, (0.1, 0.9))
    return [round(min(float(low), -0.1), 3), round(max(float(high), 0.1), 3)]


def report(phase: str, found: Sequence[Row]) -> tuple[Theta, dict[str, list[float]]]:
    """Fit and judge one phase, print it; coefficients and spreads by backend."""
    names, *_ = PHASES[phase]
    own, x, y = measured(phase, found)
    prior = np.array(PRIOR[phase], dtype=float)
    theta = solve(x, [row.kind for row in own], y, weights_of(own), prior)
    told_names = (*names, *("old", "old look", "old copy", "old amd")[: len(prior) - len(names)])
    print(f"\n{phase}\n{'':9}" + "".join(f"{name:>10}" for name in told_names))
    for kind, values in theta.items():
        print(f"{kind:9}" + "".join(f"{value:10.2f}" for value in values))
    error = left_out(x, y, own, prior)
    print(told("in sample", errors(x, y, own, theta)))
    print(told("each device left out", error))
    places = [(base(row.device), row.kind) for row in own]
    for device, kind in sorted(set(places)):
        mask = np.array([place == (device, kind) for place in places])
        print(told(f"  {device[:36]} {kind}", error[mask]))
    kinds = np.array([row.kind for row in own])
    spreads = {"shared": spread(error[kinds != "cpu"], phase)}
    for kind in set(theta) - {"shared"}:
        enough = (kinds == kind).sum() >= FEW
        spreads[kind] = spread(error[kinds == kind], phase) if enough else spreads["shared"]
    return theta, spreads


def main() -> None:
    """Print; write the table when asked."""
    found, reasons = rows()
    print(f"{len(found)} rows are used; not used:")
    for reason, count in reasons.most_common():
        print(f"{count:6}  {reason}")
    for reason, count in Counter(row.prefill_aside for row in found if row.prefill_tps).items():
        print(
            f"{count:6}  prefill not used: {reason}" if reason else "", end="\n" if reason else ""
        )
    decode, decode_spread = report("decode", found)
    prefill, prefill_spread = report("prefill", found)
    if "--write" not in sys.argv[1:]:
        return
    old: dict[str, Any] = json.loads(TABLE.read_text("utf-8")) if TABLE.exists() else {}
    table = {
        "source": "python scripts/fit_speed.py --write, on bench/data/speeds.csv (sources there)",
        "kinds": {
            kind: {
                "decode": [round(float(v), 4) for v in decode[kind]],
                "prefill": [round(float(v), 4) for v in prefill[kind][: len(PREFILL)]],
                "prefill_aged": [round(float(v), 4) for v in prefill[kind][len(PREFILL) :]],
                "decode_spread": decode_spread[kind],
                "prefill_spread": prefill_spread[kind],
            }
            for kind in sorted(decode)
        },
        "kernels": old.get("kernels", {}),
    }
    TABLE.write_text(_lines(table), encoding="utf-8")


def _lines(table: dict[str, Any]) -> str:
    """JSON with one line per list of numbers."""
    text = json.dumps(table, indent=1)
    return (
        re.sub(r"\[\s+([^\[\]]*?)\s+\]", lambda m: "[" + " ".join(m[1].split()) + "]", text) + "\n"
    )


if __name__ == "__main__":
    main()
