"""Models that are not here, from their headers: nothing is downloaded but a few MB.

    look_up(text, settings)            a model that is here, else from afar
    spec_from_afar(text, settings)     the one model that a reference means
    variants(text, settings)           all forms in which its repository has it, or could
    spec_of_variant(variant, ...)      the header of one of them
    checkpoint_from_afar(text, ...)    config.json and safetensors, for transformers

References are those of `snugly pull`, any URL of a GGUF, and folders with a config.json.
"""

import os
from pathlib import Path

from snugly.errors import UnknownModel, UserError
from snugly.model import remote_hub, remote_places, remote_wheel
from snugly.model.lookup import find
from snugly.model.pull import wished
from snugly.model.refs import Ref, RefKind, parse
from snugly.model.remote_bytes import QUICK
from snugly.model.remote_reader import Reader
from snugly.model.remote_types import Distant, DistantCheckpoint, Variant
from snugly.model.sources import Wish
from snugly.model.spec import read_spec
from snugly.model.store import Store
from snugly.model.transfer import Patience
from snugly.model.types import ModelSpec
from snugly.settings import Settings


def look_up(text: str, settings: Settings, patience: Patience = QUICK) -> Distant:
    """The model that `text` means: an installed one, a file, or one from afar.

    Raises: UserError, UnknownModel, DownloadError, BadModelFile.
    """
    if remote_places.is_url(text):
        return spec_from_afar(text, settings, patience)
    try:
        installed = find(Store(settings.store), text)
    except UnknownModel:
        ref = parse(text)
        if ref.kind is RefKind.PATH and not remote_places.is_checkpoint(_path(ref)):
            raise
        return spec_from_afar(text, settings, patience)
    return Distant(installed.ref, read_spec(installed.path), (), True, 0)


def spec_from_afar(text: str, settings: Settings, patience: Patience = QUICK) -> Distant:
    """The model that `text` means, from headers alone, whether it is installed or not.

    A GGUF's spec equals that of `read_spec` on the downloaded file, but for its path. Of a
    repository without GGUF files it is what llama.cpp's converter would make, in F16.

    Raises: UserError, UnknownModel, DownloadError, BadModelFile.
    """
    if remote_places.is_url(text):
        with Reader(settings, patience) as reader:
            return remote_places.at_url(text, reader)
    ref = parse(text)
    if ref.kind is RefKind.PATH:
        return remote_places.folder(_folder(ref), text)
    wish = wished(ref, Store(settings.store))
    with Reader(settings, patience) as reader:
        if wish.source == "ollama":
            return remote_places.ollama(wish, reader)
        if wish.source == "pypi":
            return remote_wheel.distant(wish, reader)
        return remote_hub.distant(wish, reader)


def variants(text: str, settings: Settings, patience: Patience = QUICK) -> tuple[Variant, ...]:
    """Every form of a model that can be had, small to large, without reading GGUF headers.

    Of a repository with GGUF files: these. Without: the usual quantizations, with the sizes
    that llama.cpp's rules give. A reference with a file or a quantization gives that one.

    Raises: as spec_from_afar.
    """
    with Reader(settings, patience) as reader:
        if remote_places.is_url(text):
            places, _ = remote_places.places_at(text, reader)
            size = sum(place.n_bytes or 0 for place in places)
            return (Variant(text, "", size, tuple(places)),)
        ref = parse(text)
        if ref.kind is RefKind.PATH:
            return remote_hub.made(text, remote_places.folder(_folder(ref), text).spec)
        wish = wished(ref, Store(settings.store))
        if wish.source == "ollama":
            offer, place, _ = remote_places.of_ollama(wish, reader)
            return (Variant(remote_places.ollama_ref(offer), "", place.n_bytes or 0, (place,)),)
        if wish.source == "pypi":
            found = remote_wheel.distant(wish, reader)
            size = found.spec.file_bytes
            return (Variant(found.ref, found.spec.file_type, size, spec=found.spec),)
        return remote_hub.variants(wish, bool(ref.tag or ref.file), reader)


def spec_of_variant(variant: Variant, settings: Settings, patience: Patience = QUICK) -> ModelSpec:
    """The spec of one variant: a GGUF's from its header; else the checkpoint's, in F16.

    Raises: DownloadError, BadModelFile.
    """
    if variant.spec is not None:
        return variant.spec
    with Reader(settings, patience) as reader:
        return reader.spec(variant.places)


def checkpoint_from_afar(
    text: str, settings: Settings, patience: Patience = QUICK
) -> DistantCheckpoint:
    """config.json and the safetensors' headers of a hub repository, or of a folder here.

    Raises: UserError, UnknownModel, DownloadError, BadModelFile.
    """
    ref = parse(text)
    if ref.kind is RefKind.PATH:
        return remote_places.checkpoint(_folder(ref))
    if ref.kind is not RefKind.HUB:
        raise UserError(
            f"{text} names no checkpoint.",
            "Only repositories of the hub and folders hold a config.json.",
            "Write publisher/model.",
        )
    wish = Wish(text, "hub", ref.publisher, ref.model, ref.revision)
    with Reader(settings, patience) as reader:
        return remote_hub.checkpoint(wish, reader)


def _path(ref: Ref) -> Path:
    return Path(os.path.expanduser(ref.path))


def _folder(ref: Ref) -> Path:
    path = _path(ref)
    if remote_places.is_checkpoint(path):
        return path
    raise UnknownModel(
        f"There is no model at {ref.path}.",
        "It is neither a GGUF file nor a folder with a config.json.",
        "Check the path.",
    )
