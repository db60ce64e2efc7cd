"""Our files beside llama-quantize's: which tensors are the same, byte for byte, and how fast.

    python bench/quantize_types.py MODEL.gguf --native .../llama-quantize [--imatrix FILE | random]
        [--types Q4_K_M,IQ3_S] [--cut LAYERS] [--threads N]

For every type: both programs quantize the same file, then each tensor's bytes are compared
and both times are taken, of the whole command. `--cut` first makes a model of the first
layers, 4,096 rows of embeddings and F16 weights, so that all 35 types take minutes.
`--imatrix random` makes a matrix of random weights: what it holds does not matter for whether
the bytes are the same. Types that nothing can be written in without a matrix get it anyway.
Each differing tensor is shown with the number of bytes that differ.
"""

import argparse
import contextlib
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil

from snugly.model.ggml_types import row_bytes
from snugly.model.gguf import read_header
from snugly.model.quant_mixtures import MAIN_TYPES, NEED_MATRIX
from snugly.model.types import Tensor
from snugly.quantize import writer
from snugly.quantize.convert import quantize
from snugly.quantize.reader import Source, read_gguf
from snugly.quantize.types import Recipe, SourceTensor

VOCABULARY = 4096  # rows of embeddings that a shortened model keeps


def shortened(source: Source, layers: int) -> Source:
    """The first layers of a model, and the first rows of its vocabulary."""
    architecture = source.metadata["general.architecture"]
    key = f"{architecture}.block_count"
    pairs = dict(source.pairs) | {key: writer.pair("UINT32", layers)}
    for name in ("tokens", "scores", "token_type", "merges"):
        pairs.pop(f"tokenizer.ggml.{name}", None)
    pairs["tokenizer.ggml.model"] = writer.pair("STRING", "none")
    kept = [_rows(item) for item in source.tensors
            if not item.tensor.name.startswith("blk.")
            or int(item.tensor.name.split(".")[1]) < layers]  # fmt: skip
    return replace(source, pairs=pairs, tensors=tuple(kept),
                   metadata=dict(source.metadata) | {key: layers})  # fmt: skip


def _rows(item: SourceTensor) -> SourceTensor:
    if item.tensor.name not in ("token_embd.weight", "output.weight"):
        return item
    length, rows = item.tensor.shape[0], min(VOCABULARY, item.tensor.shape[1])
    size = rows * row_bytes(item.kind, length)
    return replace(item, tensor=replace(item.tensor, shape=(length, rows), n_bytes=size),
                   segments=(replace(item.segments[0], rows=rows),))  # fmt: skip


