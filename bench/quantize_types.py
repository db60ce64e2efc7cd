"""Our files beside llama-quantize's: which tensors are the same, byte for byte, and how fast.

    python bench/quantize_types.py MODEL.gguf --native .../llama-quantize [--imatrix FILE | random]
        [--types Q4_K_M,IQ3_S] [--cut LAYERS] [--threads N]

For every type: both programs quantize the same file, then each tensor's bytes are compared
and both times are taken, of the whole command. `--cut` first makes a model of the first
layers, 4,096 rows of embeddings and F16 weights, so that all 34 types take minutes.
`--imatrix random` makes a matrix of random weights: what it holds does not matter for whether
the bytes are the same. Types that nothing can be written in without a matrix get it anyway.
Each differing tensor is shown with the number of bytes that differ.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
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
    print(
        f"{'type':10}{'matrix':>7}{'tensors':>9}{'same':>6}{'ours s':>9}{'native s':>9}{'ratio':>7}"
    )
    ratios, identical, wrong = [], 0, 0
    for kind in given.types.split(","):
        matrix = {"random": random, "": random if kind in NEED_MATRIX else None}.get(
            given.imatrix, Path(given.imatrix)
        )
        extra = ["--imatrix", str(matrix)] if matrix else []
        ours, theirs = folder / "ours.gguf", folder / "theirs.gguf"
        mine, ours_peak = _timed([sys.executable, "-m", "snugly", "quantize", str(model), "--to", kind,
                       "--out", str(ours), "--threads", str(given.threads), *extra])  # fmt: skip
        native, theirs_peak = _timed([str(given.native), "--allow-requantize", *extra, str(model),
                         str(theirs), kind, str(given.threads)])  # fmt: skip
        same, different = compared(ours, theirs)
        ratios.append(native / mine)
        identical, wrong = identical + same, wrong + len(different)
        print(f"{kind:10}{'yes' if matrix else 'no':>7}{same + len(different):9}{same:6}"
              f"{mine:9.2f}{native:9.2f}{native / mine:7.2f}{ours_peak / 1e6:9.0f}{theirs_peak / 1e6:11.0f}", flush=True)  # fmt: skip
        for line in different[:5]:
            print(f"    {line}")
        ours.unlink()
        theirs.unlink()
    print(f"{identical} tensors the same, {wrong} different; speed, native time to ours: "
          f"{float(np.exp(np.mean(np.log(ratios)))):.2f} on the geometric mean")  # fmt: skip


def _timed(command: list[str]) -> tuple[float, int]:
    """Seconds, and the most memory of all its processes together (sampled; no file pages)."""
    start, most = time.perf_counter(), 0
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
    return time.perf_counter() - start, most


def _held(process: psutil.Process) -> int:
    total = 0
    with contextlib.suppress(psutil.Error):
        for one in (process, *process.children(recursive=True)):
            memory = one.memory_info()
            total += memory.rss - getattr(memory, "shared", 0)
    return total


if __name__ == "__main__":
    main()
