"""Uses the files that other programs already downloaded, without copying them.

The store gets a JSON that points to the file. No link is made: links need a right on
Windows that most people do not have, and a link that dangles tells nothing.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snugly.errors import UserError
from snugly.model import catalog, sidecar
from snugly.model.adopt_places import PROGRAMS, places
from snugly.model.names import is_runnable, part_names, unsafe_because
from snugly.model.store import Store
from snugly.model.types import Installed, Provenance

_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_MODEL_LAYER = "application/vnd.ollama.image.model"
_DEEPEST = 6  # folders below a program's own; guards against links that lead around
_LARGEST_NOTE = 1024 * 1024  # manifests and settings are a few kB


@dataclass(frozen=True, slots=True)
class Found:
    """One model that another program has. `sha256` is empty where the program keeps none."""

    program: str
    publisher: str
    model: str
    file: str
    parts: tuple[str, ...]
    n_bytes: int
    sha256: str = ""
    revision: str = ""

    @property
    def ref(self) -> str:
        """What it will be called in the store."""
        return f"{self.publisher}/{self.model}/{self.file}"


@dataclass(frozen=True, slots=True)
class Adopted:
    """What came of one `Found`: "adopted", "known" (was there before) or "skipped"."""

    found: Found
    outcome: str
    reason: str = ""


def search(home: Path, env: Mapping[str, str], system: str, programs: tuple[str, ...] = ()
           ) -> tuple[Found, ...]:  # fmt: skip
    """Every model of the named programs (none named: of all), each once.

    Raises: UserError for a program that is not known.
    """
    for program in programs:
        if program not in PROGRAMS:
            near = catalog.suggest(program, PROGRAMS)
            raise UserError(
                f"Snugly does not know a program {program!r}.",
                f"Did you mean {near[0]}?" if near else "",
                f"Known are {', '.join(PROGRAMS)}.",
            )
    scans = {"ollama": _ollama, "lmstudio": _lmstudio, "gpt4all": _flat, "jan": _jan,
             "hf-cache": _hf_cache}  # fmt: skip
    found: dict[tuple[str, ...], Found] = {}
    for program, folders in places(home, env, system, _pointed(home, env, system)).items():
        if programs and program not in programs:
            continue
        for folder in folders:
            for item in scans[program](program, folder):
                found.setdefault(tuple(map(os.path.realpath, item.parts)), item)
    return tuple(_distinct(found.values()))


def adopt(found: tuple[Found, ...], store: Store, *, dry_run: bool = False) -> tuple[Adopted, ...]:
    """Point to each of them from the store. Nothing of the other program is touched."""
    installed = {item.ref.casefold(): item for item in store.installed()}
    return tuple(_adopt_one(item, store, installed, dry_run) for item in found)


def _adopt_one(
    item: Found, store: Store, installed: dict[str, Installed], dry_run: bool
) -> Adopted:
    have = installed.get(item.ref.casefold())
    if have is not None and have.parts == item.parts:
        return Adopted(item, "known")
    if have is not None:
        return Adopted(item, "skipped", "a model of this name is in the store")
    if dry_run:
        return Adopted(item, "adopted")
    path = store.place(item.publisher, item.model, item.file)
    path.parent.mkdir(parents=True, exist_ok=True)
    known = Provenance(item.program, item.parts[0], item.revision, item.sha256, item.n_bytes, "")
    sidecar.write(sidecar.beside(path), sidecar.Sidecar(known, item.parts))
    return Adopted(item, "adopted")


def _distinct(found: Any) -> Iterator[Found]:
    """Two different files never get one name: the later one is told apart by its program."""
    taken: set[str] = set()
    for item in found:
        if item.ref.casefold() in taken:
            item = _renamed(item, f"{item.model}-{item.program}")
        if item.ref.casefold() not in taken:
            taken.add(item.ref.casefold())
            yield item


def _renamed(item: Found, model: str) -> Found:
    return Found(item.program, item.publisher, model, item.file, item.parts, item.n_bytes,
                 item.sha256, item.revision)  # fmt: skip


def _pointed(home: Path, env: Mapping[str, str], system: str) -> dict[str, Path]:
    """Folders that LM Studio's and GPT4All's own settings name."""
    found: dict[str, Path] = {}
    pointer = _text(home / ".lmstudio-home-pointer").strip().splitlines()
    studio = Path(pointer[0]) if pointer else home / ".lmstudio"
    if pointer:
        found["lmstudio"] = studio / "models"
    chosen = _json(studio / "settings.json").get("downloadsFolder")
    if isinstance(chosen, str) and os.path.isabs(chosen):
        found["lmstudio"] = Path(chosen)
    config = {
        "Windows": Path(env.get("APPDATA") or home / "AppData" / "Roaming"),
        "Darwin": home / "Library" / "Preferences",
    }.get(system, Path(env.get("XDG_CONFIG_HOME") or home / ".config"))
    match = re.search(r"^modelPath=(.+)$", _text(config / "nomic.ai" / "GPT4All.ini"), re.M)
    if match and os.path.isabs(match[1].strip()):
        found["gpt4all"] = Path(match[1].strip())
    return found


def _ollama(program: str, folder: Path) -> Iterator[Found]:
    """manifests/<host>/<namespace>/<model>/<tag> names blobs/sha256-<digest>."""
    manifests = folder / "manifests"
    for path in sorted(_walk(manifests)):
        names = path.relative_to(manifests).parts
        if len(names) < 4:
            continue
        layers = _json(path).get("layers")
        models = [
            layer
            for layer in (layers if isinstance(layers, list) else ())
            if isinstance(layer, dict) and layer.get("mediaType") == _MODEL_LAYER
        ]
        digest = _DIGEST.fullmatch(str(models[0].get("digest", ""))) if len(models) == 1 else None
        if digest is None:
            continue  # several parts, safetensors or a cloud model: not one GGUF
        blobs = [folder / "blobs" / f"sha256{mark}{digest[1]}" for mark in "-:"]  # ":" till 0.1.31
        blob = next((path for path in blobs if path.is_file()), blobs[0])
        namespace, model, tag = names[-3:]
        publisher = "ollama" if namespace == "library" else namespace
        yield from _one(program, publisher, model, f"{tag}.gguf", [blob], sha256=digest[1])


def _lmstudio(program: str, folder: Path) -> Iterator[Found]:
    """publisher/model/file.gguf, the layout of our own store."""
    for path in sorted(_walk(folder)):
        names = path.relative_to(folder).parts
        publisher, model = (names[-3:-1]) if len(names) >= 3 else ("lmstudio", names[0])
        yield from _first_part(program, publisher, model.removesuffix(".gguf"), path)


def _flat(program: str, folder: Path) -> Iterator[Found]:
    """Files in a folder, or in a folder per model (Jan: <id>/model.gguf)."""
    for path in sorted(_walk(folder)):
        names = path.relative_to(folder).parts
        model = "--".join(names[:-1]) if len(names) > 1 else path.name.removesuffix(".gguf")
        yield from _first_part(program, program, model, path)


def _jan(program: str, folder: Path) -> Iterator[Found]:
    """Files in folders, and files elsewhere that a model.yml imports by absolute path."""
    yield from _flat(program, folder)
    for path in sorted(_walk(folder)):
        if path.name != "model.yml":
            continue
        match = re.search(r"^model_path:\s*[\"']?(.+?)[\"']?\s*$", _text(path), re.M)
        if match and os.path.isabs(match[1]):
            model = "--".join(path.relative_to(folder).parts[:-1]) or "model"
            yield from _first_part(program, program, model, Path(match[1]))


def _hf_cache(program: str, folder: Path) -> Iterator[Found]:
    """models--<publisher>--<model>/snapshots/<commit>/file, a link to blobs/<sha256>."""
    for repository in sorted(_subfolders(folder)):
        match = re.fullmatch(r"models--(.+?)--(.+)", repository.name)
        if match is None:
            continue
        newest = _text(repository / "refs" / "main").strip()
        # The commit that `main` meant last is taken first, then what else is there.
        for snapshot in sorted(
            _subfolders(repository / "snapshots"), key=lambda path: (path.name != newest, path)
        ):
            for path in sorted(_walk(snapshot)):
                if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
                    continue  # the library only links to its own blobs
                blob = Path(os.path.realpath(path)).name
                sha256 = blob if re.fullmatch(r"[0-9a-f]{64}", blob) else ""
                yield from _first_part(
                    program, match[1], match[2], path, sha256=sha256, revision=snapshot.name
                )


def _first_part(program: str, publisher: str, model: str, path: Path, *, sha256: str = "",
                revision: str = "") -> Iterator[Found]:  # fmt: skip
    names = part_names(path.name)
    if not is_runnable(path.name) or path.name != names[0]:
        return
    parts = [path.with_name(name) for name in names]
    yield from _one(program, publisher, model, path.name, parts, sha256=sha256, revision=revision)


def _one(program: str, publisher: str, model: str, file: str, parts: list[Path], *,
         sha256: str = "", revision: str = "") -> Iterator[Found]:  # fmt: skip
    """A `Found` if every part is a real GGUF file that we may read."""
    if not all(map(_is_gguf, parts)) or not _is_text(str(parts[0])):
        return
    n_bytes = sum(part.stat().st_size for part in parts)
    yield Found(program, _safe(publisher), _safe(model), _safe(file), tuple(map(str, parts)),
                n_bytes, sha256, revision)  # fmt: skip


def _safe(name: str) -> str:
    kept = name if not unsafe_because(name) else re.sub(r"[^A-Za-z0-9._+-]+", "-", name)
    kept = kept.strip(". -")[-160:].lstrip(". -") or "model"
    return f"model-{kept}" if unsafe_because(kept) else kept


def _is_text(path: str) -> bool:
    """Whether a path can be written into JSON: Linux allows names that are not UTF-8."""
    try:
        return bool(path.encode())
    except UnicodeEncodeError:
        return False


def _is_gguf(path: Path) -> bool:
    try:
        if not path.is_file():  # follows links; a pipe or a device is never opened
            return False
        with open(path, "rb") as file:
            return file.read(4) == b"GGUF"
    except OSError:
        return False


def _walk(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Files below a folder, links followed, to a depth that ends every circle."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        try:
            is_folder = entry.is_dir()
        except OSError:
            continue
        if not is_folder:
            yield Path(entry.path)
        elif depth < _DEEPEST:
            yield from _walk(Path(entry.path), depth + 1)


def _subfolders(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_dir()]
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_NOTE:
            return ""
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_text(path) or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
