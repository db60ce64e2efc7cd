"""SmolLM2 as checkpoints of transformers: bytes predicted, printed and true, and what is lost.

    python bench/quantize_transformers.py [GGUF or checkpoint] [--chunks 10] [--keep FOLDER]

Needs the extra `snugly[transformers]`. Without an argument SmolLM2 as `snugly pull smollm2` has it.
About 3 minutes on two quiet cores. The reference of the KLD is the bfloat16 checkpoint, which for
SmolLM2 is made of a Q4_1 file: the losses are those of another rounding, not of a first one.
"""

import argparse
import json
import tempfile
from pathlib import Path

from snugly.errors import SnuglyError
from snugly.model.footprint import footprint
from snugly.model.module_tree import tree_of_config
from snugly.quantize.measure import bundled, measure_all
from snugly.quantize.open import locate
from snugly.quantize.transformers_make import Made, make_checkpoint
from snugly.settings import settings

TYPES = ("bfloat16", "int8", "nf4-dq", "nf4")


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("source", nargs="?", default="smollm2")
    asked.add_argument("--chunks", type=int, default=10)
    asked.add_argument("--keep", default="")
    args = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(args.source, Path(args.keep or folder), args.chunks)


def run(source: str, folder: Path, chunks: int) -> None:
    """Make each, then compare all with the first."""
    path, name = locate(source, settings())
    made: list[Made] = []
    for kind in TYPES:
        made.append(make_checkpoint(path, folder / f"{name}-{kind}", kind))
        path = made[0].path  # the others are made of the first
    base, *others = (str(item.path) for item in made)
    losses = measure_all(base, others, bundled("evaluation"), most=chunks)
    tree = tree_of_config(json.loads((made[0].path / "config.json").read_text()), name)
    print("| type | predicted, printed | predicted, true | printed | true | on disk | KLD |")
    print("|---|---|---|---|---|---|---|")
    for item, loss in zip(made, (None, *losses), strict=True):
        expected = footprint(tree, item.dtype)
        kld = f"{loss.kld.value:.3f} ± {loss.kld.error:.3f}" if loss else "-"
        print(
            f"| {item.dtype} | {expected.printed_bytes:,} | {expected.true_bytes:,}"
            f" | {item.printed_bytes:,} | {item.true_bytes:,} | {item.file_bytes:,} | {kld} |"
        )
    for item in made:
        print(f"{item.dtype}: {item.answer!r}, made in {item.seconds:.0f} s")


if __name__ == "__main__":
    try:
        main()
    except SnuglyError as error:
        raise SystemExit(str(error)) from error
