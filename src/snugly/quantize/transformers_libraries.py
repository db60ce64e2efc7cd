"""torch, transformers and bitsandbytes: an extra, imported when a worker process needs them."""

import logging
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from snugly.errors import UserError

INSTALL = "pip install 'snugly[transformers]'"  # in a clone: pip install '.[transformers]'
_NEEDED = ("torch", "transformers", "accelerate", "bitsandbytes")


def demand(names: tuple[str, ...] = _NEEDED) -> None:
    """Raise UserError with the command to run when one of the libraries is not installed."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise UserError(
            f"Checkpoints of transformers need {', '.join(missing)}, which is not installed."
            if len(missing) == 1
            else f"Checkpoints of transformers need {', '.join(missing)}, which are not installed.",
            "They are an extra of Snugly's, because torch alone takes 200 MB to 3 GB.",
            f"Run `{INSTALL}` (in a clone of Snugly `pip install '.[transformers]'`); for a"
            " processor alone add `--extra-index-url https://download.pytorch.org/whl/cpu`.",
        )


def libraries(threads: int) -> tuple[Any, Any]:
    """torch, told how many threads to use, and transformers, told to keep quiet.

    For worker processes alone. Raises: UserError when they are missing or broken.
    """
    demand(("torch", "transformers", "accelerate"))
    # int8 on a processor warns at every product of matrices (bitsandbytes 0.50.2).
    logging.disable(logging.WARNING)
    try:
        torch, transformers = import_module("torch"), import_module("transformers")
    except (ImportError, OSError) as error:  # OSError: a library of the system is not there
        raise UserError(
            "torch and transformers are installed, but do not start.",
            f"{error}.",
            f"Install them anew: `{INSTALL} --force-reinstall`.",
        ) from error
    torch.set_num_threads(threads)
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers
