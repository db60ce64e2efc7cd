"""The llama-server that `snugly bench --against` starts: a program that only looks like one."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no death with the parent there")

SERVER = """#!{python}
import http.server, os, sys
if "--version" in sys.argv or "--help" in sys.argv:
    sys.exit(print("version: 5 --ctx-size --parallel --flash-attn"))
class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
with open({told!r}, "w") as file:
    print(os.getpid(), sys.argv[1:], file=file)
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Healthy).serve_forever()
"""
BENCH = """
import asyncio, sys
from snugly.engine.bench_peer import peer
from snugly.settings import settings
async def main():
    async with peer("llama-server", "/a/model.gguf", settings()):
        print("ready", flush=True)
        await asyncio.sleep(float(sys.argv[1]))
asyncio.run(main())
"""


def started(folder: Path, seconds: float) -> tuple["subprocess.Popen[str]", int, str]:
    """A bench that has its peer, the peer's process and what that was started with."""
    told, program = folder / "told", folder / "llama-server"
    program.write_text(SERVER.format(python=sys.executable, told=str(told)))
    program.chmod(0o755)
    bench = subprocess.Popen(
        [sys.executable, "-c", BENCH, str(seconds)],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"SNUGLY_LLAMA_SERVER": str(program)},
    )  # fmt: skip
    assert bench.stdout is not None
    with bench.stdout:
        assert bench.stdout.readline() == "ready\n"
    pid, _, words = told.read_text().partition(" ")
    return bench, int(pid), words


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_the_peer_gets_a_model_and_a_port_alone_and_ends_with_the_block(tmp_path: Path) -> None:
    bench, pid, words = started(tmp_path, 0.0)
    assert bench.wait(20) == 0
    assert gone(pid)
    assert words.startswith("['--model', '/a/model.gguf', '--host', '127.0.0.1', '--port', ")
    assert words.count("--") == 3


def test_the_peer_dies_with_a_bench_that_is_killed(tmp_path: Path) -> None:
    bench, pid, _ = started(tmp_path, 600.0)
    assert not gone(pid)
    bench.kill()
    bench.wait()
    deadline = time.monotonic() + 5
    while not gone(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert gone(pid)
