"""References that a person types, read into parts. Pure: nothing is looked up here."""

import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote, urlsplit

from snugly.errors import UserError
from snugly.model.names import unsafe_because

DEFAULT_REF = "smollm2"  # fetched where no model is installed and none is named
HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
OLLAMA_HOSTS = ("ollama.com", "www.ollama.com", "ollama.ai", "registry.ollama.ai")
MAX_LENGTH = 4096  # the longest path that systems take


class RefKind(StrEnum):
    """What a reference names."""

    NAME = "name"  # `smollm2`, `qwen2.5-coder:1.5b`, or part of an installed model's name
    HUB = "hub"  # `publisher/model`, with a file or a tag
    OLLAMA = "ollama"  # `ollama:model:tag`, a model of Ollama's registry
    PATH = "path"  # a file or a folder on this machine


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference in parts; parts that were not given are empty.

    NAME: `name` and `tag`. HUB: `publisher`, `model`, and `file` (a path inside the
    repository, with `/`) or `tag` (a quantization). OLLAMA: `publisher` ("library" unless
    named), `model` and `tag` ("latest" unless named). PATH: `path`, as typed.
    """

    text: str
    kind: RefKind
    name: str = ""
    tag: str = ""
    publisher: str = ""
    model: str = ""
    file: str = ""
    revision: str = ""
    path: str = ""

    @property
    def repository(self) -> str:
        """`publisher/model` as the hub calls it."""
        return f"{self.publisher}/{self.model}"


def parse(text: str, revision: str = "") -> Ref:
    """Read what a person typed.

    Raises: UserError for anything that is not a reference or would leave the store:
    traversal, control characters, device names, odd Unicode.
    """
    stripped = text.strip()
    if not stripped:
        raise _refused(text, "it is empty")
    if len(stripped) > MAX_LENGTH:
        raise _refused(text[:60] + "...", f"it is longer than {MAX_LENGTH} characters")
    if any(ord(character) < 32 or ord(character) == 127 for character in stripped):
        raise _refused(text, "it contains a control character")
    if looks_like_path(stripped):
        if revision:
            raise _refused(text, "a file on this machine has no revision")
        return Ref(stripped, RefKind.PATH, path=stripped)
    ref = _parse_ollama(stripped)
    if ref is None:
        ref = _parse_url(stripped) if "://" in stripped else _parse_remote(stripped)
    if not revision:
        return ref
    return _with_revision(ref, revision)


def looks_like_path(text: str) -> bool:
    r"""Whether `text` can only be a path: `./x`, `../x`, `/x`, `~/x`, `C:\x`, `\\host\x`."""
    if text in (".", "..", "~") or re.match(r"(\.{1,2}|~[^/\\:]*)?[/\\]", text):
        return True
    return re.match(r"[A-Za-z]:[/\\]", text) is not None


def _with_revision(ref: Ref, revision: str) -> Ref:
    if ref.revision and ref.revision != revision:
        raise _refused(ref.text, f"it names revision {ref.revision!r} and --revision {revision!r}")
    if ref.kind is not RefKind.HUB:
        raise _refused(ref.text, "a revision needs a repository: publisher/model@revision")
    return _hub(ref.text, [ref.publisher, ref.model, *filter(None, ref.file.split("/"))],
                tag=ref.tag, revision=revision)  # fmt: skip


def _parse_ollama(text: str) -> Ref | None:
    """`ollama:model:tag` or an address of ollama.com; None when it is neither."""
    scheme, colon, body = text.partition(":")
    if not colon or scheme.lower() != "ollama":
        host, _, body = re.sub(r"^https?://", "", text, flags=re.I).partition("/")
        if host.lower() not in OLLAMA_HOSTS or not body:
            return None
    name, _, tag = unquote(body.strip("/")).partition(":")
    names = name.split("/")
    if len(names) > 2:
        raise _refused(text, "it is not a model of Ollama's registry")
    publisher, model = names if len(names) == 2 else ("library", name)
    return Ref(text, RefKind.OLLAMA, publisher=_part(text, publisher), model=_part(text, model),
               tag=_part(text, tag or "latest"))  # fmt: skip


def _parse_remote(text: str) -> Ref:
    body, revision = text, ""
    for host in HUB_HOSTS:
        if body.lower().startswith(host + "/"):
            body = body[len(host) + 1 :]
            break
    if body.lower().startswith("hf:") and "/" in body:
        body = body[3:]
    if "@" in body:
        body, _, revision = body.partition("@")
        revision, colon, late_tag = revision.partition(":")
        body += colon + late_tag
    body, _, tag = body.partition(":")
    if ":" in tag:
        raise _refused(text, "it has two tags")
    parts = body.split("/")
    if len(parts) == 1:
        if revision:
            raise _refused(text, "a revision needs a repository: publisher/model@revision")
        return Ref(text, RefKind.NAME, name=_part(text, body), tag=_part(text, tag) if tag else "")
    return _hub(text, parts, tag=tag, revision=revision)


def _parse_url(text: str) -> Ref:
    try:
        url = urlsplit(text)
        host = url.hostname or ""
    except ValueError as error:
        raise _refused(text, f"it is not a URL ({error})") from error
    if url.scheme.lower() not in ("http", "https", "hf"):
        raise _refused(text, f"{url.scheme}: is not a way to reach the hub")
    if url.username or url.password:
        raise _refused(f"{url.scheme}://...", "it carries a user name or a password")
    raw = ([host] if url.scheme.lower() == "hf" else []) + url.path.strip("/").split("/")
    if url.scheme.lower() != "hf" and host.lower() not in HUB_HOSTS:
        raise UserError(
            f"Snugly does not fetch from {host or 'this address'}.",
            "Only models of the Hugging Face hub have a revision and a checksum to verify.",
            "Download the file yourself and run `snugly pull ./file.gguf`. For a mirror of the "
            "hub set SNUGLY_HF_ENDPOINT and name the model as publisher/model.",
        )
    parts = [unquote(part) for part in raw]
    if parts and parts[0] in ("datasets", "spaces", "collections", "papers", "docs"):
        raise _refused(text, f"it is one of the hub's {parts[0]}, not a model")
    if len(parts) < 2:
        raise _refused(text, "it names no publisher/model")
    if len(parts) == 2 and ":" in parts[1]:
        parts[1], _, tag = parts[1].partition(":")
        return _hub(text, parts, tag=tag, revision="")
    return _hub_page(text, parts)


def _hub_page(text: str, parts: list[str]) -> Ref:
    repository, rest = parts[:2], parts[2:]
    if not rest:
        return _hub(text, repository, tag="", revision="")
    if rest[0] not in ("resolve", "blob", "tree", "raw") or len(rest) < 2:
        raise _refused(text, "it is not the address of a model or of a file in one")
    revision, inside = rest[1], rest[2:]
    if revision == "refs" and len(inside) >= 2:  # /blob/refs/pr/3/file
        revision, inside = "/".join([revision, *inside[:2]]), inside[2:]
    if rest[0] == "tree":
        inside = []  # a folder: the model is chosen from the whole repository
    return _hub(text, repository + inside, tag="", revision=revision)


def _hub(text: str, parts: list[str], *, tag: str, revision: str) -> Ref:
    checked = [_part(text, part) for part in parts]
    if revision:
        for part in revision.split("/"):
            _part(text, part)
    file = "/".join(checked[2:])
    if file and tag:
        raise _refused(text, "it names a file and a tag; one is enough")
    if file and not file.lower().endswith(".gguf"):
        file += ".gguf"
    return Ref(
        text,
        RefKind.HUB,
        tag=_part(text, tag) if tag else "",
        publisher=checked[0],
        model=checked[1],
        file=file,
        revision=revision,
    )


def _part(text: str, part: str) -> str:
    reason = unsafe_because(part)
    if reason:
        where = f"{part!r}: " if part and part != text else ""
        raise _refused(text, where + reason)
    return part


def _refused(text: str, reason: str) -> UserError:
    return UserError(
        f"{text!r} is not a model reference.",
        reason[0].upper() + reason[1:] + ".",
        "Write a name (smollm2), publisher/model, publisher/model:Q4_K_M, or a path (./file.gguf).",
    )
