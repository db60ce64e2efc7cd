"""Our conversion of checkpoints beside llama.cpp's convert_hf_to_gguf.py: tensors and metadata.

    python bench/quantize_checkpoints.py LLAMA_CPP PYTHON [FOLDER ...] [--golden FILE]

LLAMA_CPP is its source, PYTHON one with torch, transformers and sentencepiece. Converted are
the small checkpoints of tests/golden/checkpoints, and every FOLDER. The small ones have made-up
vocabularies, whose hash the converter cannot know: it is told the rule's name. `--golden`
writes what the converter made of them, for the tests.
"""

import argparse
import gzip
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import gguf
from tests.golden.checkpoints.small_checkpoints import names, pre_of, write

from snugly.model.gguf import read_header

_CONVERTER = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/gguf-py"]
import conversion.base, convert_hf_to_gguf
if sys.argv[2]:
    conversion.base.TextModel.get_vocab_base_pre = lambda *_: sys.argv_pre
sys.argv_pre, sys.argv = sys.argv[2], sys.argv[:1] + sys.argv[3:]
convert_hf_to_gguf.main()
"""


def described(path: Path) -> dict[str, Any]:
    """Type and hash of each tensor, type and value of each metadata key."""
    header, data = read_header(path), path.read_bytes()
    tensors = {
        t.name: f"{t.ggml_type} {list(t.shape)} "
        + hashlib.sha256(data[header.data_offset + t.offset :][: t.n_bytes]).hexdigest()[:16]
        for t in header.tensors
    }
    metadata = {}
    for key, field in gguf.GGUFReader(path).fields.items():
        if key.startswith(("GGUF.", "snugly.")):
            continue
        value = json.dumps([[kind.name for kind in field.types], field.contents()])
        metadata[key] = value if len(value) < 300 else hashlib.sha256(value.encode()).hexdigest()
    return {"tensors": tensors, "metadata": metadata}


def converted(given: argparse.Namespace, folder: Path, pre: str, out: Path) -> dict[str, Any]:
    """What llama.cpp's converter makes of a checkpoint."""
    command = [given.python, "-c", _CONVERTER, str(given.llama_cpp), pre, str(folder),
               "--outfile", str(out), "--outtype", "f16"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return described(out)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("llama_cpp", type=Path)
    arguments.add_argument("python")
    arguments.add_argument("folders", nargs="*", type=Path)
    arguments.add_argument("--golden", type=Path)
    given = arguments.parse_args()
    golden = {}
    print(f"{'checkpoint':24}{'tensors':>8}{'same':>6}{'keys':>6}{'same':>6}  differing")
    with tempfile.TemporaryDirectory() as name:
        small = [(write(item, Path(name)), pre_of(item)) for item in names()]
        for folder, pre in [*small, *((folder, "") for folder in given.folders)]:
            theirs = converted(given, folder, pre, Path(name) / "theirs.gguf")
            command = [sys.executable, "-m", "snugly", "quantize", str(folder), "--to", "F16"]
            command += ["--out", f"{name}/ours.gguf"]
            subprocess.run(command, check=True, capture_output=True)
            ours = described(Path(name) / "ours.gguf")
            _print(folder.name, ours, theirs)
            golden[folder.name] = theirs
            for file in ("ours.gguf", "theirs.gguf"):
                (Path(name) / file).unlink()
    if given.golden:
        kept = json.dumps({item: golden[item] for item in names()}, sort_keys=True)
        given.golden.write_bytes(gzip.compress(kept.encode(), mtime=0))


def _print(name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    numbers, differing = "", []
    for part, width in (("tensors", 8), ("metadata", 6)):
        keys = ours[part].keys() | theirs[part].keys()
        wrong = sorted(key for key in keys if ours[part].get(key) != theirs[part].get(key))
        numbers += f"{len(keys):{width}}{len(keys) - len(wrong):6}"
        differing += wrong
    print(f"{name:24}{numbers}  {' '.join(differing[:8])}", flush=True)


if __name__ == "__main__":
    main()
