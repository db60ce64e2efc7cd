"""Models from afar that are not on the hub: Ollama's registry, any URL, a folder here."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from snugly.errors import BadModelFile, DownloadError, UserError
from snugly.model.checkpoint import spec_of_checkpoint
from snugly.model.names import part_names
from snugly.model.refs import HUB_HOSTS, OLLAMA_HOSTS
from snugly.model.remote_bytes import RemoteFile
from snugly.model.remote_reader import Reader
from snugly.model.remote_types import Distant, DistantCheckpoint, Place
from snugly.model.safetensors import checkpoint_in
from snugly.model.sources import Offer, Offered, Wish
from snugly.model.sources.ollama import Ollama, blob_url

# Prefixes of a projector's tensors. Source: llama.cpp tools/mtmd/clip-impl.h.
_PROJECTOR = ("v.", "mm.", "a.")


def is_url(text: str) -> bool:
    """Whether `text` is an address of neither the hub nor Ollama."""
    try:
        url = urlsplit(text.strip())
        host = (url.hostname or "").lower()
    except ValueError:
        return False
    return url.scheme.lower() in ("http", "https") and host not in (*HUB_HOSTS, *OLLAMA_HOSTS)


def of_ollama(wish: Wish, reader: Reader) -> tuple[Offer, Place, tuple[str, ...]]:
    """What Ollama's registry has, or had when it was last asked and cannot be reached now.

    Raises: UnknownModel, DownloadError.
    """
    settings = reader.settings
    key = f"ollama {settings.ollama_registry} {wish.publisher}/{wish.model}:{wish.revision}"
    remarks: tuple[str, ...] = ()
    try:
        offer = Ollama().resolve(wish, settings)
        reader.shelf.keep_answer(key, asdict(offer))
    except DownloadError as error:
        kept = _kept_offer(reader.shelf.answer(key))
        if kept is None:
            raise
        offer, remarks = kept, (f"{error.problem} This is what was read from there before.",)
    file = offer.files[0]
    name = offer.origin.partition(":")[0]
    place = Place(f"{offer.publisher}/{offer.model}/{file.name}", blob_url(offer, file, settings),
                  file.n_bytes, f"sha256 {file.sha256}",
                  page=f"https://ollama.com/{name}")  # fmt: skip
    return offer, place, remarks


def ollama(wish: Wish, reader: Reader) -> Distant:
    """A model of Ollama's registry. Errors: as `of_ollama`, and BadModelFile."""
    offer, place, remarks = of_ollama(wish, reader)
    spec = reader.spec([place])
    if any(tensor.name.startswith(_PROJECTOR) for tensor in spec.tensors):
        remarks += (
            "The file holds its projector too, as Ollama's own engine wants it; llama.cpp"
            " refuses such files. Take the model from the hub.",
        )
    return Distant(ollama_ref(offer), spec, remarks, True, reader.transferred)


def ollama_ref(offer: Offer) -> str:
    """How the model is named so that it can be pulled."""
    return f"ollama:{offer.origin.removeprefix('library/')}"


def at_url(text: str, reader: Reader) -> Distant:
    """A GGUF at any address; all parts when its name is that of one.

    Raises: UserError, DownloadError, BadModelFile.
    """
    places, remarks = places_at(text, reader)
    spec = reader.spec(places)
    return Distant(text, spec, remarks, True, reader.transferred)


def places_at(text: str, reader: Reader) -> tuple[list[Place], tuple[str, ...]]:
    """The files at an address, each with its size and what names its bytes; and remarks."""
    url = urlsplit(text.strip())
    if url.username or url.password:
        raise UserError(
            f"{url.scheme}://... is not a model reference.",
            "It carries a user name or a password.",
            "Download the file yourself and give its path.",
        )
    folder, _, name = url.path.rpartition("/")
    parts = [url._replace(path=f"{folder}/{part}", fragment="").geturl()
             for part in part_names(name)]  # fmt: skip
    found = [_asked(part, reader) for part in parts]
    return [place for place, _ in found], tuple(dict.fromkeys(r for _, r in found if r))


def _asked(url: str, reader: Reader) -> tuple[Place, str]:
    """Ask a server for size and ETag; what it said before counts when it cannot be reached."""
    label = url.partition("?")[0]
    probe = RemoteFile(Place(label, url), reader.client, reader.patience, first_piece=1)
    key = f"url {url}"
    try:
        place = Place(label, url, probe.size, f"{url} {probe.etag}" if probe.etag else "")
    except DownloadError as error:
        kept = reader.shelf.answer(key)
        if not isinstance(kept, list) or len(kept) != 2:
            raise
        place = Place(label, url, int(kept[0]), str(kept[1]))
        return place, f"{error.problem} This is what was read from there before."
    finally:
        reader.count(probe)
    if place.pinned:
        reader.shelf.keep_answer(key, [place.n_bytes, place.pinned])
    return place, ""


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder on this machine is a checkpoint of transformers."""
    return (folder / "config.json").is_file()


def folder(path: Path, ref: str) -> Distant:
    """A checkpoint in a folder on this machine, as a GGUF could be made of it.

    Raises: UserError, BadModelFile.
    """
    found = checkpoint(path)
    spec, remarks = spec_of_checkpoint(found.config, found.name, found.stored)
    return Distant(ref, spec, remarks, False, 0)


def checkpoint(path: Path) -> DistantCheckpoint:
    """A checkpoint in a folder on this machine.

    Raises: BadModelFile.
    """
    place = path / "config.json"
    try:
        config: Any = json.loads(place.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BadModelFile(f"{place} cannot be read.", f"{error}.", "") from error
    if not isinstance(config, dict):
        raise BadModelFile(f"{place} is not a model's configuration.", "It is no JSON object.", "")
    return DistantCheckpoint(path.resolve().name, config, checkpoint_in(path), (), 0)


def _kept_offer(answer: Any) -> Offer | None:
    try:
        files = tuple(Offered(**file) for file in answer.pop("files"))
        return Offer(**answer, files=files) if files else None
    except (TypeError, AttributeError, KeyError):
        return None
