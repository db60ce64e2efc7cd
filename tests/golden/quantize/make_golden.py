"""What llama-quantize makes of the small model: a hash of every tensor, for every mixture.

python tests/golden/quantize/make_golden.py LLAMA_QUANTIZE | gzip -9n > golden.json.gz
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.golden.quantize.small_model import write_legacy_matrix, write_model

from snugly.model.gguf import read_header
from snugly.model.quant_mixtures import MAIN_TYPES, NEED_MATRIX


def main() -> None:
    found: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, matrix = write_model(folder / "m.gguf"), write_legacy_matrix(folder / "m.dat")
        for kind in MAIN_TYPES:
            for with_matrix in (False, True):
                if kind in NEED_MATRIX and not with_matrix:
                    continue
                out = folder / "out.gguf"
                extra = ["--imatrix", str(matrix)] if with_matrix else []
                command = [sys.argv[1], *extra, str(model), str(out), kind, "1"]
                subprocess.run(command, check=True, capture_output=True)
                found[f"{kind}+matrix" if with_matrix else kind] = hashes(out)
    json.dump(found, sys.stdout, indent=0, sort_keys=True)


def hashes(path: Path) -> dict[str, str]:
    """Type and the first 16 digits of the SHA-256 of each tensor's bytes."""
    header, data = read_header(path), path.read_bytes()
    return {
        t.name: f"{t.ggml_type} "
        + hashlib.sha256(data[header.data_offset + t.offset :][: t.n_bytes]).hexdigest()[:16]
        for t in header.tensors
    }


if __name__ == "__main__":
    main()