def random_matrix(path: Path, model: Path) -> None:
    """An importance matrix of log-normal weights for every matrix of `model`."""
    draw = np.random.default_rng(7)
    tensors: list[Tensor] = []
    data = bytearray()
    for tensor in read_header(model).tensors:
        experts = tensor.shape[2] if len(tensor.shape) > 2 else 1
        if len(tensor.shape) < 2 or "_norm" in tensor.name or tensor.name == "token_embd.weight":
            continue
        values = draw.lognormal(0, 1.5, tensor.shape[0] * experts).astype("<f4") * 512
        for suffix, numbers in (("in_sum2", values), ("counts", np.full(experts, 512, "<f4"))):
            shape = (len(numbers) // experts, experts) if suffix == "in_sum2" else (1, experts)
            data += bytes(-len(data) % 32)
            tensors.append(Tensor(f"{tensor.name}.{suffix}", shape, "F32", len(data),
                                  numbers.nbytes))  # fmt: skip
            data += numbers.tobytes()
    pairs = {
        "general.type": writer.pair("STRING", "imatrix"),
        "imatrix.datasets": writer.pair("STRING", ["random"]),
        "imatrix.chunk_count": writer.pair("UINT32", 1),
        "imatrix.chunk_size": writer.pair("UINT32", 512),
    }
    path.write_bytes(writer.header(pairs, tensors) + data + bytes(-len(data) % 32))


def compared(ours: Path, theirs: Path) -> tuple[int, list[str]]:
    """Tensors that are the same, and the others in words."""
    left, right = read_header(ours), read_header(theirs)
    by_name = {tensor.name: tensor for tensor in right.tensors}
    same, different = 0, []
    a, b = np.memmap(ours, mode="r"), np.memmap(theirs, mode="r")
    for mine in left.tensors:
        other = by_name.pop(mine.name)
        if (mine.shape, mine.ggml_type) != (other.shape, other.ggml_type):
            different.append(f"{mine.name}: {mine.ggml_type} and {other.ggml_type}")
            continue
        x = a[left.data_offset + mine.offset :][: mine.n_bytes]
        y = b[right.data_offset + other.offset :][: mine.n_bytes]
        bad = int(np.count_nonzero(x != y))
        same += not bad
        if bad:
            different.append(f"{mine.name} ({mine.ggml_type}): {bad} of {mine.n_bytes} bytes")
    return same, different + [f"{name}: missing" for name in by_name]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("model", type=Path)
    arguments.add_argument("--native", type=Path, required=True)
    arguments.add_argument("--imatrix", default="")
    arguments.add_argument("--types", default=",".join(MAIN_TYPES))
    arguments.add_argument("--cut", type=int, default=0)
    arguments.add_argument("--threads", type=int, default=2)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(dir=given.model.parent) as folder:
        _all(given, Path(folder))


def _all(given: argparse.Namespace, folder: Path) -> None:
    model = given.model
    if given.cut:
        model = folder / "cut.gguf"
        quantize(shortened(read_gguf(given.model), given.cut), model, Recipe("F16"))
    random = folder / "random.imatrix.gguf"
    random_matrix(random, model)
    print(f"{'type':10}{'matrix':>7}{'tensors':>9}{'same':>6}{'seconds':>9}{'native':>8}{'ratio':>7}"
          f"{'CPU s':>8}{'native':>8}{'ratio':>7}{'MB':>6}{'native':>8}")  # fmt: skip
    ratios: list[tuple[float, float]] = []
    identical, wrong = 0, 0
    for kind in given.types.split(","):
        matrix = {"random": random, "": random if kind in NEED_MATRIX else None}.get(
            given.imatrix, Path(given.imatrix)
        )
        extra = ["--imatrix", str(matrix)] if matrix else []
        ours, theirs = folder / "ours.gguf", folder / "theirs.gguf"
        own = [sys.executable, "-m", "snugly", "quantize", str(model), "--to", kind]
        mine = _run([*own, "--out", str(ours), "--threads", str(given.threads), *extra])
        other = [str(given.native), "--allow-requantize", *extra, str(model), str(theirs)]
        native = _run([*other, kind, str(given.threads)])
        same, different = compared(ours, theirs)
        ratios.append((native.seconds / mine.seconds, native.processor / mine.processor))
        identical, wrong = identical + same, wrong + len(different)
        print(f"{kind:10}{'yes' if matrix else 'no':>7}{same + len(different):9}{same:6}"
              f"{mine.seconds:9.2f}{native.seconds:8.2f}{ratios[-1][0]:7.2f}"
              f"{mine.processor:8.2f}{native.processor:8.2f}{ratios[-1][1]:7.2f}"
              f"{mine.memory / 1e6:6.0f}{native.memory / 1e6:8.0f}", flush=True)  # fmt: skip
        for line in different[:5]:
            print(f"    {line}")
        ours.unlink()
        theirs.unlink()
    wall, processor = np.exp(np.mean(np.log(ratios), axis=0))
    print(f"{identical} tensors the same, {wrong} different; speed, native time to ours, geometric"
          f" mean: {wall:.2f} by the clock, {processor:.2f} by processor time")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """What one command took. `processor` counts all cores, and holds on a busy machine too."""

    seconds: float
    processor: float
    memory: int  # most bytes of all its processes together, without pages of files


def _run(command: list[str]) -> Run:
    start, before, most = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN), 0
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, stdout=said, stderr=said) as process,
    ):
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            most = max(most, _held(watched))
            time.sleep(0.02)
        if process.returncode:
            said.seek(0)
            sys.exit(f"{' '.join(command)}\n{said.read()[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(time.perf_counter() - start, spent, most)


def _held(process: psutil.Process) -> int:
    total = 0
    with contextlib.suppress(psutil.Error):
        for one in (process, *process.children(recursive=True)):
            memory = one.memory_info()
            total += memory.rss - getattr(memory, "shared", 0)
    return total


if __name__ == "__main__":
    main()
