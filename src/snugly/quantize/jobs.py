"""The work of one file, cut into pieces that any thread can do in any order. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from snugly.model.ggml_types import row_bytes
from snugly.model.types import Tensor
from snugly.quantize.types import Job, SourceTensor

# Weights of one piece: 4 MiB in single precision, a third of a second for the slowest types
# (IQ3_S, 3 million weights per second and core: docs/quantize.md), 3 ms for the fastest.
CHUNK_WEIGHTS = 1 << 20


def jobs_of(
    sources: Sequence[SourceTensor],
    targets: Sequence[Tensor],
    data_offset: int,
    weighed: Mapping[str, int],
) -> tuple[Job, ...]:
    """All pieces, in the order of the file that is written.

    `targets` are the tensors of that file, `data_offset` where their data starts in it;
    `weighed` are the tensors that have an importance matrix, with its slices (experts).
    """
    by_name = {source.tensor.name: source for source in sources}
    return tuple(
        job
        for target in targets
        for job in _pieces(by_name[target.name], target, data_offset, target.name in weighed)
    )


def _pieces(source: SourceTensor, target: Tensor, data_offset: int, weighed: bool) -> Iterator[Job]:
    """One tensor's pieces. None crosses a segment, a slice of the matrix, or a head."""
    # A vector whose numbers change places is taken as a column.
    column = bool(source.interleave) and len(target.shape) == 1
    length = 1 if column else target.shape[0]
    per_slice = target.shape[1] if len(target.shape) > 1 else 1
    read, written = row_bytes(source.kind, length), row_bytes(target.ggml_type, length)
    whole = source.interleave or 1
    step = max(CHUNK_WEIGHTS // length // whole, 1) * whole
    row = 0  # of the whole tensor
    for segment in source.segments:
        done = 0
        while done < segment.rows:
            rows = min(step, segment.rows - done)
            if weighed:
                rows = min(rows, per_slice - row % per_slice)
            yield Job(
                name=target.name,
                path=segment.path,
                offset=segment.offset + done * read,
                rows=rows,
                row=length,
                kind=source.kind,
                to=target.ggml_type,
                target=data_offset + target.offset + row * written,
                matrix=row // per_slice if weighed else -1,
                interleave=source.interleave,
                add=source.add,
            )
            done, row = done + rows, row + rows


def bytes_read(job: Job) -> int:
    """Bytes that a piece takes from its source."""
    return job.rows * row_bytes(job.kind, job.row)


def bytes_written(job: Job) -> int:
    """Bytes that a piece becomes."""
    return job.rows * row_bytes(job.to, job.row)
