"""A projector with random weights, in the shape of LLaVA's, and a picture to show.

What a model says of a picture through it means nothing; that the engine takes the file, reads
the picture into as many embeddings as it should and answers is what the tests hold it to.
Names and shapes: llama.cpp tools/mtmd/clip.cpp (PROJECTOR_TYPE_MLP: no marks around a picture that
a vocabulary must have) and clip-impl.h.
"""

import struct
import zlib
from pathlib import Path

import gguf
import numpy as np

SIDE, PATCH, WIDTH, HIDDEN, HEADS, LAYERS = 64, 16, 32, 64, 2, 2
EMBEDDINGS = (SIDE // PATCH) ** 2  # of one picture


def make_projector(path: Path, length: int, seed: int = 3) -> Path:
    """Write one for a language model whose embeddings have this length."""
    writer = gguf.GGUFWriter(str(path), "clip")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_bool("clip.use_gelu", True)
    for name, value in {
        "image_size": SIDE, "patch_size": PATCH, "embedding_length": WIDTH,
        "feed_forward_length": HIDDEN, "block_count": LAYERS, "projection_dim": length,
        "attention.head_count": HEADS,
    }.items():  # fmt: skip
        writer.add_uint32(f"clip.vision.{name}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    random = np.random.default_rng(seed)
    for name, shape in _tensors(length).items():
        values = random.normal(0.0, 0.05, shape)
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tensors(length: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes, the outer dimension first."""
    found: dict[str, tuple[int, ...]] = {
        "v.patch_embd.weight": (WIDTH, 3, PATCH, PATCH),
        "v.patch_embd.bias": (WIDTH,),
        "v.position_embd.weight": ((SIDE // PATCH) ** 2, WIDTH),
        "mm.0.weight": (length, WIDTH),
        "mm.0.bias": (length,),
        "mm.2.weight": (length, length),
        "mm.2.bias": (length,),
    }
    for layer in range(LAYERS):
        blk = f"v.blk.{layer}"
        found |= {f"{blk}.ffn_up.weight": (HIDDEN, WIDTH), f"{blk}.ffn_up.bias": (HIDDEN,)}
        found |= {f"{blk}.ffn_down.weight": (WIDTH, HIDDEN), f"{blk}.ffn_down.bias": (WIDTH,)}
        for part in ("attn_q", "attn_k", "attn_v", "attn_out"):
            found |= {f"{blk}.{part}.weight": (WIDTH, WIDTH), f"{blk}.{part}.bias": (WIDTH,)}
        for part in ("ln1", "ln2"):
            found |= {f"{blk}.{part}.weight": (WIDTH,), f"{blk}.{part}.bias": (WIDTH,)}
    return found


def png(side: int = 48) -> bytes:
    """A picture of some colours."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        whole = kind + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    rows = b"".join(
        b"\0" + b"".join(bytes((5 * x % 256, 5 * y % 256, 90)) for x in range(side))
        for y in range(side)
    )
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
