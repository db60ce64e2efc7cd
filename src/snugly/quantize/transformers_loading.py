"""A checkpoint read by transformers: safetensors only, and nothing of its own code. Needs an extra.

Pickled weights (`pytorch_model.bin`) run whatever they hold when they are loaded, so they are not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from snugly.errors import BadModelFile, UserError


def loaded(transformers: Any, folder: str, **how: Any) -> Any:
    """A model on the processor; nothing of the checkpoint's own code runs.

    Raises: BadModelFile, UserError.
    """
    with _loading(folder):
        return transformers.AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True,
            device_map={"": "cpu"}, **how,
        )  # fmt: skip


def tokenizer_of(transformers: Any, folder: str) -> Any:
    """The tokenizer of a checkpoint; nothing of its own code runs.

    Raises: BadModelFile, UserError.
    """
    with _loading(folder):
        return transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )


@contextmanager
def _loading(folder: str) -> Iterator[None]:
    """What goes wrong in transformers, in words."""
    try:
        yield
    except ImportError as error:
        raise UserError(
            "transformers lacks something that this model needs.", f"{first_line(error)}."
        ) from error
    except Exception as error:
        expected = isinstance(error, (OSError, ValueError, KeyError, RuntimeError))
        if not expected and type(error) is not Exception:  # all that tokenizers raises
            raise
        if "DefaultCPUAllocator" in str(error):  # torch's own word for memory that ran out
            raise MemoryError from error
        raise BadModelFile(
            f"{Path(folder).name} cannot be loaded by transformers.",
            f"{first_line(error)} ({folder}).",
            "Is it a whole checkpoint: config.json, safetensors and tokenizer?",
        ) from error


def first_line(error: Exception) -> str:
    """What a library says, without its pages of advice and a full stop."""
    if isinstance(error, KeyError):
        return f"It looks for {error} and does not find it"
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:300]
