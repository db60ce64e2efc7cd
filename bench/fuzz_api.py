"""What schemathesis makes of the server's OpenAPI document, on the fake engine.

No answer may be 5xx, and each must have a status, a type and a shape that the document names.

    pip install schemathesis
    python bench/fuzz_api.py [EXAMPLES]       # per route, 50 unless said; some 4 minutes

Once as a program of this machine without the token, once with it. `/api/pull` is left out
of the second: it would ask the hub for made-up models, and a failed download is a 502.
"""

import asyncio
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.gateway import server  # noqa: E402
from tests.server.making import fake, stock  # noqa: E402

_CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_schema_conformance", "response_headers_conformance",
)  # fmt: skip
_TOTAL = re.compile(r"(\d+) (?:test cases? generated|generated)[^\n]*")


async def fuzzed(url: str, examples: int, *more: str) -> tuple[int, str]:
    """The exit code of schemathesis, 0 where nothing was found, and what it printed."""
    program = shutil.which("schemathesis") or str(Path(sys.executable).with_name("schemathesis"))
    process = await asyncio.create_subprocess_exec(
        program, "run", f"{url}/openapi.json", "--checks", ",".join(_CHECKS),
        "--max-examples", str(examples), "--generation-database", "none",
        "--request-timeout", "60", "--no-color", *more,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(errors="replace")


async def main() -> int:
    """Both runs; 1 where anything was found."""
    examples = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    found = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stock(folder / "store")
        command = json.dumps(fake("--pieces", "3"))
        async with server(folder, folder / "store", ENGINE_COMMAND=command) as (_, url):
            token = (folder / "server.token").read_text().strip()
            for words, more in (
                ("without the token", ()),
                ("with it", ("-H", f"Authorization: Bearer {token}",
                             "--exclude-path", "/api/pull")),
            ):  # fmt: skip
                code, out = await fuzzed(url, examples, *more)
                found += code != 0
                cases = _TOTAL.search(out)
                told = cases[0] if cases else "no count"
                verdict = "found something" if code else "0 answers 5xx, all as documented"
                print(f"{words}: {verdict}; {told}")
                if code:
                    print(out)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
