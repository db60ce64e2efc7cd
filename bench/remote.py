"""How much of a model is read to plan it from afar: real headers, over HTTP on loopback.

    python bench/remote.py FILE.gguf ... [--delay MS]

Each file is served with true ranges, on a connection where each answer waits MS (default 50)
as over a network. Printed are the file, its header, the bytes and requests of a first look, its
time, and bytes and time of a second one, which finds the header kept. The spec must equal that
of the file read here; else it exits with 1.
"""

import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from snugly.model.gguf import read_header
from snugly.model.remote import spec_from_afar
from snugly.model.remote_types import Distant
from snugly.model.spec import read_spec
from snugly.settings import settings
from snugly.units import format_bytes

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.process.afar_server import Afar, running  # noqa: E402


def look(afar: Afar, name: str) -> tuple[Distant, int, float]:
    """What was read, in how many requests, in how many ms."""
    before, begun = len(afar.asked), time.perf_counter()
    found = spec_from_afar(name, settings())
    return found, len(afar.asked) - before, 1000 * (time.perf_counter() - begun)


def row(afar: Afar, path: Path) -> bool:
    """Print one file's line; whether the spec is that of the file."""
    afar.files[path.name] = path
    url = f"{afar.endpoint}/files/{path.name}"
    first, requests, first_ms = look(afar, url)
    second, _, second_ms = look(afar, url)
    same = replace(first.spec, path="") == replace(read_spec(path), path="")
    print(
        f"{path.name[:44]:<44} {format_bytes(path.stat().st_size):>9}"
        f" {format_bytes(read_header(path).data_offset):>9} {format_bytes(first.read_bytes):>9}"
        f" {requests:>3} {first_ms:>6.0f} {second.read_bytes:>4} B {second_ms:>6.0f}"
        f"  {'equal' if same else 'DIFFERENT'}"
    )
    return same


def main() -> int:
    """Serve the files that were named, look at each twice."""
    words = sys.argv[1:]
    delay = float(words.pop(words.index("--delay") + 1)) if "--delay" in words else 50.0
    with tempfile.TemporaryDirectory() as folder, running() as afar:
        os.environ["SNUGLY_CACHE"] = folder
        settings.cache_clear()
        afar.stall_s = delay / 1000
        print(f"{'file':<44} {'size':>9} {'header':>9} {'read':>9} req first/ms second/ms  spec")
        results = [row(afar, Path(w)) for w in words if not w.startswith("--")]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
