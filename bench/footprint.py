"""Our footprints beside those of transformers and bitsandbytes.

    python bench/footprint.py [config.json ...]

Theirs were asked by bench/footprint_ask.py and are kept in tests/golden/footprint (versions:
README.md there). For configs given on the command line only ours are printed.
"""

import csv
import json
import sys
from pathlib import Path
from typing import Any

from snugly.errors import SnuglyError
from snugly.model.footprint import DTYPES, footprint
from snugly.model.module_tree import covered, tree_of_config

GOLDEN = Path(__file__).parents[1] / "tests/golden"


def configs() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name in ("footprint/small", "configs/configs", "configs/class_defaults"):
        found |= json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    return found


def rows(name: str) -> list[dict[str, str]]:
    with (GOLDEN / "footprint" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def whole() -> None:
    print("Published shapes on torch's meta device, bytes as get_memory_footprint() prints them")
    same = different = 0
    refused = []
    for row in rows("whole.csv"):
        try:
            tree = tree_of_config(configs()[row["config"]], row["config"])
        except SnuglyError:
            refused.append(row)
            continue
        dtypes = ["float32"] if tree.float32 else ["float32", "bfloat16"]
        ours = [footprint(tree, dtype).printed_bytes for dtype in dtypes]
        theirs = [int(row[dtype]) for dtype in dtypes]
        same += ours == theirs
        different += ours != theirs
        if ours != theirs:
            print(f"  {row['config']}: ours {ours}, theirs {theirs}; {'; '.join(tree.remarks)}")
    print(f"  {same} the same to the byte, {different} different (above)")
    known = [row for row in refused if row["class"]]
    print(f"  {len(refused)} refused, of which transformers knows {len(known)}:"
          f" {', '.join(row['config'] for row in known)}")  # fmt: skip


def small() -> None:
    print("Small models loaded with from_pretrained on the CPU, printed and really held")
    models = json.loads((GOLDEN / "footprint/small.json").read_text(encoding="utf-8"))
    counts: dict[str, list[int]] = {}
    for row in rows("small.csv"):
        found = footprint(tree_of_config(models[row["config"]], row["config"]), row["dtype"])
        count = counts.setdefault(row["dtype"], [0, 0, 0])
        count[0] += 1
        count[1] += found.printed_bytes == int(row["printed"])
        count[2] += found.true_bytes == int(row["held"])
    for dtype, (n, printed, held) in counts.items():
        print(f"  {dtype:9} {n} models: {printed} printed, {held} held to the byte")


def one(path: str) -> None:
    tree = tree_of_config(json.loads(Path(path).read_text(encoding="utf-8")), path)
    print(f"{path}: {tree.class_name}, {tree.n_parameters:,} parameters")
    for dtype in DTYPES:
        found = footprint(tree, dtype)
        print(f"  {dtype:9} {found.printed_bytes:>16,} printed {found.true_bytes:>16,} true")


def main() -> None:
    for path in sys.argv[1:]:
        one(path)
    if not sys.argv[1:]:
        print(f"{len(covered())} model types: {', '.join(covered())}")
        whole()
        small()


if __name__ == "__main__":
    main()
