"""A checkpoint of the hub, brought here whole: config, tokenizer, safetensors and licence.

Large files are verified by the SHA-256 that the hub gives; small ones, of which it has none,
by commit and size. Nothing that can hold a program (.py, .bin, .pt) is fetched.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from snugly.errors import BadModelFile, DownloadError, UnknownModel
from snugly.model import download, sidecar
from snugly.model.checkpoint_kept import FOLDER
from snugly.model.hashing import sha256_of
from snugly.model.names import unsafe_because
from snugly.model.progress import Progress, Silent
from snugly.model.refs import Ref
from snugly.model.safetensors import INDEX, choose_files, shards_of
from snugly.model.sources import Wish
from snugly.model.sources.hub import Listing, address, listing
from snugly.model.store import Store
from snugly.model.transfer import Patience, Want
from snugly.settings import Settings

if TYPE_CHECKING:
    import httpx2

CONFIG = "config.json"
# What transformers and llama.cpp's converter read beside the weights, and the terms of use.
_BESIDE = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab"
    r"|chat_template|preprocessor_config|processor_config)\.json|merges\.txt|tokenizer\.model"
    r"|chat_template\.jinja|README\.md|(LICEN[SC]E|NOTICE|USE_POLICY)[\w.-]*",
    re.IGNORECASE,
)
_MOST_BESIDE_BYTES = 1 << 27  # the largest tokenizer.json has 35 MB


def has_checkpoint(found: Listing) -> bool:
    """Whether a repository holds the weights of transformers."""
    return CONFIG in found.files and bool(INDEX in found.files or choose_files(tuple(found.files)))


def fetch_checkpoint(
    ref: Ref,
    settings: Settings,
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> Path:
    """The folder with the checkpoint that a reference to the hub names.

    It lies in the cache, by commit; what is there is read again and compared, what was
    interrupted goes on.

    Raises: UnknownModel, UserError, DownloadError, BadModelFile.
    """
    import httpx2

    wish = Wish(ref.text, "hub", ref.publisher, ref.model, ref.revision)
    found = listing(wish, settings)
    if not has_checkpoint(found):
        raise UnknownModel(
            f"{found.repository} holds no checkpoint.",
            f"Of its {len(found.files)} files none is a {CONFIG} with safetensors beside it.",
            "For a repository of GGUF files pull one first: `snugly pull publisher/model:Q8_0`.",
        )
    root = settings.cache / FOLDER
    folder = Store(root).folder(ref.publisher, ref.model) / found.commit[:12]
    patient = patience or Patience()
    with httpx2.Client(follow_redirects=True, timeout=patient.silence_s) as client:
        job = _Job(found, root, folder, settings, progress or Silent(), patient, client)
        for name in sorted(found.files):
            if _BESIDE.fullmatch(name) and 0 < found.files[name][0] <= _MOST_BESIDE_BYTES:
                job.bring(name)
        for name in _weights(job):
            job.bring(name)
    return folder


@dataclass(frozen=True, slots=True)
class _Job:
    """One checkpoint on its way."""

    found: Listing
    root: Path
    folder: Path
    settings: Settings
    progress: Progress
    patience: Patience
    client: "httpx2.Client"

    def bring(self, name: str) -> Path:
        """One file, whole and verified."""
        reason = unsafe_because(name)
        if reason:
            raise DownloadError(
                f"{self.found.repository} cannot be fetched.",
                f"The name of its file {name!r} is refused: {reason}.",
            )
        n_bytes, sha256 = self.found.files[name]
        path = self.folder / name
        try:
            with download.only_one(self.root, path, self.progress):
                if not self._is_here(path, n_bytes, sha256):
                    self._fetch(name, path, n_bytes, sha256)
        except OSError as error:
            raise download.disk_trouble(name, path, error) from error
        return path

    def _fetch(self, name: str, path: Path, n_bytes: int, sha256: str) -> None:
        repository = self.found.repository
        url, headers = address(repository, name, self.found.commit, self.settings)
        page = f"{self.settings.hf_endpoint.rstrip('/')}/{repository}"
        want = Want(name, url, n_bytes, sha256, headers, page)
        part = download.fetch(want, path, self.progress, self.client, self.patience)
        sidecar.publish(part, path)
        download.state_of(path).unlink(missing_ok=True)

    def _is_here(self, path: Path, n_bytes: int, sha256: str) -> bool:
        if not path.is_file() or path.stat().st_size != n_bytes:
            return False
        if not sha256:
            return True
        self.progress.begin(f"checking {path.name}", n_bytes, 0)
        try:
            return sha256_of(path, self.progress.advance) == sha256
        finally:
            self.progress.end()


def _weights(job: _Job) -> tuple[str, ...]:
    """The safetensors files of the checkpoint. Raises: DownloadError, BadModelFile."""
    found = job.found
    names = tuple(choose_files(tuple(found.files)))
    if INDEX in found.files:
        index = job.bring(INDEX)
        try:
            names = shards_of(json.loads(index.read_text(encoding="utf-8")), INDEX)
        except (ValueError, RecursionError) as error:
            raise BadModelFile(f"{INDEX} cannot be read.", f"{error} ({index}).") from error
    for name in names:
        if name not in found.files:
            raise BadModelFile(
                f"{found.repository} is not complete.",
                f"{name} is listed in {INDEX} and not there.",
                "Take another repository or revision.",
            )
        if not found.files[name][1]:
            raise DownloadError(
                f"{found.repository} cannot be fetched.",
                f"No SHA-256 is given for {name}, so it cannot be verified.",
            )
    return names
