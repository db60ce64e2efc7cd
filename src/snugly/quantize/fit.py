"""A size becomes a file: what matters is learnt, types are chosen, the result is measured."""

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from snugly.errors import UserError
from snugly.model.ggml_types import row_bytes
from snugly.model.progress import Progress
from snugly.model.quant_mixtures import MAIN_TYPES
from snugly.model.quant_names import is_quantizable
from snugly.model.types import Tensor
from snugly.quantize.convert import outline, quantize
from snugly.quantize.jobs_pool import usable_threads
from snugly.quantize.measure import Text
from snugly.quantize.measure_process import answers
from snugly.quantize.reader import Source
from snugly.quantize.reader_imatrix import Imatrix, read_imatrix
from snugly.quantize.sensitivity import VERSION, Sensitivity, identity, read_sensitivity
from snugly.quantize.sensitivity_errors import candidates
from snugly.quantize.solve import Option, smallest, solve, useful
from snugly.quantize.types import Quantized, Recipe
from snugly.units import format_bytes

Watch = Callable[[int, int, str], None]
PLACES = 512  # tokens of a calibration text
TEXTS = 4  # of them: 2,048 tokens, as the prototype of design/quantize.md
_ALIGNMENT = 32


@dataclass(frozen=True, slots=True)
class Fit:
    """Types chosen for a size, before anything is written."""

    recipe: Recipe
    tensors: tuple[Tensor, ...]  # of the file
    n_bytes: int  # of the file, exactly
    predicted_kld: float


@dataclass(frozen=True, slots=True)
class Fitter:
    """A model whose sensitivities are known; any number of sizes can be asked for."""

    source: Source
    sensitivity: Sensitivity
    imatrix: Imatrix | None
    factors: Mapping[str, float] = field(default_factory=dict)  # tensor -> measured correction
    prices: Mapping[str, float] = field(default_factory=dict)  # type -> nats per weight, for speed
    write_prices: Mapping[str, float] = field(default_factory=dict)  # likewise, tables too
    hurry: Mapping[str, float] = field(default_factory=dict)  # tensor -> times its write prices

    @property
    def table(self) -> str:
        """The embeddings where they are read a row per token, and cost no time; else nothing."""
        apart = "output.weight" in self.sensitivity.errors
        return "token_embd.weight" if apart else ""

    def fit(self, budget: int) -> Fit:
        """Types for a file of at most `budget` bytes.

        Raises: UserError when the smallest file is larger.
        """
        names, items = self._items()
        fixed = self._overhead(names)
        chosen = solve(items, budget - fixed)
        if chosen is None:
            raise too_small(budget, fixed + smallest(items))
        return self.of({name: option.name for name, option in zip(names, chosen, strict=True)})

    def bounds(self) -> tuple[int, int]:
        """Bytes of the smallest file, and of one that no further byte makes better."""
        names, items = self._items()
        fixed = self._overhead(names)
        largest = sum(max(useful(options), key=lambda option: option.n_bytes).n_bytes
                      for options in items)  # fmt: skip
        return fixed + smallest(items), fixed + largest

    def of(self, types: Mapping[str, str]) -> Fit:
        """What a choice of types comes to."""
        recipe = Recipe(_mixture(types, self.source), exact=dict(types))
        made = outline(self.source, recipe, self.imatrix)
        cost = sum(self._cost(name, kind) for name, kind in types.items())
        return Fit(recipe, made.tensors, made.n_bytes, cost)

    def predicted(self, tensors: Sequence[Tensor]) -> float:
        """Expected KLD of any file of this model, of types that were tried.

        Raises: KeyError for another type.
        """
        tried = self.sensitivity.errors
        return sum(self._cost(t.name, t.ggml_type) for t in tensors if t.name in tried)

    def corrected(self, factors: Mapping[str, float]) -> "Fitter":
        """The same with losses multiplied, by tensor."""
        return replace(self, factors=factors)

    def _cost(self, name: str, kind: str) -> float:
        return self.sensitivity.errors[name][kind] * self.factors.get(name, 1.0)

    def _items(self) -> tuple[list[str], list[list[Option]]]:
        architecture = str(self.source.metadata.get("general.architecture"))
        names, items = [], []
        for item in self.source.tensors:
            tensor = item.tensor
            errors = self.sensitivity.errors.get(tensor.name)
            if errors and is_quantizable(tensor, architecture):
                names.append(tensor.name)
                weights = 0 if tensor.name == self.table else tensor.n_elements
                written = tensor.n_elements * self.hurry.get(tensor.name, 1.0)
                items.append([
                    Option(kind, _bytes(tensor, kind),
                           self._cost(tensor.name, kind) + self.prices.get(kind, 0.0) * weights
                           + self.write_prices.get(kind, 0.0) * written)
                    for kind in errors
                ])  # fmt: skip
        return names, items

    def _overhead(self, names: Sequence[str]) -> int:
        """Bytes of the file that no choice changes: header, vectors, padding."""
        types = {name: "Q8_0" for name in names}
        for item in self.source.tensors:
            if item.tensor.name in types and item.tensor.shape[0] % 32:
                types[item.tensor.name] = "F16"
        made = outline(self.source, Recipe("Q8_0", exact=types), self.imatrix)
        chosen = sum(t.n_bytes + -t.n_bytes % _ALIGNMENT for t in made.tensors if t.name in types)
        return made.n_bytes - chosen + 64  # the name of the mixture may be longer


