"""Ask llama.cpp's library which type it gives each tensor; writes oracle.json.gz.

    python -m tests.golden.quant.make_oracle ORACLE [REAL.gguf ...]

ORACLE is the program of oracle.cpp. Every model is a true header with a sparse body: the
library's dry run reads no weights. Made models have the shapes of real ones; those given
on the command line are real headers.
"""

import gzip
import json
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.golden.quant.models import MADE, Made
from tests.making import gguf_pair, gguf_string, text_pair, u32_pair

from snugly.model.ggml_types import FILE_TYPES, row_bytes
from snugly.model.gguf import read_header
from snugly.model.quant_facts import facts_from_metadata
from snugly.model.quant_mixtures import MAIN_TYPES

NUMBERS = {name: number for number, name in FILE_TYPES.items() if name in MAIN_TYPES}
TYPE_NUMBERS = {"F32": 0, "F16": 1}
LINE = re.compile(
    r"^\[ *\d+/ *\d+\] (\S+) +- \[.*type = +(\w+), size = [^(\n]*(?:\((\w+)\))?", re.M
)


def write(made: Made, path: Path) -> None:
    """A GGUF with a true header and a body of nothing."""
    pairs = [text_pair("general.architecture", made.architecture)]
    for key, value in made.metadata.items():
        name = f"{made.architecture}.{key}"
        if isinstance(value, float):
            pairs.append(gguf_pair(name, 6, struct.pack("<f", value)))
        elif isinstance(value, list):
            packed = struct.pack(f"<IQ{len(value)}i", 5, len(value), *value)
            pairs.append(gguf_pair(name, 9, packed))
        else:
            pairs.append(u32_pair(name, value))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(made.tensors), len(pairs)) + b"".join(pairs)
    offset = 0
    for name, shape, kind in made.tensors:
        head += gguf_string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        head += struct.pack("<IQ", TYPE_NUMBERS[kind], offset)
        size = row_bytes(kind, shape[0])
        for extent in shape[1:]:
            size *= extent
        offset += size + -size % 32
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + -len(head) % 32 + offset)


def ask(program: str, path: Path) -> dict[str, dict[str, str]]:
    """{"Q4_K_M": {tensor: type}, "Q4_K_M+imatrix": ...}; a refusal is an empty mapping."""
    asked = [str(number) for number in NUMBERS.values()]
    text = subprocess.run(
        [program, str(path), *asked], capture_output=True, text=True, check=True
    ).stdout
    answers = {}
    for run in text.split("\n@@ ")[1:]:
        number, with_matrix = run.split("\n", 1)[0].split()
        name = FILE_TYPES[int(number)] + ("+imatrix" if with_matrix == "1" else "")
        # The library's warnings on fall-backs stand in lines of their own.
        types = {m[1]: (m[3] or m[2]).upper() for m in LINE.finditer(run)}
        answers[name] = types if "@@rc 0" in run else {}
    return answers


def case(name: str, program: str, path: Path) -> dict[str, object]:
    header = read_header(path)
    answers = ask(program, path)
    letters: dict[str, str] = {}
    rows = {}
    for mixture, types in answers.items():
        kinds = [types.get(tensor.name, "") for tensor in header.tensors]
        if types and not all(kinds):
            raise SystemExit(f"{name} {mixture}: the log was not understood")
        rows[mixture] = "".join(letters.setdefault(k, chr(97 + len(letters))) for k in kinds)
        if not types:
            rows[mixture] = ""
    facts = facts_from_metadata(header.metadata)
    return {
        "name": name,
        "facts": [facts.architecture, facts.n_layers, facts.n_heads, facts.n_kv_heads,
                  facts.n_experts],
        "tensors": [[t.name, t.shape, t.ggml_type] for t in header.tensors],
        "letters": {letter: kind for kind, letter in letters.items()},
        "types": rows,
    }  # fmt: skip


def main(program: str, real: list[str]) -> None:
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for made in MADE:
            path = Path(folder, "made.gguf")
            write(made, path)
            cases.append(case(made.name, program, path))
            path.unlink()
            print(made.name, len(made.tensors), "tensors")
    cases += [case(Path(file).name, program, Path(file)) for file in real]
    out = Path(__file__).with_name("oracle.json.gz")
    out.write_bytes(gzip.compress(json.dumps(cases, separators=(",", ":")).encode(), 9, mtime=0))
    print(out, out.stat().st_size, "bytes", len(cases), "models")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
