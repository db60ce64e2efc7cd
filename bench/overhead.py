"""What Snugly takes of the engine's decode speed: seen by the person / told by the engine.

    python bench/overhead.py [ROUNDS] [MODEL.gguf]

Each round is a cold `snugly run --json` of 256 tokens; the engine's own figure of the
same run is the peer. Printing to a terminal is measured too: the same through a
pseudo-terminal, from the arrival of the first to the last byte.
"""

import json
import os
import pty
import subprocess
import sys
import time

from workload import default_model, header, snugly, spread

PROMPT = "Write a long story about a lighthouse."
TOKENS = 256


def words(model: str) -> list[str]:
    """A run of a known length at temperature 0."""
    return snugly("run", "-m", model, PROMPT, "--max-tokens", str(TOKENS), "--temperature", "0")


def as_json(model: str) -> float:
    """Ratio of one run, as the process itself saw the pieces arrive."""
    done = subprocess.run(
        [*words(model), "--json"], stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    document = json.loads(done.stdout)
    # Both leave out the first token: the engine's own time starts when it is there.
    told = (document["usage"]["completion_tokens"] - 1) / document["usage"]["decode_ms"] * 1000
    return float(document["seen_decode_tps"] / told)


def at_terminal(model: str) -> float:
    """Ratio of one run, as bytes reached a terminal."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*words(model), "--stats"], stdin=subprocess.DEVNULL, stdout=follower,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(follower)
    first = last = 0.0
    while True:
        try:
            if not os.read(leader, 65536):
                break
        except OSError:  # the other side is closed
            break
        last = time.perf_counter()
        first = first or last
    os.close(leader)
    _, err = process.communicate()
    line = next(line for line in err.splitlines() if line.startswith("decode"))
    told, count = float(line.split()[1]), int(line.split("(")[1].split()[0])
    told *= (count - 1) / count
    return (count - 1) / (last - first) / told


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    model = sys.argv[2] if len(sys.argv) > 2 else default_model()
    header(f"decode speed seen / told by the engine, {rounds} rounds of {TOKENS} tokens")
    ratios: dict[str, list[float]] = {"--json": [], "at a terminal": []}
    for _ in range(rounds):
        ratios["--json"].append(as_json(model))
        ratios["at a terminal"].append(at_terminal(model))
    for name, values in ratios.items():
        print(f"{name:<16}{spread(values)}  limit 0.97")


if __name__ == "__main__":
    main()