def least_bytes(source: Source, tiny: bool) -> int:
    """Bytes of the smallest file, but for some hundred of its header; nothing need be learnt."""
    errors = {
        item.tensor.name: dict.fromkeys(candidates(item.tensor.shape[0], tiny), 0.0)
        for item in source.tensors
        if len(item.tensor.shape) == 2 and item.tensor.shape[1] > 1
    }
    return Fitter(source, Sensitivity("", errors, "", ""), None).bounds()[0]


def too_small(budget: int, least: int) -> UserError:
    """The error for a size that no choice of types reaches."""
    return UserError(
        f"{format_bytes(budget)} is too small for this model.",
        f"In its smallest types it takes {format_bytes(least)} ({least:,} bytes).",
        "Give more, or take a smaller model.",
    )


def learn(
    path: str,
    source: Source,
    text: Text,
    folder: Path,
    *,
    tiny: bool = False,
    places: int = PLACES,
    texts: int = TEXTS,
    threads: int | None = None,
    watch: Watch | None = None,
) -> Fitter:
    """What matters in a model by a calibration text: kept in `folder`, and read from there.

    Takes about three times the reading of the text by the model in single precision.

    Raises: UserError when the model is of no known build, EngineError, BadModelFile.
    """
    key = f"{identity(source)}-{text.sha256[:16]}-{texts}x{places}{'-tiny' if tiny else ''}"
    key += f"-{VERSION}"  # one of another version is left alone, and made anew
    kept = folder / f"{key}.gguf"
    if not kept.exists():
        _demand_folder(folder)
        config = {
            "task": "calibrate", "model": path, "text": text.text, "places": places,
            "texts": texts, "tiny": tiny, "threads": threads or usable_threads(),
            "out": str(kept), "text_name": text.name, "text_sha256": text.sha256,
        }  # fmt: skip
        for answer in answers(config):
            if watch and "step" in answer:
                watch(answer["step"], answer["of"], answer["what"])
    return Fitter(source, read_sensitivity(kept), read_imatrix(kept))


def _demand_folder(folder: Path) -> None:
    """Raise UserError where nothing can be kept, before minutes of work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"What is learnt of a model cannot be kept in {folder}.",
            f"{error.strerror or error}.",
            "Name another folder with the setting `cache` (SNUGLY_CACHE).",
        ) from error


def write(
    fitter: Fitter,
    fit: Fit,
    out: Path,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    resume: bool = False,
) -> Quantized:
    """Write what was chosen."""
    return quantize(fitter.source, out, fit.recipe, imatrix=fitter.imatrix, threads=threads,
                    progress=progress, resume=resume)  # fmt: skip


def _bytes(tensor: Tensor, kind: str) -> int:
    size = row_bytes(kind, tensor.shape[0]) * (tensor.n_elements // tensor.shape[0])
    return size + -size % _ALIGNMENT


def _mixture(types: Mapping[str, str], source: Source) -> str:
    """The named mixture that a file is called after: the one of its commonest type."""
    weights: Counter[str] = Counter()
    sizes = {item.tensor.name: item.tensor.n_elements for item in source.tensors}
    for name, kind in types.items():
        weights[kind] += sizes[name]
    mains = {main: name for name, main in reversed(MAIN_TYPES.items())}
    return next((mains[kind] for kind, _ in weights.most_common() if kind in mains), "Q8_0")
