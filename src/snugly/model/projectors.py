"""The second file of a model that sees: its projector, which turns pictures into embeddings.

llama.cpp keeps it apart from the language model, in a GGUF called `mmproj-*` of architecture
"clip". Source: llama.cpp docs/multimodal.md and gguf-py constants.py (Keys.ClipVision).
"""

from pathlib import Path

from snugly.errors import BadModelFile
from snugly.model.gguf import read_header

# Where one folder has it in several types: as the hub's projectors are usually run.
_BEST_FIRST = ("f16", "bf16", "q8_0", "f32")


def projector_of(model_path: str, embedding_length: int) -> str:
    """The projector beside a model's file; empty where there is none that fits it.

    One fits whose vectors are as long as the model's embeddings: a folder may hold the
    projector of another model. One that cannot be read counts as none.
    """
    try:
        beside = [
            path
            for path in Path(model_path).parent.iterdir()
            if "mmproj" in path.name.lower() and path.suffix.lower() == ".gguf"
        ]
    except OSError:
        return ""
    fitting = [path for path in beside if _fits(path, embedding_length)]
    return str(min(fitting, key=_rank)) if fitting else ""


def _fits(path: Path, embedding_length: int) -> bool:
    try:
        metadata = read_header(path).metadata
    except (BadModelFile, OSError):
        return False
    sees = bool(metadata.get("clip.has_vision_encoder"))
    return sees and metadata.get("clip.vision.projection_dim") == embedding_length


def _rank(path: Path) -> tuple[int, str]:
    name = path.name.lower().replace("bf16", "bf_16")  # so that "f16" is not found in it
    words = [word.replace("bf16", "bf_16") for word in _BEST_FIRST]
    return next((i for i, word in enumerate(words) if word in name), len(words)), name
