"""`snugly inspect`: every tensor of a model, its type and its bytes, and its outliers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from snugly.cli.render import console, note, print_json, visible
from snugly.units import format_bytes, format_count

if TYPE_CHECKING:
    from snugly.model.footprint import Footprint
    from snugly.quantize.reader_weights import Listed, Spread


def inspect(
    model: str,
    /,
    *,
    outliers: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Show every tensor of a model: its type, its bytes and bits per weight.

    For GGUF files and for checkpoints of transformers, of which it also says what
    `model.get_memory_footprint()` prints, and the truth.

    Parameters
    ----------
    model
        An installed model, a GGUF or safetensors file, or a folder with a checkpoint.
    outliers
        Read the weights too, and show for each layer how far they spread.
    as_json
        Print everything as JSON.
    """
    from snugly.quantize.reader_listed import listed

    path = _path(model)
    tensors = listed(path)
    spread = _spreads(tensors) if outliers else {}
    footprint = _footprint(path, tensors)
    if as_json:
        print_json(document(path, tensors, spread, footprint))
        return
    _print_tensors(tensors)
    _print_sums(tensors, footprint)
    if outliers:
        _print_layers(tensors, spread)


def document(
    path: Path,
    tensors: Sequence["Listed"],
    spread: dict[str, "Spread"],
    footprint: "Footprint | None",
) -> dict[str, Any]:
    """What `--json` prints; documented in docs/quantize.md."""
    rows = []
    for tensor in tensors:
        row: dict[str, Any] = {
            "name": tensor.name,
            "type": tensor.kind,
            "shape": tensor.shape,
            "weights": tensor.n_elements,
            "bytes": tensor.n_bytes,
            "bits_per_weight": round(tensor.bits_per_weight, 4),
        }
        if tensor.name in spread:
            row |= _numbers(spread[tensor.name])
        rows.append(row)
    layers = [{"layer": name, **_numbers(value)} for name, value in _by_layer(tensors, spread)]
    total = _total(tensors)
    return {
        "path": path,
        "tensors": rows,
        **asdict(total),
        "bits_per_weight": round(total.bits_per_weight, 4),
        "layers": layers,
        "footprint": footprint
        and {
            "dtype": footprint.dtype,
            "parameters": footprint.parameters,
            "printed_bytes": footprint.printed_bytes,
            "true_bytes": footprint.true_bytes,
        },
    }


@dataclass(frozen=True, slots=True)
class _Total:
    weights: int
    weight_bytes: int
    types: dict[str, int]  # type -> bytes

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.weight_bytes / self.weights if self.weights else 0.0


def _total(tensors: Sequence["Listed"]) -> _Total:
    types: Counter[str] = Counter()
    for tensor in tensors:
        types[tensor.kind] += tensor.n_bytes
    # Scales and codes that a checkpoint keeps as tensors of their own are bytes, not weights.
    helpers = (".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map", ".SCB")
    weights = sum(t.n_elements for t in tensors
                  if not t.name.endswith(helpers) and ".quant_state." not in t.name
                  and not t.name.endswith(".weight_format"))  # fmt: skip
    return _Total(weights, sum(t.n_bytes for t in tensors), dict(types.most_common()))


def _path(model: str) -> Path:
    from snugly.model.lookup import find
    from snugly.model.store import Store
    from snugly.settings import settings

    path = Path(model).expanduser()
    if path.is_dir() or path.suffix == ".safetensors" and path.is_file():
        return path
    return Path(find(Store(settings().store), model).path)


def _spreads(tensors: Sequence["Listed"]) -> dict[str, "Spread"]:
    from snugly.cli.progress import shown
    from snugly.quantize.jobs_pool import usable_threads
    from snugly.quantize.reader_weights import spreads

    progress = shown()
    progress.begin("Reading weights", sum(tensor.n_bytes for tensor in tensors), 0)
    try:
        found = spreads(tensors, usable_threads(), progress.advance)
        return {tensor.name: value for tensor, value in found if value is not None}
    finally:
        progress.end()


