"""What could be run: the catalogue, what is installed, and what a person named."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from snugly.errors import SnuglyError, UserError
from snugly.history.losses import known_loss
from snugly.model import catalog
from snugly.model.build import build_of
from snugly.model.catalog import Entry
from snugly.model.catalog_builds import build
from snugly.model.catalog_quality import quality_kept, quality_kept_at, quality_of
from snugly.model.lookup import find
from snugly.model.names import quantization_of
from snugly.model.refs import RefKind, parse
from snugly.model.spec import read_spec
from snugly.model.store import Store
from snugly.model.types import Build, Installed, ModelSpec
from snugly.plan.candidates import candidate_of
from snugly.plan.types import Candidate
from snugly.settings import Settings, settings


@dataclass(frozen=True, slots=True)
class Offer:
    """Candidates for one reference, and what had to be assumed of them."""

    candidates: tuple[Candidate, ...]
    remarks: tuple[str, ...] = ()


def catalogue(task: str, store: Store) -> tuple[Candidate, ...]:
    """All models of the catalogue that are meant for `task`, in every type they come in."""
    here = _refs_here(store)
    return tuple(
        candidate
        for entry in catalog.entries()
        if task in entry.tasks
        for candidate in of_entry(entry, task, here)
    )


def of_entry(entry: Entry, task: str, here: Iterable[str] = ()) -> tuple[Candidate, ...]:
    """One model of the catalogue in every type it comes in."""
    found = quality_of(entry, task)
    return tuple(
        Candidate(
            make=partial(_made, entry, name),
            ref=f"{entry.full_name}-{name.lower()}",
            quality=found.value * quality_kept(name, entry.n_params),
            basis=found.basis,
            model=entry.full_name,
            file_type=name,
            outline=outline,
            here=f"{entry.full_name}-{name.lower()}" in here,
        )
        for name, outline in entry.outlines().items()
    )


def _made(entry: Entry, type_name: str) -> Build:
    found = build(entry, type_name)
    if found is None:  # catalog.json and catalog_builds.jsonl are written together
        raise LookupError(f"{entry.full_name} has no build in {type_name}")
    return found


def usual_task(models: Sequence[str]) -> str:
    """What the named models are for: chat, unless the first of them is made for other things."""
    for text in models[:1]:
        if (entry := _catalogued(text)) is not None:
            return "chat" if "chat" in entry.tasks else entry.tasks[0]
        if (spec := _here(text)) is not None:
            return spec.made_for or "chat"
    return "chat"


def _here(text: str) -> ModelSpec | None:
    """The model that is named, where it is on this machine and can be read."""
    try:
        return read_spec(find(Store(settings().store), text).path)
    except SnuglyError:
        return None  # whoever looks it up says what is wrong with it


def _catalogued(text: str) -> Entry | None:
    """The model of the catalogue that is named, if one is."""
    try:
        ref = parse(text)
    except SnuglyError:
        return None  # whoever looks it up says what is wrong with it
    known = catalog.lookup(ref.name, ref.tag) if ref.kind is RefKind.NAME else None
    return None if known is None else known[0]


def installed(store: Store, task: str) -> tuple[tuple[Installed, ModelSpec, Candidate], ...]:
    """What is in the store and can be read, whatever it is meant for."""
    found = []
    for item in store.installed():
        try:
            spec = read_spec(item.path)
        except SnuglyError:
            continue  # `snugly models` says what is wrong with it
        found.append((item, spec, of_file(item, spec, task)))
    return tuple(found)


def of_file(item: Installed, spec: ModelSpec, task: str) -> Candidate:
    """One file that is here."""
    entry = entry_of(item)
    value, basis = _quality(entry, spec, task)
    kept, measured = _kept(spec)
    name = entry.full_name if entry else spec.name
    return candidate_of(build_of(spec), item.ref, value * kept, basis + measured, name, here=True)


def _kept(spec: ModelSpec) -> tuple[float, str]:
    """Which part of its quality a file keeps, and how that is known where it was measured."""
    known = known_loss(spec.name, spec.file_type, spec.file_bytes)
    if known is None:
        return quality_kept(spec.file_type, spec.n_params), ""
    error = f" ± {known.error:.1g}" if math.isfinite(known.error) else ""
    words = f"; measured to lose {known.kld:.2g}{error} nats per token on {known.text}"
    return quality_kept_at(known.kld), words


def entry_of(item: Installed) -> Entry | None:
    """What the catalogue knows of a stored file."""
    publisher, _, rest = item.ref.partition("/")
    model, _, file = rest.partition("/")
    return catalog.of_repository(f"{publisher}/{model}", file)


def _quality(entry: Entry | None, spec: ModelSpec, task: str) -> tuple[float, str]:
    """How good a model is at `task`; of one outside the catalogue by its size alone."""
    if entry is not None and task in entry.tasks:
        found = quality_of(entry, task)
        return found.value, found.basis
    active = _active_params(spec)
    like = replace(
        catalog.entries()[0], n_params=spec.n_params, n_active=active, figures=(), tasks=(task,)
    )
    found = quality_of(like, task)
    return found.value, found.basis


def named(text: str, task: str, config: Settings, types: Sequence[str] = ()) -> Offer:
    """What a person means by `text`, in `types` where that is open.

    An installed model or a file, a config.json, a name of the catalogue, or a model that is
    elsewhere, of which only headers are read.

    Raises: UserError, UnknownModel, BadModelFile, DownloadError.
    """
    if text.endswith(".json"):
        return _of_config(text, task, config, types)
    ref = parse(text)
    known = catalog.lookup(ref.name, ref.tag) if ref.kind is RefKind.NAME else None
    if known is not None:
        return _of_catalogue(*known, task, Store(config.store), types)
    from snugly.model.quant_size import USUAL_TYPES
    from snugly.model.remote import look_up  # here: most plans read nothing from afar

    found = look_up(text, config)
    asked = types or ((found.asked_type,) if found.asked_type else ())
    if not asked and not found.is_file:
        asked = USUAL_TYPES
    name = found.ref if found.is_file else ""
    _check_task(found.spec, text, task)
    return Offer(_of_spec(found.spec, name, task, asked), found.remarks)


def _of_catalogue(
    entry: Entry, quantization: str, task: str, store: Store, types: Sequence[str]
) -> Offer:
    wanted = tuple(types) or ((quantization,) if quantization else ())
    entry = _fit_for(entry, task)
    every = of_entry(entry, task, _refs_here(store))
    if not wanted:
        return Offer(every)
    upper = [name.upper() for name in wanted]
    chosen = tuple(c for c in every if c.file_type in upper)
    missing = [name for name in upper if name not in {c.file_type for c in chosen}]
    if missing:
        raise UserError(
            f"{entry.full_name} is not offered in {', '.join(missing)}.",
            f"{entry.repository} has {', '.join(entry.types)}.",
            "Take one of these, or plan its config.json, from which every type is worked out.",
        )
    return Offer(chosen)


def _fit_for(entry: Entry, task: str) -> Entry:
    """The model as one for `task`; what writes can be asked for anything that is written.

    Raises: UserError where one writes and the other makes vectors or scores.
    """
    if task in entry.tasks:
        return entry
    if {task, *entry.tasks} & {"embed", "rerank"}:
        raise UserError(
            f"{entry.full_name} is not made to {task}.",
            f"It is made for {', '.join(entry.tasks)}.",
            f"`snugly models --available --for {task}` lists what is.",
        )
    return replace(entry, tasks=(*entry.tasks, task))


def _check_task(spec: ModelSpec, text: str, task: str) -> None:
    """Raises: UserError where one writes and the other makes vectors or scores."""
    aside = spec.made_for
    if aside == task or (not aside and task not in ("embed", "rerank")):
        return
    if not aside and task == "embed":
        return  # any model's states can be had as vectors
    raise UserError(
        f"{spec.name} is not made to {task}.",
        f"By its header it {_MAKES[aside]}.",
        f"`snugly plan {text} --for {aside or 'chat'}` plans it for that.",
    )


_MAKES = {"": "writes text", "embed": "makes vectors", "rerank": "scores documents"}


def _refs_here(store: Store) -> frozenset[str]:
    """What of the catalogue is in the store: `name:tag-type`, the type as the file's name says."""
    found = set()
    for item in store.installed():
        entry = entry_of(item)
        if entry is not None:
            found.add(f"{entry.full_name}-{quantization_of(item.ref).lower()}")
    return frozenset(found)


