"""Where a model's config.json comes from: a file or folder here, the hub, or our own copy."""

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from snugly.errors import BadModelFile, DownloadError, UnknownModel, UserError
from snugly.model import catalog
from snugly.model.lookup import unknown
from snugly.model.refs import RefKind, parse
from snugly.model.remote_bytes import QUICK
from snugly.model.remote_reader import Reader
from snugly.model.remote_types import Place
from snugly.model.sources import Wish
from snugly.model.sources.hub import address, listing
from snugly.model.transfer import Patience
from snugly.settings import Settings

CONFIG = "config.json"
_MOST_BYTES = 16 * 1024**2  # the largest published config.json has about 1 MB (lists of modules)


@dataclass(frozen=True, slots=True)
class SourcedConfig:
    """One config.json: what is in it, what to call the model, and what is to be said of it."""

    config: dict[str, Any]
    name: str
    remarks: tuple[str, ...] = ()


def config_of(text: str, settings: Settings, patience: Patience = QUICK) -> SourcedConfig:
    """The config.json that `text` names: a file, a folder, a hub repository or a short name.

    A short name, and a repository of GGUF files that the catalogue knows, mean the weights
    that the files were made from.

    Raises: UserError, UnknownModel, DownloadError, BadModelFile.
    """
    if text.endswith(".json") or Path(text).expanduser().is_dir():
        return _here(Path(text).expanduser())
    ref = parse(text)
    if ref.kind is RefKind.PATH:
        path = Path(ref.path).expanduser()
        if path.suffix.lower() == ".gguf":
            raise UserError(
                f"{path.name} is a GGUF file, which transformers does not keep in its dtypes.",
                "A footprint is worked out from the config.json of the original weights.",
                f"`snugly plan {text}` tells what this file takes; for a footprint give the"
                " repository of the original, or its config.json.",
            )
        return _here(path)
    if ref.kind is RefKind.HUB:
        entry = catalog.of_repository(ref.repository, ref.file.rpartition("/")[2])
        repository, revision = (entry.original, "") if entry else (ref.repository, ref.revision)
    else:
        known = catalog.lookup(ref.name, ref.tag) if ref.kind is RefKind.NAME else None
        if known is None:
            raise unknown(ref, ())
        repository, revision = known[0].original, ""
    try:
        return _on_hub(text, repository, revision, settings, patience)
    except DownloadError as error:
        copy = None if revision else own_copy(repository)
        if copy is None:
            raise
        return SourcedConfig(
            copy, repository, (f"{error.problem} This is the copy that came with Snugly.",)
        )


def _here(path: Path) -> SourcedConfig:
    place = path / CONFIG if path.is_dir() else path
    try:
        with place.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UserError(f"{place} cannot be read.", f"{error.strerror}.") from error
    if len(data) > _MOST_BYTES:
        raise UserError(f"{place} is not a model's configuration.", "It is too large for one.")
    try:
        config = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is not JSON.", f"{error}.") from None
    folder = place.resolve().parent.name
    return SourcedConfig(
        _checked(config, str(place)), folder if place.name == CONFIG else path.stem
    )


def _on_hub(
    text: str, repository: str, revision: str, settings: Settings, patience: Patience
) -> SourcedConfig:
    publisher, _, model = repository.partition("/")
    found = listing(Wish(text, "hub", publisher, model, revision), settings)
    if CONFIG not in found.files:
        raise UnknownModel(
            f"{repository} has no {CONFIG}.",
            "Repositories of GGUF files seldom have one.",
            "Name the repository of the weights that they were made from.",
        )
    url, headers = address(repository, CONFIG, found.commit, settings)
    page = f"{settings.hf_endpoint.rstrip('/')}/{repository}"
    place = Place(f"{repository}/{CONFIG}", url, found.files[CONFIG][0] or None, url, headers, page)
    with Reader(settings, patience) as reader:
        return SourcedConfig(_checked(reader.document(place), place.label), repository)


def own_copy(repository: str) -> dict[str, Any] | None:
    """The shape of a model of the catalogue; none where its vision part would be missing."""
    if any(entry.vision for entry in catalog.entries() if entry.original == repository):
        return None
    text = resources.files("snugly.model").joinpath("catalog_configs.json").read_text("utf-8")
    kept = json.loads(text).get(repository)
    return dict(kept["config"]) if kept else None


def _checked(config: Any, where: str) -> dict[str, Any]:
    if isinstance(config, dict):
        return config
    raise BadModelFile(f"{where} is not a model's configuration.", "It is not a JSON object.")
