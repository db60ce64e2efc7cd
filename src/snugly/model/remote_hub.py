"""A repository of the hub from afar: its GGUF files, or its config.json and safetensors."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from snugly.errors import BadModelFile, DownloadError, UnknownModel
from snugly.model.checkpoint import spec_of_checkpoint
from snugly.model.quant_size import USUAL_TYPES, quantized_file_bytes
from snugly.model.remote_reader import Reader
from snugly.model.remote_types import Distant, DistantCheckpoint, Place, Variant
from snugly.model.safetensors import INDEX, Checkpoint, checkpoint_of, choose_files, shards_of
from snugly.model.sources import Wish
from snugly.model.sources.choice import choose, matches, models_in, type_of
from snugly.model.sources.hub import Listing, address, listing
from snugly.model.types import ModelSpec

CONFIG = "config.json"


def distant(wish: Wish, reader: Reader) -> Distant:
    """What `wish` names in a repository of the hub.

    Raises: UserError, UnknownModel, DownloadError, BadModelFile.
    """
    found, remarks = _listed(wish, reader)
    if models_in(tuple(found.files)) or CONFIG not in found.files:
        parts = choose(tuple(found.files), wish)
        spec = reader.spec([_place(path, found, reader) for path in parts])
        return Distant(_ref(parts[0], wish), spec, remarks, True, reader.transferred)
    config, stored = _checkpoint(found, reader)
    spec, assumed = spec_of_checkpoint(config, found.repository, stored)
    return Distant(
        f"{wish.publisher}/{wish.model}",
        spec,
        (*remarks, *assumed),
        False,
        reader.transferred,
        wish.quantization,
    )


def checkpoint(wish: Wish, reader: Reader) -> DistantCheckpoint:
    """config.json and safetensors of a repository, whether it has GGUF files or not.

    Raises: UserError, UnknownModel, DownloadError, BadModelFile.
    """
    found, remarks = _listed(wish, reader)
    if CONFIG not in found.files:
        raise UnknownModel(
            f"{found.repository} has no config.json.",
            f"It has {len(found.files)} files, and none of that name.",
            "Name the repository of the original weights.",
        )
    config, stored = _checkpoint(found, reader)
    return DistantCheckpoint(found.repository, config, stored, remarks, reader.transferred)


def variants(wish: Wish, named: bool, reader: Reader) -> tuple[Variant, ...]:
    """All models of a repository, small to large; one if a file or quantization was `named`.

    Raises: as `distant`.
    """
    found, _ = _listed(wish, reader)
    models = models_in(tuple(found.files))
    if not models and CONFIG in found.files:
        config, stored = _checkpoint(found, reader)
        spec, _ = spec_of_checkpoint(config, found.repository, stored)
        return made(wish.text, spec)
    if named or not models:
        models = [choose(tuple(found.files), wish)]
    fitting = [parts for parts in models if matches(parts[0], wish.pattern)] or models
    found_all = [_variant(parts, found, wish, reader) for parts in fitting]
    return tuple(sorted(found_all, key=lambda variant: variant.file_bytes))


def made(ref: str, spec: ModelSpec) -> tuple[Variant, ...]:
    """The usual quantizations that could be made of a checkpoint, given in F16."""
    return tuple(
        Variant(ref, name, quantized_file_bytes(spec, name), spec=spec) for name in USUAL_TYPES
    )


def _variant(parts: Sequence[str], found: Listing, wish: Wish, reader: Reader) -> Variant:
    places = tuple(_place(path, found, reader) for path in parts)
    size = sum(found.files[path][0] for path in parts)
    return Variant(_ref(parts[0], wish), type_of(parts[0]), size, places)


def _ref(path: str, wish: Wish) -> str:
    at = f"@{wish.revision}" if wish.revision else ""
    return f"{wish.publisher}/{wish.model}/{path}{at}"


def _listed(wish: Wish, reader: Reader) -> tuple[Listing, tuple[str, ...]]:
    """The files of a repository: asked for, or as they were when it cannot be reached."""
    settings = reader.settings
    key = f"hub {settings.hf_endpoint} {wish.publisher}/{wish.model} {wish.revision}"
    try:
        found = listing(wish, settings)
    except DownloadError as error:
        kept = _kept(reader.shelf.answer(key))
        if kept is None:
            raise
        return kept[0], (f"{error.problem} This is what was read on {kept[1]}.",)
    day = datetime.now(UTC).date().isoformat()
    reader.shelf.keep_answer(key, [day, found.repository, found.commit, found.files])
    return found, ()


def _kept(answer: Any) -> tuple[Listing, str] | None:
    try:
        day, repository, commit, files = answer
        sizes = {str(path): (int(size), str(sha)) for path, (size, sha) in files.items()}
        return Listing(str(repository), str(commit), sizes), str(day)
    except (TypeError, ValueError, AttributeError):
        return None


def _place(path: str, found: Listing, reader: Reader) -> Place:
    size, sha256 = found.files[path]
    url, headers = address(found.repository, path, found.commit, reader.settings)
    pinned = f"sha256 {sha256}" if sha256 else url  # an address with its commit in it
    page = f"{reader.settings.hf_endpoint.rstrip('/')}/{found.repository}"
    return Place(f"{found.repository}/{path}", url, size or None, pinned, headers, page)


def _checkpoint(found: Listing, reader: Reader) -> tuple[dict[str, Any], Checkpoint | None]:
    place = _place(CONFIG, found, reader)
    config = reader.document(place)
    if not isinstance(config, dict):
        raise BadModelFile(
            f"{place.label} is not a model's configuration.",
            "It is not a JSON object.",
            f"Look at {place.page}.",
        )
    return config, _stored(found, reader)


def _stored(found: Listing, reader: Reader) -> Checkpoint | None:
    if INDEX in found.files:
        index = _place(INDEX, found, reader)
        names = shards_of(reader.document(index), index.label)
    else:
        names = choose_files(tuple(found.files))
    missing = [name for name in names if name not in found.files]
    if missing:
        raise BadModelFile(
            f"{found.repository} is not complete.",
            f"{missing[0]} is listed in {INDEX} and not there.",
            "Take another repository or revision.",
        )
    places = [_place(name, found, reader) for name in names]
    return checkpoint_of(reader.stored(places)) if places else None
