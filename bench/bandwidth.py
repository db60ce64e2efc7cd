"""The share of the copy rate of `snugly machine --measure` that decoding reaches.

    python bench/bandwidth.py [ROUNDS] [MODEL.gguf]

In alternation: the copy rate of memory (read and written bytes), and the weights that
the engine read per second while it decoded 24 tokens.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from busy import decode_tps
from workload import default_model, header, plan_for, spread

from snugly.machine.detect import detect
from snugly.machine.measure import measure
from snugly.model.build import build_of, outline_of, read_bytes
from snugly.model.spec import read_spec


def copy_rate() -> float:
    """Bytes per second at the best thread count, as the planner takes them."""
    with tempfile.TemporaryDirectory() as folder:
        rates = measure(detect(Path(folder)), Path(folder), lambda _label, _share: None)
    return max(rate.value or 0.0 for _, rate in rates.bandwidth_bytes_per_s)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    path = sys.argv[2] if len(sys.argv) > 2 else default_model()
    spec = read_spec(path)
    header(f"{spec.name}: GB/s, median (min .. max) of {rounds} rounds")
    copied, decoded = [], []
    for _ in range(rounds):
        copied.append(copy_rate() / 1e9)
        tps = asyncio.run(decode_tps(path, plan_for(path, 2048).threads, ""))
        decoded.append(tps * read_bytes(outline_of(build_of(spec))) / 1e9)
    print(f"copy     {spread(copied, 1)}")
    print(f"decode   {spread(decoded, 1)}")
    print(f"share    {spread([d / c for d, c in zip(decoded, copied, strict=True)], 2)}")


if __name__ == "__main__":
    main()
