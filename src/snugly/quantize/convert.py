"""From weights in one type to a GGUF in another: what becomes of each tensor, then the work."""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import snugly
from snugly.errors import UserError
from snugly.model.ggml_types import FILE_TYPES
from snugly.model.gguf import read_header
from snugly.model.progress import Progress, Silent
from snugly.model.quant_facts import facts_from_metadata
from snugly.model.quant_mixtures import mixture_of
from snugly.model.quant_rules import quantized
from snugly.model.types import Tensor
from snugly.quantize import writer
from snugly.quantize.convert_checks import demand_matrix, requantized, weighed_tensors
from snugly.quantize.jobs import CHUNK_WEIGHTS, bytes_read, jobs_of
from snugly.quantize.jobs_journal import Journal, discard, read_done
from snugly.quantize.jobs_pool import Pool, usable_threads
from snugly.quantize.kernels import WRITABLE, library_version
from snugly.quantize.reader import Source
from snugly.quantize.reader_imatrix import Imatrix
from snugly.quantize.types import Job, Quantized, Recipe

_FILE_TYPE_NUMBERS = {name: number for number, name in FILE_TYPES.items()}
_QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION of ggml.h
_MAX_VALUE = 127  # bytes of a text in `quantize.imatrix.*`, as in llama_model_kv_override


@dataclass(frozen=True, slots=True)
class Outline:
    """What would be written: known before any weight is read."""

    tensors: tuple[Tensor, ...]
    header: bytes
    weighed: dict[str, int]  # tensors with an importance matrix -> its slices
    remarks: tuple[str, ...]

    @property
    def n_bytes(self) -> int:
        """Of the whole file."""
        return len(self.header) + sum(t.n_bytes + -t.n_bytes % 32 for t in self.tensors)


def outline(source: Source, recipe: Recipe, imatrix: Imatrix | None = None) -> Outline:
    """The file that `quantize` would write, exactly, but for its weights.

    Raises: UserError when the recipe names no type, a tensor needs an importance matrix
    that is not there, or the matrix belongs to another model.
    """
    mixture = mixture_of(recipe.to)
    facts = facts_from_metadata(source.metadata)
    tensors = quantized(
        [item.tensor for item in source.tensors],
        facts,
        recipe.to,
        imatrix=imatrix is not None,
        named=_named(source, recipe),
    )
    weighed, remarks = weighed_tensors(source, tensors, imatrix)
    demand_matrix(source, tensors, weighed, mixture.name)
    remarks = requantized(source, tensors) + remarks
    pairs = _pairs(source, recipe, mixture.name, imatrix)
    return Outline(tensors, writer.header(pairs, tensors), weighed, remarks)


def quantize(
    source: Source,
    out: Path,
    recipe: Recipe,
    *,
    imatrix: Imatrix | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    resume: bool = False,
) -> Quantized:
    """Write `source` as `recipe` says to `out`, whole or not at all.

    Works in a process of its own with one thread per usable core (`threads`), piece by
    piece: memory is about 100 MB and 12 MB per thread, whatever the size of the model.
    When the person interrupts (KeyboardInterrupt) the unfinished file stays, hidden, and
    `resume=True` goes on with it; on an error nothing stays.

    Raises: UserError, BadModelFile, EngineError.
    """
    start = time.monotonic()
    watch = progress or Silent()
    plan = outline(source, recipe, imatrix)
    writer.check_target(out, source.paths)
    part = writer.part_of(out)
    jobs = jobs_of(source.tensors, plan.tensors, len(plan.header), plan.weighed)
    work = _work(source, plan, imatrix)
    with writer.only_one(out):
        done = read_done(part, work, len(jobs)) if resume else set()
        if not done:
            discard(part)
        try:
            writer.make_room(part, plan.n_bytes)
            with writer.said(part, 0):
                _prepare(part, plan, source)
                journal = Journal(part, work, done)
            with Pool(part, imatrix, threads or usable_threads()) as pool:
                _run(pool, jobs, done, journal, watch, recipe.to)
            read_header(part)  # what we wrote must be what we read
            writer.publish(part, out)
        except KeyboardInterrupt:
            raise
        except BaseException:
            discard(part)
            raise
        discard(part)
    return Quantized(out, plan.tensors, out.stat().st_size, time.monotonic() - start, plan.remarks)


def _prepare(part: Path, plan: Outline, source: Source) -> None:
    """The header, and what lies in no file."""
    literals = {item.tensor.name: item.literal for item in source.tensors if item.literal}
    with open(part, "r+b") as file:
        file.write(plan.header)
        for tensor in plan.tensors:
            if tensor.name in literals:
                file.seek(len(plan.header) + tensor.offset)
                file.write(literals[tensor.name])


