"""Ollama's registry, or another that speaks the same part of the registry API.

A manifest lists layers; the one of the media type below is the GGUF, named by its SHA-256.
Source of the API: distribution.github.io/distribution/spec/api (manifests and blobs by digest);
of the media types: ollama/ollama, server/images.go.
"""

import hashlib
import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snugly.errors import DownloadError, UnknownModel
from snugly.model.progress import Progress
from snugly.model.sources import Offer, Offered, Wish
from snugly.model.transfer import TRANSIENT, Patience, Want
from snugly.settings import Settings
from snugly.units import KiB

if TYPE_CHECKING:
    import httpx2

MODEL = "application/vnd.ollama.image.model"
_HEADERS = {
    "Accept": "application/vnd.docker.distribution.manifest.v2+json",
    "Accept-Encoding": "identity",
}
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_MAX_MANIFEST_BYTES = 512 * KiB  # real ones have 1 to 2 KB
_ASK_TIMEOUT_S = 30.0
_ASK_WAITS_S = (1.0, 3.0)


class Ollama:
    """Models of a registry; each is pinned to the SHA-256 of its GGUF."""

    def resolve(self, wish: Wish, settings: Settings) -> Offer:
        """Ask for the manifest of a model and tag.

        Raises: UnknownModel, DownloadError.
        """
        name = f"{wish.publisher}/{wish.model}:{wish.revision}"
        base = settings.ollama_registry.rstrip("/")
        body = _ask(
            f"{base}/v2/{wish.publisher}/{wish.model}/manifests/{wish.revision}", name, base
        )
        digest, n_bytes = _model_layer(body, name)
        publisher = "ollama" if wish.publisher == "library" else wish.publisher
        file = Offered(f"{wish.revision}.gguf", digest, n_bytes, digest)
        commit = hashlib.sha256(body).hexdigest()
        return Offer("ollama", publisher, wish.model, name, commit, "", (file,))

    def fetch(
        self,
        offer: Offer,
        file: Offered,
        path: Path,
        settings: Settings,
        progress: Progress,
        patience: Patience,
    ) -> tuple[Path, str]:
        """Fetch the GGUF."""
        import httpx2

        from snugly.model.download import fetch

        want = Want(file.name, blob_url(offer, file, settings), file.n_bytes, file.sha256)
        with httpx2.Client(follow_redirects=True, timeout=patience.silence_s) as client:
            return fetch(want, path, progress, client, patience), file.sha256


def blob_url(offer: Offer, file: Offered, settings: Settings) -> str:
    """Where the bytes of a file are; the registry redirects from there to its storage."""
    repository = offer.origin.rpartition(":")[0]
    return f"{settings.ollama_registry.rstrip('/')}/v2/{repository}/blobs/sha256:{file.sha256}"


def _model_layer(body: bytes, name: str) -> tuple[str, int]:
    """SHA-256 and size of the one GGUF of a manifest."""
    try:
        layers = json.loads(body)["layers"]
        models = [layer for layer in layers if layer["mediaType"] == MODEL]
        found = [(_DIGEST.fullmatch(layer["digest"]), layer["size"]) for layer in models]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unusable(name, "its manifest is not one") from error
    if len(found) != 1:
        raise _unusable(
            name, f"it has {len(found)} GGUF files: a model of Ollama's cloud or in another form"
        )
    digest, n_bytes = found[0]
    if digest is None or type(n_bytes) is not int or not 0 < n_bytes < 1 << 62:
        raise _unusable(name, "its manifest names no SHA-256 or no size")
    return digest[1], n_bytes


def _ask(url: str, name: str, base: str) -> bytes:
    """The manifest; asked again when the failure may pass."""
    import httpx2

    reason: Any = ""
    with httpx2.Client(follow_redirects=True, timeout=_ASK_TIMEOUT_S) as client:
        for wait in (*_ASK_WAITS_S, None):
            try:
                with client.stream("GET", url, headers=_HEADERS) as response:
                    if response.status_code not in TRANSIENT:
                        return _body(response, name, base)
                    reason = f"It said {response.status_code}"
            except httpx2.TransportError as error:
                reason = str(error) or type(error).__name__
            except (httpx2.RequestError, httpx2.InvalidURL) as error:
                raise _unusable(name, str(error) or type(error).__name__) from error
            if wait is not None:
                time.sleep(wait)
    raise DownloadError(
        f"{base} cannot be reached.",
        f"{reason}.",
        "Check the connection, or name another registry with SNUGLY_OLLAMA_REGISTRY.",
    )


def _body(response: "httpx2.Response", name: str, base: str) -> bytes:
    if response.status_code in (400, 404):
        raise UnknownModel(
            f"There is no model {name.removeprefix('library/')} on {base}.",
            "It does not exist, or it has no such tag.",
            f"Look at https://ollama.com/{name.partition(':')[0]}/tags for its tags.",
        )
    if response.status_code != 200:
        raise _unusable(name, f"the registry answered {response.status_code}")
    body = b""
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > _MAX_MANIFEST_BYTES:
            raise _unusable(name, "its manifest is too long to be one")
    return body


def _unusable(name: str, reason: str) -> DownloadError:
    return DownloadError(
        f"{name.removeprefix('library/')} cannot be read from Ollama's registry.",
        f"{reason[0].upper()}{reason[1:]}.",
        "Try again later, or name a repository of the hub.",
    )