def _footprint(path: Path, tensors: Sequence["Listed"]) -> "Footprint | None":
    """What transformers says of a checkpoint in the type it is kept in; None where it cannot."""
    from snugly.errors import SnuglyError
    from snugly.model.footprint import footprint
    from snugly.model.module_tree import tree_of_config
    from snugly.quantize.convert_hf import read_json

    folder = path if path.is_dir() else path.parent
    if path.suffix == ".gguf" or not (folder / "config.json").is_file():
        return None
    config = read_json(folder / "config.json")
    try:
        return footprint(tree_of_config(config, folder.resolve().name), _dtype(config, tensors))
    except SnuglyError as error:
        note(str(error))
        return None


def _dtype(config: dict[str, Any], tensors: Sequence["Listed"]) -> str:
    """The dtype of `snugly footprint` that a checkpoint is kept in."""
    method = config.get("quantization_config") or {}
    if method.get("load_in_8bit"):
        return "int8"
    if method.get("load_in_4bit"):
        kind = str(method.get("bnb_4bit_quant_type", "fp4"))
        return kind + ("-dq" if method.get("bnb_4bit_use_double_quant") else "")
    if method.get("quant_method") == "fp8":
        return "fp8"
    kind = next(iter(_total(tensors).types))
    return {"F32": "float32", "F16": "float16"}.get(kind, "bfloat16")


def _by_layer(
    tensors: Sequence["Listed"], spread: dict[str, "Spread"]
) -> list[tuple[str, "Spread"]]:
    """Matrices of each layer together, then those outside of layers by name."""
    from snugly.quantize.reader_weights import NOTHING

    found: dict[str, Spread] = {}
    for tensor in tensors:
        if tensor.name in spread and len(tensor.shape) > 1:
            key = f"{tensor.layer:d}" if tensor.layer is not None else tensor.name
            found[key] = found.get(key, NOTHING) + spread[tensor.name]
    return sorted(found.items(), key=lambda item: int(item[0]) if item[0].isdigit() else -1)


def _numbers(value: "Spread") -> dict[str, float]:
    numbers = {"rms": value.rms, "largest": value.largest, "peak": value.peak, "tail": value.tail}
    return {name: float(f"{number:.5g}") for name, number in numbers.items()}


def _print_tensors(tensors: Sequence["Listed"]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("TENSOR", overflow="fold")
    table.add_column("TYPE", no_wrap=True)
    for title in ("SHAPE", "BYTES", "BITS"):
        table.add_column(title, justify="right", no_wrap=True)
    for tensor in tensors:
        table.add_row(
            visible(tensor.name).replace("[", r"\["),
            tensor.kind,
            " x ".join(map(str, tensor.shape)) or "1",
            f"{tensor.n_bytes:,}",
            f"{tensor.bits_per_weight:.2f}",
        )
    console().print(table)


def _print_sums(tensors: Sequence["Listed"], footprint: "Footprint | None") -> None:
    out = console()
    total = _total(tensors)
    out.print()
    out.print(
        f"{len(tensors)} tensors, {format_count(total.weights)} weights,"
        f" {format_bytes(total.weight_bytes)} ({total.weight_bytes:,} bytes):"
        f" {total.bits_per_weight:.3f} bits per weight",
        style="bold",
        markup=False,
    )
    shares = [f"{kind} {format_bytes(size)}" for kind, size in total.types.items()]
    out.print(", ".join(shares), markup=False)
    if footprint is not None:
        out.print(
            f"In {footprint.dtype} transformers prints {footprint.printed_bytes / 1e9:.4f} GB;"
            f" it takes {footprint.true_bytes / 1e9:.4f} GB.",
            markup=False,
        )


def _print_layers(tensors: Sequence["Listed"], spread: dict[str, "Spread"]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("MATRICES OF LAYER")
    for title in ("RMS", "LARGEST", "PEAK", "TAIL"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, value in _by_layer(tensors, spread):
        table.add_row(name, f"{value.rms:.5f}", f"{value.largest:.4f}", f"{value.peak:.1f}",
                      f"{value.tail:.1f}")  # fmt: skip
    console().print()
    console().print(table)
    note("PEAK: largest in units of RMS. TAIL: 3 for a normal distribution; more, more outliers.")
