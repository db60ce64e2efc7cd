"""Whether what we compute is what the engine computes, on a few places of a text.

The engine is shown the first layers alone, in a file of their own with the embeddings:
all layers of a decoder are computed alike, and a file of F16 as a whole would be read into
memory for nothing. Where that cannot be done, or the first layers differ, it is shown all.
"""

import os
import re
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snugly.errors import EngineError
from snugly.quantize import writer
from snugly.quantize.logits_gguf import GgufModel
from snugly.quantize.measure_loss import losses
from snugly.quantize.reader import Source, read_gguf
from snugly.quantize.sensitivity_net import Net

PLACES = 96  # that are compared
# Nats per token. The engine rounds what comes in to 8 bits where weights are quantized, which
# costs up to 0.007 (Gemma 3 270M in Q4_K_M); a wrong rotation or norm costs more than 1.
_TRUSTED = 0.05
_LAYERS = 2
_LAYER = re.compile(r"blk\.(\d+)\.")
# Left out: every build that is known takes the embeddings instead, and both are large.
_HEAD = "output.weight"
_ARRAY = 9  # GGUF's number of the type


def check(path: str, source: Source, tokens: list[int], threads: int, folder: Path) -> float:
    """Nats per token between the engine's predictions and ours, on `tokens`.

    `folder` is for a file that is gone afterwards.
    Raises: EngineError when they are too far apart to be trusted; BadModelFile.
    """
    wrong = float("nan")
    with _shortened(source, folder) as short:
        if short is not None:
            wrong = _difference(str(short), read_gguf(short), tokens, threads)
    if not wrong < _TRUSTED:
        wrong = _difference(path, source, tokens, threads)
    if not wrong < _TRUSTED:
        raise EngineError(
            "What matters in this model cannot be computed.",
            f"What we compute is {wrong:.3f} nats per token away from the engine.",
            "Choose a type with --to instead of a size; and please report the model.",
        )
    return wrong


def _difference(path: str, source: Source, tokens: list[int], threads: int) -> float:
    model = GgufModel(path, PLACES, threads)
    try:
        engine = np.concatenate([part.copy() for part in model.logits(tokens)])
    finally:
        model.close()
    net = Net(source)
    h = net.embed(np.array([tokens], dtype=np.int64))
    for number in range(net.shape.layers):
        h = net.layer(number).forward(h)
    ours: NDArray[np.float32] = net.logits(net.final(h))
    return float(losses(engine, ours, tokens[1:]).kld.mean())


@contextmanager
def _shortened(source: Source, folder: Path) -> Iterator[Path | None]:
    """A file with the first layers alone; None where that cannot be made."""
    shape = Net(source).shape
    # Gemma's layers without a window come once in a period, and are rotated otherwise.
    layers = max(_LAYERS, shape.period)
    key = f"{source.metadata.get('general.architecture')}.block_count"
    if layers >= shape.layers or _by_layer(source, shape.layers):
        yield None
        return
    handle, name = tempfile.mkstemp(dir=folder, prefix=".", suffix=".gguf")
    os.close(handle)
    try:
        yield Path(name) if _written(source, Path(name), key, layers) else None
    finally:
        Path(name).unlink(missing_ok=True)


def _written(source: Source, path: Path, key: str, layers: int) -> bool:
    """Whether there was room."""
    kept, offset = [], 0
    for item in source.tensors:
        if item.tensor.name == _HEAD:
            continue
        layer = _LAYER.match(item.tensor.name)
        if layer is None or int(layer[1]) < layers:
            kept.append(replace(item, tensor=replace(item.tensor, offset=offset)))
            offset += item.tensor.n_bytes + -item.tensor.n_bytes % writer.ALIGNMENT
    if shutil.disk_usage(path.parent).free < 2 * offset:  # for a check the disk is not filled
        return False
    pairs = {**source.pairs, key: writer.pair("UINT32", layers)}
    with open(path, "wb") as file:
        file.write(writer.header(pairs, [item.tensor for item in kept]))
        for item in kept:
            segment = item.segments[0]
            with open(segment.path, "rb") as weights:
                weights.seek(segment.offset)
                file.write(weights.read(item.tensor.n_bytes))
            file.write(bytes(-item.tensor.n_bytes % writer.ALIGNMENT))
    return True


def _by_layer(source: Source, layers: int) -> bool:
    """Whether some metadata say something of each layer: then fewer layers are another model."""
    counts = (struct.unpack("<IIQ", value[:16]) for value in source.pairs.values()
              if len(value) >= 16)  # fmt: skip
    return any(kind == _ARRAY and count == layers for kind, _, count in counts)
