"""How far off predicted speeds are, on measured ones of other people's machines.

    python bench/speed_accuracy.py [ROWS.csv]

Without a file: bench/data/speeds.csv, each device predicted by coefficients fitted on all
others (`scripts/fit_speed.py`). With one: by the table as it is, for rows it has not seen.
Beside it, on the same rows, llmfit's published formula, and what share falls into our 80%
intervals. The rows that cannot be used are counted by reason.
"""

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from fit_speed import PHASES, PRIOR, TABLE, errors, left_out, measured, spread, told
from speed_rows import BITS, Row, active_bytes, base, rows

from snugly.plan.speed_table import coefficients
from snugly.plan.speed_terms import DECODE, PREFILL

# llmfit 0.9 (MIT), llmfit-core/src/fit.rs, estimate_tps at commit 00c461ff: bandwidth over
# bytes of the active parameters, times 0.55; without a known bandwidth a constant per backend
# over billions of parameters, which for processors is 70 (90 on arm64), 1.1 times for 8 cores.
LLMFIT_EFFICIENCY, LLMFIT_CPU, LLMFIT_MANY = 0.55, {"x86": 70.0, "arm": 90.0}, 1.1


def llmfit(row: Row) -> float:
    """ln(measured time / predicted time) of llmfit's formula, its sizes taken as ours."""
    active = active_bytes(row.build)
    if row.kind == "cpu":
        arm = "Snapdragon" in row.device
        billions = active * 8 / BITS.get(row.quant.removeprefix("UD-"), 4.9) / 1e9
        rate = LLMFIT_CPU["arm" if arm else "x86"] * LLMFIT_MANY / max(0.1, billions)
    else:
        rate = (row.processor.bandwidth_bytes_per_s.value or 0.0) / active * LLMFIT_EFFICIENCY
    return float(np.log(rate / row.decode_tps))


def ours(
    phase: str, path: Path | None, found: list[Row], everything: bool = False
) -> tuple[list[Row], np.ndarray]:
    """The rows of a phase and our errors."""
    own, x, y = measured(phase, found, everything)
    if path is None:
        return own, left_out(x, y, own, np.array(PRIOR[phase], dtype=float))
    names = DECODE if phase == "decode" else PREFILL
    theta = {}
    kinds = json.loads(TABLE.read_text("utf-8"))["kinds"]
    for kind in {row.kind for row in own} | {"shared"}:
        table = getattr(coefficients(kind), phase)
        old = kinds.get(kind, kinds["shared"]).get(f"{phase}_aged", [])
        theta[kind] = np.array([*(table[name] for name in names), *old])
    return own, errors(x, y, own, theta)


def inside(phase: str, own: list[Row], error: np.ndarray, path: Path | None) -> float:
    """Share of rows within our 80% interval, a left-out device's interval from the others."""
    hits = []
    for i, row in enumerate(own):
        low, high = getattr(coefficients(row.kind), f"{phase}_spread")
        hits.append(low <= error[i] <= high)
    if path is None:
        hits = []
        devices = np.array([base(row.device) for row in own])
        cpu = np.array([row.kind == "cpu" for row in own])
        for device in sorted(set(devices)):
            for part in (cpu, ~cpu):
                mine, others = (devices == device) & part, (devices != device) & part
                if mine.any() and others.sum() >= 10:
                    low, high = spread(error[others], phase)
                    hits += list((low <= error[mine]) & (error[mine] <= high))
    return float(np.mean(hits))


def set_aside(path: Path | None, found: list[Row]) -> None:
    """Print which prompts are set aside and why, and the errors with them."""
    for reason, count in Counter(r.prefill_aside for r in found if r.prefill_tps).items():
        if reason:
            print(f"  {count} rows set aside: {reason}")
        if "HIP" in reason:
            back = [replace(r, prefill_aside="") if r.prefill_aside == reason else r for r in found]
            print(told("  with those", ours("prefill", path, back)[1]))
    print(told("Snugly, with all set aside", ours("prefill", path, found, everything=True)[1]))
    if path is None:
        own, x, y = measured("prefill", found)
        x[:, -1] = 0.0  # "old amd", whose prior comes from a Strix Halo too
        error = left_out(x, y, own, np.array(PRIOR["prefill"], dtype=float))
        print(told("Snugly, AMD's old tiles by Vulkan not told", error))


def main() -> None:
    """Print all of it."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    found, reasons = rows(path) if path else rows()
    print(f"{len(found)} of {len(found) + sum(reasons.values())} rows can be used; the others:")
    for reason, count in reasons.most_common():
        print(f"{count:6}  {reason}")
    for phase in PHASES:
        own, error = ours(phase, path, found)
        print(f"\n{phase}" + (", each device left out of the fit" if path is None else ""))
        print(told("Snugly", error))
        print(f"{'':46}inside its 80% interval: {inside(phase, own, error, path):.0%}")
        for kind in sorted({row.kind for row in own}):
            print(told(f"  {kind}", error[np.array([row.kind == kind for row in own])]))
        halo = np.array(["Strix Halo" in row.device for row in own])
        if halo.any() and not halo.all():
            print(told("  without Strix Halo", error[~halo]))
        devices = np.array([base(row.device) for row in own])
        medians = [np.median(np.abs(np.exp(error[devices == d]) - 1)) for d in set(devices)]
        print(f"  median of the devices' medians: {np.median(medians):.1%}")
        if phase == "decode":
            peer = np.array([llmfit(row) for row in own])
            print(told("llmfit's formula", peer))
            cpu = np.array([row.kind == "cpu" for row in own])
            print(told("  on GPUs", peer[~cpu]))
            if cpu.any():
                print(told("  on processors", peer[cpu]))
        else:
            set_aside(path, found)
            print("llmfit predicts no prefill")
    print("\nxllamacpp.memory estimates bytes and layers that fit, no speed: nothing to compare")


if __name__ == "__main__":
    main()
