"""From a reference to a model in the store. One function."""

from dataclasses import dataclass
from pathlib import Path

from snugly.model import catalog, download, lookup, sidecar
from snugly.model.hashing import sha256_of
from snugly.model.progress import Progress, Silent
from snugly.model.refs import Ref, RefKind, parse
from snugly.model.sources import Offer, Offered, Source, Wish, source
from snugly.model.store import Store
from snugly.model.transfer import Patience
from snugly.model.types import Installed, Provenance
from snugly.settings import Settings


def pull(
    text: str,
    store: Store,
    settings: Settings,
    progress: Progress | None = None,
    *,
    revision: str = "",
    patience: Patience | None = None,
) -> Installed:
    """Fetch what `text` names into the store, or find it there, verified.

    What is there already is read again and compared: a damaged file is fetched again.
    Several processes may pull the same model; one of them downloads.

    Raises: UserError, UnknownModel, DownloadError, BadModelFile.
    """
    job = _Job(store, settings, progress or Silent(), patience or Patience())
    wish = wished(parse(text, revision), store)
    from_where = source(wish.source)
    offer = from_where.resolve(wish, settings)
    folder = store.folder(offer.publisher, offer.model)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in offer.files:
            job.bring(from_where, offer, file, store.place(offer.publisher, offer.model, file.name))
    except OSError as error:
        raise download.disk_trouble(offer.model, folder / offer.files[0].name, error) from error
    finally:
        store.prune(folder)  # nothing came: no empty folder stays
    ref = f"{offer.publisher}/{offer.model}/{offer.files[0].name}"
    return next(item for item in store.installed() if item.ref == ref)


def wished(ref: Ref, store: Store) -> Wish:
    """Which source to ask for what.

    Raises: UnknownModel with near names when a short name means nothing.
    """
    if ref.kind is RefKind.PATH or lookup.is_file(ref.text):
        return Wish(ref.text, "local", path=ref.text)
    if ref.kind is RefKind.HUB:
        entry = catalog.of_repository(ref.repository, ref.file.rpartition("/")[2])
        if entry is not None and entry.source == "pypi":  # named as `snugly models` prints it
            return Wish(ref.text, "pypi", *entry.repository.split("/"))
        return Wish(ref.text, "hub", ref.publisher, ref.model, ref.revision, ref.file,
                    quantization=ref.tag)  # fmt: skip
    if ref.kind is RefKind.OLLAMA:
        return Wish(ref.text, "ollama", ref.publisher, ref.model, revision=ref.tag)
    known = catalog.lookup(ref.name, ref.tag)
    if known is None:
        raise lookup.unknown(ref, store.installed())
    entry, quantization = known
    publisher, _, model = entry.repository.partition("/")
    if not quantization and entry.source == "hub":
        quantization = entry.quantization
    return Wish(ref.text, entry.source, publisher, model, pattern=entry.file,
                quantization=quantization)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Job:
    """One pull: what all of its files share."""

    store: Store
    settings: Settings
    progress: Progress
    patience: Patience

    def bring(self, from_where: Source, offer: Offer, file: Offered, path: Path) -> None:
        """Make one file be in the store, whole and verified."""
        with download.only_one(self.store.root, path, self.progress):
            if self._is_adopted(file, path):
                return
            if self._is_here(file, path):
                self._record(offer, file, path, file.sha256)
                return
            temporary, digest = from_where.fetch(
                offer, file, path, self.settings, self.progress, self.patience
            )
            # The JSON first: a model that can be seen always says where it came from.
            self._record(offer, file, path, digest)
            sidecar.publish(temporary, path)
            download.state_of(path).unlink(missing_ok=True)

    def _is_adopted(self, file: Offered, path: Path) -> bool:
        """Whether another program has the very same file and we point to it."""
        recorded = sidecar.read(sidecar.beside(path))
        if recorded is None or len(recorded.parts) != 1 or path.exists():
            return False
        return self._is_here(file, Path(recorded.parts[0]))

    def _is_here(self, file: Offered, path: Path) -> bool:
        if not file.sha256 or not path.is_file() or path.stat().st_size != file.n_bytes:
            return False
        self.progress.begin(f"checking {file.name}", file.n_bytes, 0)
        try:
            return sha256_of(path, self.progress.advance) == file.sha256
        finally:
            self.progress.end()

    def _record(self, offer: Offer, file: Offered, path: Path, digest: str) -> None:
        known = Provenance(
            offer.source, offer.origin, offer.revision, digest, file.n_bytes, offer.licence
        )
        beside = sidecar.beside(path)
        recorded = sidecar.read(beside)
        if recorded is None or recorded != sidecar.Sidecar(known):
            sidecar.write(beside, sidecar.Sidecar(known))
