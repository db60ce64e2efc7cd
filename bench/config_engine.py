"""Does llama.cpp load what we say its converter would write? Every config, by the engine itself.

    python bench/config_engine.py [NAME...]     of tests/golden/configs and of the catalogue

For each config a GGUF is made with our metadata and tensors and a body of holes, the vocabulary,
layers and experts cut down so that it stays small, and loaded by the library in the xllamacpp
wheel. llama.cpp refuses a file in which a tensor is missing, has another shape, or is not asked
for, so "loads" means: names and shapes are all right. Needs the `gguf` package (development).
"""

import copy
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

from snugly.errors import SnuglyError
from snugly.machine.int8 import library
from snugly.model.config import header_of_config
from snugly.model.types import GgufHeader

GOLDEN = Path(__file__).parents[1] / "tests/golden/configs"
CATALOGUE = Path(__file__).parents[1] / "src/snugly/model/catalog_configs.json"
SMALLER = {
    ("vocab_size", "padded_vocab_size", "vocab_size_per_layer_input"): 512,
    ("num_local_experts", "num_experts", "n_routed_experts"): 8,
    ("num_experts_per_tok", "top_k_experts"): 2,
    ("n_group", "topk_group"): 1,
    ("num_kv_shared_layers",): 4,
}
LISTS = ("layer_types", "block_configs", "hybrid_layer_pattern", "moe_layer_freq")
# What the loader asks for and planning does not: (key, value, in which architectures).
MORE: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
    ("attention.layer_norm_rms_epsilon", 1e-6, ()),
    ("attention.layer_norm_epsilon", 1e-6, ()),
    ("logit_scale", 1.0, ()),
    ("embedding_scale", 1.0, ()),
    ("residual_scale", 1.0, ()),
    ("attention.scale", 1.0, ()),
    ("expert_weights_scale", 1.0, ()),
    ("expert_gating_func", 2, ()),
    ("expert_shared_count", 1, ()),
    ("rope.dimension_count_swa", 256, ("gemma4",)),
    ("n_deepstack_layers", 3, ("qwen3vl", "qwen3vlmoe")),
    ("rope.dimension_sections", [11, 11, 10, 0], ("qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe")),
)


def smaller(config: dict[str, Any]) -> dict[str, Any]:
    """The same kind of model with fewer layers, experts and words."""
    config = copy.deepcopy(config)
    for part in (config, config.get("text_config", {})):
        for keys, most in SMALLER.items():
            part.update({k: min(part[k], most) for k in keys if isinstance(part.get(k), int)})
        lite = part.get("kv_lora_rank") and not part.get("q_lora_rank")
        keep = 27 if lite else 12  # llama.cpp tells V2-Lite by its 27 layers
        for key in ("num_hidden_layers", "n_layer", "num_layers"):
            if isinstance(part.get(key), int):
                part[key] = min(part[key], keep)
        for key in (*LISTS, "layers_block_type", "hybrid_override_pattern"):
            if isinstance(part.get(key), str | list):
                part[key] = part[key][: 12 if key in LISTS else 14]
    for key in ("image_token_index", "image_token_id"):
        config.pop(key, None)
    return {key: value for key, value in config.items() if value is not None}


def put(writer: GGUFWriter, key: str, value: Any) -> None:
    """One metadata key, its type by its value."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def write(header: GgufHeader, path: str) -> None:
    """A GGUF of this header with a body of holes."""
    kind = header.metadata["general.architecture"]
    metadata = {
        f"{kind}.{key}": value for key, value, only in MORE if not only or kind in only
    } | header.metadata
    metadata.setdefault(f"{kind}.vocab_size", header.lengths["tokenizer.ggml.tokens"])
    writer = GGUFWriter(path, kind)
    for key, value in metadata.items():
        if key != "general.architecture":
            put(writer, key, value)
    writer.add_string("tokenizer.ggml.model", "no_vocab")
    for t in header.tensors:
        packed = t.ggml_type not in ("F16", "F32")
        first = t.shape[0] // 32 * 17 if packed else t.shape[0]  # MXFP4: 17 bytes per 32 weights
        shape = (*reversed(t.shape[1:]), first)
        as_stored = np.dtype("uint8" if packed else "float16")
        raw = GGMLQuantizationType[t.ggml_type]
        writer.add_tensor_info(t.name, shape, as_stored, t.n_bytes, raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    os.truncate(path, os.path.getsize(path) + header.file_bytes + 64)


def load(path: str) -> None:
    """Load with the engine's library, print its count of parameters; ends the process."""
    engine = ctypes.CDLL(str(library()))

    class Params(ctypes.Structure):
        # Larger than llama_model_params of any release: it is passed by value, on the stack.
        _fields_ = (("opaque", ctypes.c_char * 512),)

    engine.llama_backend_init()
    engine.llama_model_default_params.restype = Params
    engine.llama_model_load_from_file.argtypes = [ctypes.c_char_p, Params]
    engine.llama_model_load_from_file.restype = ctypes.c_void_p
    engine.llama_model_n_params.argtypes = [ctypes.c_void_p]
    engine.llama_model_n_params.restype = ctypes.c_uint64
    model = engine.llama_model_load_from_file(path.encode(), engine.llama_model_default_params())
    print("parameters", engine.llama_model_n_params(model) if model else 0, flush=True)
    os._exit(0 if model else 1)


def main(names: list[str]) -> int:
    """Print a line per config; exit code 1 when one that is covered does not load."""
    configs = json.loads((GOLDEN / "configs.json").read_text())
    configs |= json.loads((GOLDEN / "class_defaults.json").read_text())
    configs |= {name: row["config"] for name, row in json.loads(CATALOGUE.read_text()).items()}
    loaded = failed = 0
    for name in names or sorted(configs):
        try:
            header = header_of_config(smaller(configs[name]), name)
        except SnuglyError as error:
            print(f"{name:48} refused: {error.problem}")
            continue
        ours = sum(tensor.n_elements for tensor in header.tensors)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "made.gguf")
            write(header, path)
            command = [sys.executable, __file__, "--load", path]
            ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
        why = [line for line in ran.stderr.splitlines() if "error" in line][:1]
        good = f"parameters {ours}" in ran.stdout
        loaded, failed = loaded + good, failed + (not good)
        print(f"{name:48} {header.metadata['general.architecture']:15} {len(header.tensors):5}"
              f" tensors {'loads' if good else f'FAILS {why}'}", flush=True)  # fmt: skip
    print(f"{loaded} load, {failed} do not")
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--load"]:
        load(sys.argv[2])
    sys.exit(main(sys.argv[1:]))