def _run(
    pool: Pool, jobs: tuple[Job, ...], done: set[int], journal: Journal, watch: Progress, to: str
) -> None:
    total = sum(map(bytes_read, jobs))
    watch.begin(f"Quantizing to {to}", total, sum(bytes_read(jobs[n]) for n in done))
    try:
        pool.run(jobs, (n for n in range(len(jobs)) if n not in done), watch, journal)
    except KeyboardInterrupt:
        journal.flush()
        raise
    finally:
        watch.end()


def _named(source: Source, recipe: Recipe) -> Callable[[str], str | None]:
    """The recipe's own choices as a function of a tensor's name.

    Raises: UserError for a type, a pattern or a name that does not exist.
    """
    exact = {name: _type(kind) for name, kind in recipe.exact.items()}
    unknown = set(exact) - {item.tensor.name for item in source.tensors}
    if unknown:
        raise UserError(
            f"There is no tensor called {min(unknown)!r}.",
            f"The recipe names it, and {len(unknown) - 1} more that the model does not have.",
            "`snugly inspect` lists the tensors of a model.",
        )
    patterns = [(_pattern(pattern), _type(kind)) for pattern, kind in recipe.patterns]

    def named(name: str) -> str | None:
        if name in exact:
            return exact[name]
        return next((kind for pattern, kind in patterns if pattern.search(name)), None)

    return named


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.IGNORECASE)  # llama-quantize takes them in lower case
    except re.error as error:
        raise UserError(
            f"{text!r} is not a pattern.",
            f"{error}.",
            r"Write a regular expression, such as ffn_down or blk\.[0-3]\.attn_v.",
        ) from error


def _type(kind: str) -> str:
    if kind.upper() not in WRITABLE:
        raise UserError(
            f"There is no type {kind!r} that a tensor could be written in.",
            "A name such as Q4_K_M is a mixture of types, not a type."
            if kind.upper() in _FILE_TYPE_NUMBERS
            else "",
            f"Use one of {', '.join(sorted(WRITABLE))}.",
        )
    return kind.upper()


def _pairs(
    source: Source, recipe: Recipe, mixture: str, imatrix: Imatrix | None
) -> dict[str, bytes]:
    """The metadata to write: the source's, then how it was made.

    Keys and their order are llama-quantize's; those that start with `snugly` are ours.
    """
    own = ("general.quantization_version", "general.file_type")
    made = ("quantize.imatrix.", "snugly.quantize.")
    pairs = {
        key: value
        for key, value in source.pairs.items()
        if key not in own and not key.startswith(made)
    }
    pairs[own[0]] = writer.pair("UINT32", _QUANTIZATION_VERSION)
    pairs[own[1]] = writer.pair("UINT32", _FILE_TYPE_NUMBERS[mixture])
    if imatrix is not None:
        # The name alone: the path that llama-quantize writes tells strangers of our folders.
        name = os.path.basename(imatrix.path)
        pairs["quantize.imatrix.file"] = _text(name)
        if imatrix.datasets:
            pairs["quantize.imatrix.dataset"] = _text(imatrix.datasets[0])
        pairs["quantize.imatrix.entries_count"] = writer.pair("UINT32", len(imatrix.entries))
        if imatrix.chunks > 0:
            pairs["quantize.imatrix.chunks_count"] = writer.pair("UINT32", imatrix.chunks)
        pairs["snugly.quantize.imatrix_sha256"] = writer.pair("STRING", imatrix.sha256)
    said = {"to": recipe.to}
    if recipe.patterns:
        said["tensors"] = " ".join(f"{pattern}={kind}" for pattern, kind in recipe.patterns)
    if recipe.exact:
        said["exact"] = hashlib.sha256(
            json.dumps(dict(recipe.exact), sort_keys=True).encode()
        ).hexdigest()
    pairs["snugly.quantize.recipe"] = writer.pair("STRING", json.dumps(said))
    pairs["snugly.quantize.version"] = writer.pair("STRING", snugly.__version__)
    pairs["snugly.quantize.ggml"] = writer.pair("STRING", library_version())
    return pairs


def _text(value: str) -> bytes:
    return writer.pair("STRING", value.encode()[:_MAX_VALUE])


def _work(source: Source, plan: Outline, imatrix: Imatrix | None) -> str:
    """A hash that differs when anything differs that the finished bytes depend on."""
    digest = hashlib.sha256(plan.header)
    for item in source.tensors:
        digest.update(item.literal)
    for path in source.paths:
        found = os.stat(path)
        digest.update(f"{path}\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
    digest.update(f"{imatrix.sha256 if imatrix else ''}\0{CHUNK_WEIGHTS}".encode())
    return digest.hexdigest()
