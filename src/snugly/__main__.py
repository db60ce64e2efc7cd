"""The entry point: `snugly` and `python -m snugly`."""

import gc
import os
import sys

from snugly import __version__

# Python looks for cycles each 700 new objects, and through all of them again and again while
# modules are imported: a sixth of what `snugly plan` took (bench/startup.py), which makes
# 100,000. Garbage without cycles goes at once in any case.
_NEW_OBJECTS = 200_000


def main() -> None:
    """Run the command line; answer `--version` without loading it."""
    gc.set_threshold(_NEW_OBJECTS)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # started with it closed: what is said goes nowhere
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    if sys.argv[1:] in (["--version"], ["-V"]):
        print(f"snugly {__version__}")
        return
    try:
        from snugly.cli.app import run
    except KeyboardInterrupt:  # before anything was there to handle it
        sys.exit(130)
    code = run(sys.argv[1:])
    gc.freeze()  # or Python looks for cycles twice more as it ends: 50 ms of `snugly plan`
    sys.exit(code)


if __name__ == "__main__":
    main()
