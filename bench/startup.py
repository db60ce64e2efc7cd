"""How long a person waits: help, version, machine, plan, and a cold run to its first token.

    python bench/startup.py [ROUNDS]

The peer in the same run is the Python interpreter doing nothing (`python -c pass`).
The embedded default has to be installed (`snugly pull smollm2`). Bytecode is kept, as where a
package is installed, whatever this environment says of that.
"""

import os
import statistics
import sys

from workload import default_model, header, seconds, snugly, spread

ASK = ("run", "-m", "smollm2", "Explain quantization in one sentence.", "--max-tokens", "16")
COMMANDS = {
    "python -c pass": ([sys.executable, "-c", "pass"], False, None),
    "snugly --version": (snugly("--version"), False, 0.15),
    "snugly --help": (snugly("--help"), False, 0.15),
    "snugly machine": (snugly("machine"), False, 0.5),
    "snugly plan": (snugly("plan"), False, 0.4),
    "snugly plan, another box": (snugly("plan", "--on", "rtx 4060 ti 16gb"), False, 0.4),
    "snugly run, to first token": (snugly(*ASK), True, 1.5),
}


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    default_model()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    header(f"start-up in seconds, median (min .. max) of {rounds} alternating rounds")
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds + 1):
        for name, (words, first, _limit) in COMMANDS.items():
            taken[name].append(seconds(words, first))
    base = statistics.median(taken["python -c pass"][1:])
    for name, (_, _, limit) in COMMANDS.items():
        values = taken[name][1:]  # the first round compiles, and warms the file cache
        bound = f"  limit {limit}" if limit else ""
        times = f"  {statistics.median(values) / base:6.1f} x python"
        print(f"{name:<28}{spread(values)}{times}{bound}")


if __name__ == "__main__":
    main()
