"""What no prediction does better: measured prompts that differ where a plan knows no difference.

    python bench/speed_floor.py

Rows of bench/data/speeds.csv of one device, backend, model, quantization, prompt and depth: what
a plan knows. First how far they lie apart, and how many of them the best single figure for each
such group must miss by more than a factor of 1.6. Then the same where flash attention, micro-batch
and age of the engine are told as well, which the fit knows of old rows. Then flash attention by HIP
against none in the same build (`speed_rows.aside`), and which rows the fit misses by more than 1.6
even with their own device in it.
"""

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from fit_speed import PRIOR, errors, left_out, measured, solve, weights_of
from speed_rows import Row, base, rows

WITHIN = 1.6


def known(row: Row) -> Hashable:
    """What a plan knows of a run."""
    model = row.row["model"]
    return row.device, row.kind, model, row.quant, row.prompt, row.prompt_depth


def told(row: Row) -> Hashable:
    """The same, and what the fit is told of rows besides."""
    return known(row), row.flash_attention, row.ubatch, row.age


def missed(rates: list[float]) -> int:
    """How many of these the best single figure misses by more than WITHIN."""
    low = np.sort(np.log(rates))
    width = 2 * np.log(WITHIN)
    best = max(np.searchsorted(low, start + width, side="right") - i for i, start in enumerate(low))
    return len(low) - int(best)


def spreads(name: str, own: list[Row], key: Callable[[Row], Hashable]) -> None:
    """Print how far rows of equal inputs lie apart."""
    groups = defaultdict(list)
    for row in own:
        groups[key(row)].append(row.prefill_tps)
    many = [rates for rates in groups.values() if len(rates) > 1]
    apart = [rates for rates in many if max(rates) > WITHIN * min(rates)]
    count, in_apart = sum(map(len, many)), sum(map(len, apart))
    out = sum(map(missed, many))
    print(
        f"{name}: {count} of {len(own)} rows are in {len(many)} groups of equal inputs; {in_apart}"
        f" ({in_apart / len(own):.1%}) in {len(apart)} groups that differ by more than {WITHIN};"
        f" {out} ({out / len(own):.1%}) are missed by the best figure for their group"
    )


def pairs(found: list[Row]) -> None:
    """Flash attention by HIP without rocWMMA against none, in the same build."""
    rates: dict[Hashable, dict[bool, float]] = defaultdict(dict)
    for row in found:
        build = re.search(r"build (b\d+)", row.row["notes"])
        if build and row.kind == "rocm" and "hipblaslt 1" in row.row["notes"]:
            name = "rocWMMA" if "wmma" in row.row["backend"] else "HIP"
            group = "b5863" if build[1] == "b5863" else "later"
            rates[name, group, row.prompt, row.row["model"]][row.flash_attention] = row.prefill_tps
    slower = defaultdict(list)
    for (name, group, prompt, _), both in sorted(rates.items()):
        if len(both) == 2 and min(both.values()) > 0:
            slower[name, group, prompt].append(both[False] / both[True])
    print("\nWithout flash attention over with it, tokens/s, on Strix Halo by ROCm:")
    for (name, group, prompt), ratios in slower.items():
        print(
            f"  {name:8}{group:6} prompt {prompt:5}: {len(ratios)} models, median"
            f" {np.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
        )


def main() -> None:
    """Print all of it."""
    found, _ = rows()
    own, x, y = measured("prefill", found)
    prior = np.array(PRIOR["prefill"], dtype=float)
    spreads("What a plan knows", own, known)
    spreads("What the fit is told", own, told)
    everything, *_ = measured("prefill", found, everything=True)
    spreads("What a plan knows, with the rows set aside", everything, known)
    pairs(found)
    theta = solve(x, [row.kind for row in own], y, weights_of(own), prior)
    limit = np.log(WITHIN)
    for name, error in (
        ("with their own device in the fit", errors(x, y, own, theta)),
        ("each device left out", left_out(x, y, own, prior)),
    ):
        far = [row for row, miss in zip(own, np.abs(error) > limit, strict=True) if miss]
        print(f"\nOff by more than {WITHIN}, {name}: {len(far)} of {len(own)}")
        for (device, kind), count in Counter((base(r.device), r.kind) for r in far).most_common(8):
            print(f"  {count:4}  {device[:40]} {kind}")


if __name__ == "__main__":
    main()
