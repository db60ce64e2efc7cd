"""The entry point: `snugly` and `python -m snugly`."""

import sys

from snugly import __version__


def main() -> None:
    """Run the command line; answer `--version` without loading it."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        print(f"snugly {__version__}")
        return
    from snugly.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
