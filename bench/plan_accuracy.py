"""Everything that the planner claims, in one run: figure beside target.

    python bench/plan_accuracy.py [--here MODEL.gguf ...]
    python bench/plan_accuracy.py --time      how long a plan takes, and nothing else
    python bench/plan_accuracy.py --survey "rtx 3060 12gb"    of that, one survey of the catalogue

From data in this repository; `--here` adds what needs real weights and a quiet machine: peak
memory of the real engine, and the speed of this machine. Each line names the bench or test that
prints the details. Peers are run where they install: llama.cpp's own accounting by way of the
xllamacpp wheel, transformers' and llmfit's answers as kept beside the benches.
"""

import argparse
import gc
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from snugly.engine.offers import catalogue
from snugly.engine.outlook import Elsewhere, box_here_or
from snugly.model.footprint import footprint
from snugly.model.gguf import read_header
from snugly.model.module_tree import tree_of_config
from snugly.model.store import Store
from snugly.plan.box import Box
from snugly.plan.search import survey
from snugly.plan.speed_learning import Corrections
from snugly.plan.types import Need
from snugly.settings import settings

ROOT = Path(__file__).parents[1]
# Figures of design/memory.md: what transformers printed for gemma-3-4b-it, and the true sizes.
GEMMA = {"float32": 17.200351684, "bfloat16": 8.600192738, "nf4-dq": 3.170623202}
GEMMA_TRUE = {"nf4-dq": 3.228, "nf4": 3.397}


def line(what: str, figure: str, target: str) -> None:
    print(f"{what:<46} {figure:<58} {target}", flush=True)


def last_lines(script: str, pattern: str, *words: str) -> list[str]:
    """Lines of a bench's output that match, or what went wrong."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / script), *words],
        capture_output=True, text=True, cwd=ROOT, timeout=1800,
    )  # fmt: skip
    found = [text.strip() for text in done.stdout.splitlines() if re.search(pattern, text)]
    return found or [f"{script} ended with {done.returncode}: {done.stderr.strip()[-80:]}"]


def headers(models: list[str]) -> None:
    """Weights from a header: the end of the last tensor is the end of the file, to the byte."""
    shown = 0
    for path in models:
        header = read_header(path)
        end = max(tensor.offset + tensor.n_bytes for tensor in header.tensors)
        off = header.file_bytes - header.data_offset - end
        shown += 0 <= off < 32  # the file's padding
    figure = f"{shown} of {len(models)} files" if models else "give files with --here"
    line("weights from a header", figure, "exact to the byte (padding below 32)")


def gemma() -> None:
    shape = json.loads((ROOT / "bench/data/gemma-3-4b-it.json").read_text(encoding="utf-8"))
    tree = tree_of_config(shape, "gemma-3-4b-it")
    for dtype, told in GEMMA.items():
        ours = footprint(tree, dtype).printed_bytes / 1e9
        figure = f"{ours:.9f} GB ({ours / told - 1:+.6%})"
        line(f"gemma-3-4b-it footprint, {dtype}", figure, f"{told} GB, 0.01%")
    for dtype, told in GEMMA_TRUE.items():
        ours = footprint(tree, dtype).true_bytes / 1e9
        line(f"gemma-3-4b-it true size, {dtype}", f"{ours:.3f} GB", f"{told} GB")


BOXES = (
    "this", "rtx 4060 ti 16gb", "rtx 3060 12gb", "2x rtx 3090", "h100 80gb", "m3 max 64gb",
    "raspberry pi 5 8gb",
)  # fmt: skip


def survey_ms(box: Box, learned: Corrections) -> tuple[float, int]:
    """Processor time of finding the best of the whole catalogue, and how many builds it has."""
    start = time.process_time()
    every = catalogue("chat", Store(settings().store))
    survey(box, every, Need(), learned)
    return 1000 * (time.process_time() - start), len(every)


def survey_time(name: str, rounds: int = 9) -> None:
    """In a process of its own, so that the first one is the first."""
    gc.set_threshold(200_000)  # as the command line does (snugly/__main__.py)
    box, learned, _ = box_here_or(Elsewhere(name), settings())
    (first, count), *others = (survey_ms(box, learned) for _ in range(rounds))
    line(
        f"whole catalogue, {count} builds, {name}",
        f"first {first:.0f} ms, then median {statistics.median(ms for ms, _ in others):.0f} ms"
        " of processor time",
        "at most 100 ms in process",
    )


def search_time(rounds: int = 9) -> None:
    for name in BOXES:
        subprocess.run([sys.executable, __file__, "--survey", name], check=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # bytecode is kept, as when installed
        env = os.environ | {"SNUGLY_STORE": f"{folder}/m", "SNUGLY_HISTORY": f"{folder}/h.db"}
        walls = []
        for _ in range(rounds):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", "snugly", "plan"], env=env, capture_output=True)
            walls.append(1000 * (time.perf_counter() - start))
    line(
        "snugly plan, from start to end",
        f"median {statistics.median(walls):.0f} ms ({min(walls):.0f} .. {max(walls):.0f})",
        "at most 400 ms",
    )


def tests(what: str, path: str, target: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--no-header", path],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    line(what, done.stdout.strip().splitlines()[-1], target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--here", nargs="*", default=None, metavar="MODEL.gguf")
    parser.add_argument("--time", action="store_true", help="only how long a plan takes")
    parser.add_argument("--survey", metavar="BOX", help="only how long one survey takes")
    asked = parser.parse_args()
    if asked.time or asked.survey:
        survey_time(asked.survey) if asked.survey else search_time()
        return
    models = asked.here
    headers(models or [])
    for text in last_lines("quant_sizes.py", "^(file|tensors)_exact"):
        line("file size from config and type name", text, "median 0.3%, worst 1%")
    for text in last_lines("kv_accuracy.py", "rows: .* exact"):
        line("KV cache beside llama.cpp's own", text, "exact")
    for text in last_lines("device_memory.py", "within 2%"):
        line("bytes per device beside llama.cpp's own", text, "worst 2%")
    gemma()
    for text in last_lines("footprint.py", "same to the byte|to the byte$"):
        line("footprints beside transformers' own", text, "exact")
    for text in last_lines("speed_accuracy.py", "^(Snugly|llmfit|xllamacpp)"):
        figure = re.sub(" +", " ", text)
        line(
            "speed, each device left out of the fit", figure, "decode 15%, x1.6; prefill 25%, x1.6"
        )
    tests("sizing sentences people know", "tests/unit/plan/test_sizing_sentences.py", "come out")
    tests("no pool exceeded, more never worse", "tests/unit/plan/test_search.py", "properties hold")
    search_time()
    if models is not None:
        for text in last_lines("memory.py", "%", *models):
            line("peak memory of the real engine", text, "worst 5%, never 2% below")
        for text in last_lines("speed_here.py", "%", "3", *models):
            line("speed of this machine after --measure", text, "within 20%")
    line("VRAM of a real GPU", "bench/cuda_offload.py, on a machine with one", "within 3%")


if __name__ == "__main__":
    main()
