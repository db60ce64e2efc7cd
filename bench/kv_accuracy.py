"""KV cache and recurrent state: ours beside llama.cpp's own accounting.

    python bench/kv_accuracy.py [MODEL ...] [--brief] [--write]

Each model of tests/golden/kv/models.json is a real architecture's header with few layers.
The engine loads it (sparse file, nothing allocated) and logs what its caches take; we read
the same file. The log rounds each cache to 0.01 MiB, so `exact` means: no further off than
that rounding. At 131,072 cells one byte per cell is 0.125 MiB. Exits with 1 on a
difference. `--write` keeps the engine's figures in tests/golden/kv/logged.json.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import kv_engine

from snugly.model.spec import read_spec
from snugly.plan.memory import kv_bytes
from snugly.units import MiB

GOLDEN = Path(__file__).parent.parent / "tests/golden/kv"
UBATCH = 512
# context, cache type, sequences, one cache for all of them
SETTINGS = [
    *((context, kept, 1, True) for kept in ("F16", "Q8_0") for context in (4096, 32768, 131072)),
    (8192, "F16", 16, False),
    (8192, "Q8_0", 4, True),
]


def compare(path: str, setting: tuple[int, str, int, bool]) -> tuple[float, list[float]]:
    """MiB of ours, and of each cache that the engine logs."""
    context, kept, n_seq, unified = setting
    ours = kv_bytes(read_spec(path), context, UBATCH, kept, n_seq=n_seq, unified=unified)
    return ours / MiB, kv_engine.logged(path, context, kept, n_seq, unified)


def measure(name: str, model: dict[str, Any], brief: bool) -> tuple[int, dict[str, list[float]]]:
    """Print one model's rows; how many are off, and what the engine logged."""
    off, kept = 0, {}
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/{name}.gguf"
        tensors = kv_engine.needed_tensors(path, model["architecture"], model["metadata"])
        kv_engine.write(path, model["architecture"], model["metadata"], tensors)
        for setting in SETTINGS[::3] if brief else SETTINGS:
            ours, theirs = compare(path, setting)
            wrong = abs(ours - sum(theirs)) > 0.00501 * len(theirs)
            off += wrong
            kept["/".join(map(str, setting))] = theirs
            context, kind, n_seq, unified = setting
            shared = "shared" if unified else "split"
            print(
                f"{name:<20}{context:>8}{kind:>6}{n_seq:>4} {shared:<7}{ours:>11.3f}"
                f"{sum(theirs):>11.2f}{ours - sum(theirs):>+9.3f}  {'OFF' if wrong else 'exact'}"
            )
    return off, kept


def _lines(logged: dict[str, Any]) -> str:
    """JSON with one model per line."""
    rows = (f" {json.dumps(name)}: {json.dumps(figures)}" for name, figures in logged.items())
    return "{\n" + ",\n".join(rows) + "\n}\n"


def main() -> None:
    models = json.loads((GOLDEN / "models.json").read_text())
    names = [name for name in sys.argv[1:] if not name.startswith("--")] or list(models)
    columns = f"{'model':<20}{'context':>8}{'type':>6}{'seq':>4} {'cache':<7}"
    print(f"{columns}{'ours MiB':>11}{'llama.cpp':>11}{'off by':>9}")
    off, rows, logged = 0, 0, {}
    for name in names:
        wrong, figures = measure(name, models[name], "--brief" in sys.argv)
        logged[name] = figures
        off, rows = off + wrong, rows + len(figures)
    if "--write" in sys.argv:
        path = GOLDEN / "logged.json"
        before = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(_lines({name: (before | logged).get(name, {}) for name in models}))
    kinds = len({models[name]["architecture"] for name in names})
    print(
        f"{len(names)} models of {kinds} architectures, {rows} rows: {rows - off} exact, {off} off"
    )
    sys.exit(off > 0)


if __name__ == "__main__":
    main()
