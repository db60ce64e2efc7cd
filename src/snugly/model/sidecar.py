"""The small JSON beside a stored file, and how files become visible: whole or not at all."""

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from snugly.model.types import Provenance


@dataclass(frozen=True, slots=True)
class Sidecar:
    """Provenance, and for an adopted model the files it points to."""

    provenance: Provenance
    parts: tuple[str, ...] = ()


def beside(path: Path) -> Path:
    """The JSON of a stored file."""
    return path.with_name(path.name + ".json")


def read(path: Path) -> Sidecar | None:
    """The JSON at `path`; None when it is missing or not one of ours."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        known = {field.name: raw[field.name] for field in fields(Provenance)}
        parts = tuple(raw.get("parts", ()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    right = all(isinstance(value, int if name == "n_bytes" else str)
                for name, value in known.items())  # fmt: skip
    if not right or not all(isinstance(part, str) and part for part in parts):
        return None
    return Sidecar(Provenance(**known), parts)


def write(path: Path, content: Sidecar) -> None:
    """Put the JSON at `path`, whole or not at all."""
    body: dict[str, object] = asdict(content.provenance)
    if content.parts:
        body["parts"] = list(content.parts)
    write_text(path, json.dumps(body, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str, mode: int = 0o644, lasting: bool = True) -> None:
    """Put `text` at `path`: a temporary name in the same folder, fsync, rename, fsync.

    `lasting` False: without fsync, for what may be lost in a power cut.
    Raises: OSError; nothing is left behind then.
    """
    import secrets  # here: a plan reads, and writes nothing

    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    # Not mkstemp: its 0600 would stay, and another account may run the same model.
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        if lasting:
            publish(temporary, path)
        else:
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def publish(temporary: Path, path: Path) -> None:
    """Give a finished, fsynced file its name, and make the name last through a power cut."""
    if path.exists() and os.path.samefile(temporary, path):
        temporary.unlink()  # two names of one file: renaming would do nothing and leave both
    else:
        os.replace(temporary, path)
    if os.name != "posix":
        return  # Windows has no way to fsync a folder
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