def _of_config(text: str, task: str, config: Settings, types: Sequence[str]) -> Offer:
    from snugly.model.config import open_points, spec_of_config
    from snugly.model.config_source import config_of
    from snugly.model.quant_size import USUAL_TYPES

    path = Path(text).expanduser()
    name = path.resolve().parent.name if path.name == "config.json" else path.stem
    shape = config_of(text, config).config
    spec = spec_of_config(shape, name)
    # A config tells nothing of the tokenizer's merges: as many as tokens is the usual case.
    spec = replace(spec, n_merges=spec.n_merges or spec.vocab_size)
    return Offer(_of_spec(spec, "", task, types or USUAL_TYPES), open_points(shape, name))


def _of_spec(spec: ModelSpec, ref: str, task: str, types: Sequence[str]) -> tuple[Candidate, ...]:
    """A candidate for each of `types`, or of the spec as it is.

    `ref` names the file that it was read from, empty: there is none. In another type there is
    no file yet either.
    """
    from snugly.model.quant_size import in_type

    value, basis = _quality(None, spec, task)
    specs = [in_type(spec, name) for name in types] if types else [spec]
    found = []
    for one in specs:
        kept, measured = _kept(one)
        where = ref if one.file_type == spec.file_type else ""
        found.append(candidate_of(build_of(one), where, value * kept, basis + measured, spec.name))
    return tuple(found)


def siblings(candidate: Candidate, every: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """The same model in its other types."""
    return tuple(c for c in every if c.model == candidate.model and c is not candidate)


def _active_params(spec: ModelSpec) -> int:
    """Parameters that one token reads: of a mixture, only the experts that it uses."""
    total = 0
    for tensor in spec.tensors:
        share = spec.experts_used / spec.experts if "_exps" in tensor.name and spec.experts else 1
        total += round(tensor.n_elements * share)
    return total
