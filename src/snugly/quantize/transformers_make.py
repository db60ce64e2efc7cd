"""A model as a checkpoint of transformers, in a plain type or quantized by bitsandbytes."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import snugly
from snugly.errors import SnuglyError, UserError
from snugly.model import sidecar
from snugly.model.download import DISK_MARGIN_BYTES
from snugly.model.footprint import footprint
from snugly.model.module_tree import tree_of_config
from snugly.quantize import writer
from snugly.quantize.convert_hf import is_checkpoint, read_json
from snugly.quantize.jobs_pool import usable_threads
from snugly.quantize.measure import Watch
from snugly.quantize.measure_process import answers
from snugly.quantize.reader_listed import listed, stored_files
from snugly.quantize.transformers_libraries import demand

# What can be made, in the words of `snugly footprint`. fp8 needs a GPU of its own to be made.
DTYPES = ("float32", "float16", "bfloat16", "int8", "nf4", "nf4-dq", "fp4", "fp4-dq")
MADE = "snugly.json"  # how a checkpoint was made, beside its config.json
_TERMS = ("LICENSE", "LICENCE", "NOTICE", "USE_POLICY")  # as publishers call them
_STEPS = 4  # read, convert, load again, ask


@dataclass(frozen=True, slots=True)
class Made:
    """A finished checkpoint, loaded again and asked."""

    path: Path
    dtype: str
    file_bytes: int  # of its safetensors
    printed_bytes: int  # model.get_memory_footprint()
    true_bytes: int  # with the scales that it leaves out
    answer: str  # a sentence that was begun, as the new model ends it; "" where it cannot run
    seconds: float
    remarks: tuple[str, ...] = ()


def is_checkpoint_type(to: str) -> bool:
    """Whether `to` names a type of transformers ("nf4") rather than one of llama.cpp's."""
    return to.lower() in DTYPES


def make_checkpoint(
    source: Path, out: Path, dtype: str, *, threads: int | None = None, watch: Watch | None = None
) -> Made:
    """Write `source` (a checkpoint's folder or a GGUF file) as a checkpoint to the folder `out`.

    It appears whole or not at all. transformers holds the model that it writes in memory, in
    the type that is written; while a GGUF is read, in float32.

    Raises: UserError when the extra is missing, `out` exists or the disk is too small;
    BadModelFile for damaged weights; EngineError when memory runs out.
    """
    start = time.monotonic()
    dtype = dtype.lower()
    demand()
    _check(source, out)
    with writer.only_one(out), _folder(writer.part_of(out)) as part:
        new, scratch = part / "new", part / "weights"
        new.mkdir()
        _make_room(source, part, dtype)
        config = {
            "task": "checkpoint", "source": str(source), "target": str(new), "dtype": dtype,
            "scratch": str(scratch), "threads": threads or usable_threads(),
        }  # fmt: skip
        told: dict[str, Any] = {}
        for answer in answers(config):
            told |= answer
            if watch and "step" in answer:
                watch(int(answer["step"]), _STEPS, str(answer["what"]))
        size = sum(file.stat().st_size for file in stored_files(new))
        _keep_terms(source, new)
        _write_made(new, source, dtype, told)
        _publish(new, out)
    return Made(out, dtype, size, told["printed_bytes"], told["true_bytes"], told["answer"],
                time.monotonic() - start, tuple(told["remarks"]))  # fmt: skip


def _check(source: Path, out: Path) -> None:
    if source.is_dir():
        if not is_checkpoint(source):
            raise UserError(f"{source} is no checkpoint.", "It has no config.json.")
        if read_json(source / "config.json").get("quantization_config"):
            raise UserError(
                f"{source.name} is quantized already.",
                "Its config.json has a quantization_config.",
                "Give the original checkpoint.",
            )
        listed(source)  # whole, and of safetensors
    writer.check_target(out, (str(source),))


def _make_room(source: Path, part: Path, dtype: str) -> None:
    """Refuse what the disk cannot hold, before anything is loaded. Raises: UserError."""
    size = source.stat().st_size if source.is_file() else sum(t.n_bytes for t in listed(source))
    if source.is_dir():
        config = read_json(source / "config.json")
        try:
            size = footprint(tree_of_config(config, source.name), dtype).true_bytes
        except SnuglyError:
            pass  # a model that we cannot count is at most as large as it is now, in most types
    free = shutil.disk_usage(part).free
    if free < size + DISK_MARGIN_BYTES:
        raise writer.no_room(part, size, free)


@contextmanager
def _folder(part: Path) -> Iterator[Path]:
    """An empty folder beside the result, which is gone afterwards."""
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
    except OSError as error:
        raise writer.cannot_write(part, error, 0) from error
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _keep_terms(source: Path, folder: Path) -> None:
    """The licence goes along with the weights."""
    for file in source.iterdir() if source.is_dir() else ():
        if file.is_file() and file.name.upper().startswith(_TERMS):
            shutil.copyfile(file, folder / file.name)


def _write_made(folder: Path, source: Path, dtype: str, told: dict[str, Any]) -> None:
    """Say in the checkpoint how it was made. The source by name: its folder is ours to know."""
    made = {"to": dtype, "from": source.resolve().name, "snugly": snugly.__version__,
            "versions": {name: version for name, version in told["versions"].items() if version},
            "printed_bytes": told["printed_bytes"], "true_bytes": told["true_bytes"]}  # fmt: skip
    sidecar.write_text(folder / MADE, json.dumps(made, indent=2) + "\n")


def _publish(new: Path, out: Path) -> None:
    """Make all files last, then give the folder its name. Raises: UserError."""
    try:
        for file in new.iterdir():
            file.chmod(0o644)  # transformers writes weights as 0600
            with open(file, "r+b") as opened:
                os.fsync(opened.fileno())
        writer.check_target(out, ())
        sidecar.publish(new, out)
    except OSError as error:
        raise writer.cannot_write(new, error, 0) from error
