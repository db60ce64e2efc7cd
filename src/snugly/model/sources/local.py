"""A file or a folder on this machine: used in place, or taken into the store."""

import os
import re
import shutil
from pathlib import Path

from snugly.errors import BadModelFile, UnknownModel, UserError
from snugly.model.download import part_of, require_space
from snugly.model.hashing import sha256_of
from snugly.model.names import is_runnable, part_names, quantization_of, split_of, unsafe_because
from snugly.model.progress import Progress
from snugly.model.sources import Offer, Offered, Wish
from snugly.model.spec import read_spec
from snugly.model.transfer import Patience
from snugly.model.types import Installed, Provenance
from snugly.settings import Settings


def in_place(text: str) -> Installed:
    """The model at a path, to be run where it is; the store learns nothing of it.

    Raises: UnknownModel, UserError, BadModelFile.
    """
    paths = parts_at(text)
    total = sum(path.stat().st_size for path in paths)
    provenance = Provenance("local", str(paths[0]), "", "", total, "")
    return Installed(str(paths[0]), str(paths[0]), tuple(map(str, paths)), provenance, adopted=True)


def parts_at(text: str) -> list[Path]:
    """All files of the model at a path: a file, one part of several, or a folder of one model."""
    path = Path(os.path.abspath(os.path.expanduser(text)))
    if path.is_dir():
        path = _only_model_in(path)
    if not path.exists():
        raise UnknownModel(
            f"There is no file {path}.",
            "A reference that begins with a dot, a slash, ~ or a drive is a path.",
            "Check the path, or write publisher/model for a model of the hub.",
        )
    if not path.is_file():
        raise BadModelFile(f"{path} is not a file.", "It is a device, a pipe or a socket.", "")
    paths = [path.with_name(name) for name in part_names(path.name)]
    missing = [part.name for part in paths if not part.is_file()]
    if missing:
        raise BadModelFile(
            f"{path.name} is one of {len(paths)} parts, and not all are here.",
            f"{missing[0]} is missing in {path.parent}.",
            "Put all parts into one folder.",
        )
    _demand_gguf(paths[0])
    return paths


class Local:
    """Takes a file into the store: a hard link where the disk allows one, else a copy.

    A link costs no room and the model survives the deletion of the original.
    """

    def resolve(self, wish: Wish, settings: Settings) -> Offer:
        """The files at the path."""
        paths = parts_at(wish.path)
        read_spec(paths[0])  # nothing damaged gets into the store
        files = tuple(
            Offered(_safe(path.name), str(path.resolve()), path.stat().st_size, "")
            for path in paths
        )
        first = files[0].name
        split = split_of(first)
        stem = split[0] if split else first.removesuffix(".gguf")
        quantization = quantization_of(stem)
        model = re.sub(rf"[-._]?{re.escape(quantization)}$", "", stem, flags=re.I) or stem
        return Offer("local", "local", _safe(model), str(paths[0]), "", "", files)

    def fetch(
        self,
        offer: Offer,
        file: Offered,
        path: Path,
        settings: Settings,
        progress: Progress,
        patience: Patience,
    ) -> tuple[Path, str]:
        """Link or copy one file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = part_of(path)
        temporary.unlink(missing_ok=True)
        try:
            os.link(file.origin, temporary)
        except OSError:  # another disk, or one without hard links
            require_space(path.parent, file.n_bytes, file.name)
            _copy(Path(file.origin), temporary)
        progress.begin(f"checking {file.name}", file.n_bytes, 0)
        try:
            return temporary, sha256_of(temporary, progress.advance)
        finally:
            progress.end()


def _copy(origin: Path, temporary: Path) -> None:
    try:
        with open(origin, "rb") as source, open(temporary, "xb") as target:
            shutil.copyfileobj(source, target, 1024 * 1024)
            target.flush()
            os.fsync(target.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _only_model_in(folder: Path) -> Path:
    names = sorted(item.name for item in folder.iterdir() if is_runnable(item.name))
    firsts = [name for name in names if name == part_names(name)[0]]
    if len(firsts) == 1:
        return folder / firsts[0]
    if not firsts:
        raise UnknownModel(
            f"There is no GGUF model in {folder}.", "No file of it ends in .gguf.", "Name the file."
        )
    raise UserError(
        f"{folder} holds {len(firsts)} models.",
        f"{', '.join(firsts[:12])}.",
        f"Name one: {folder / firsts[0]}",
    )


def _demand_gguf(path: Path) -> None:
    try:
        with open(path, "rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise BadModelFile(f"{path} cannot be read.", f"{error.strerror}.", "") from error
    if magic != b"GGUF":
        raise BadModelFile(
            f"{path} is not a GGUF file.",
            f"Its first bytes are {magic!r}, not b'GGUF'.",
            "Fetch it again, or convert the model to GGUF first.",
        )


def _safe(name: str) -> str:
    """`name` with what the store refuses replaced, so that any local file can be taken in."""
    if not unsafe_because(name):
        return name
    stem, dot, suffix = name.rpartition(".") if name.lower().endswith(".gguf") else (name, "", "")
    kept = re.sub(r"[^A-Za-z0-9._+-]+", "-", stem).strip(". -")[-120:].lstrip(". -") or "model"
    safe = kept + dot + suffix
    return f"model-{safe}" if unsafe_because(safe) else safe
