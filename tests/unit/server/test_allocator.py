"""Memory that a server's threads have used for a moment goes back to the system."""

import subprocess
import sys

import pytest

# Eight threads that all hold 4 MiB at once, as those that read a header do, and then sleep.
_WORK = """
import sys, threading, time
from pathlib import Path
from snugly.server.allocator import give_back

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

def work():
    for size in (3 << 20, 1 << 20):
        pieces = [b"x" * (size - 64) for _ in range(3)]
        small = [bytes(600) for _ in range(100)]
        meet.wait()
        del pieces
        meet.wait()
        kept.append(small)

if sys.argv[1] == "given back":
    give_back()
kept, meet, end = [], threading.Barrier(8), threading.Event()
threads = [threading.Thread(target=lambda: (work(), end.wait())) for _ in range(8)]
before = resident()
for thread in threads:
    thread.start()
while len(kept) < 16:
    time.sleep(0.01)
print(resident() - before)
end.set()
"""


def kept(how: str) -> int:
    ran = subprocess.run(
        [sys.executable, "-c", _WORK, how], capture_output=True, text=True, check=True
    )
    return int(ran.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_large_pieces_of_threads_go_back() -> None:
    assert kept("given back") < 4 << 20
