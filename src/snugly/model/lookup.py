"""Which installed model a reference means."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from snugly.errors import SnuglyError, UnknownModel, UserError
from snugly.model import catalog
from snugly.model.names import quantization_of
from snugly.model.refs import Ref, RefKind, parse
from snugly.model.store import Store
from snugly.model.types import Installed

Rule = Callable[[Ref, str, Installed], bool]


def find(store: Store, text: str, *, whole_name: bool = False) -> Installed:
    """The installed model that `text` names, or the file at a path, used in place.

    Raises: UserError, UnknownModel, BadModelFile.
    """
    ref = parse(text)
    if ref.kind is RefKind.PATH or is_file(ref.text):
        from snugly.model.sources.local import in_place

        stored = _stored_at(ref.text, store)
        return stored or in_place(ref.text)
    return match(ref, store.installed(), _RULES[:-1] if whole_name else _RULES)


def match(
    ref: Ref, installed: Sequence[Installed], rules: Sequence[Rule] | None = None
) -> Installed:
    """The one of `installed` that `ref` means. Pure.

    The first rule that anything satisfies decides: the exact name, the name without
    its ending, the catalogue, part of the name. Several models are an error, except that
    the catalogue's own choice of quantization wins.
    """
    wanted = ref.text.casefold()
    exact = [item for item in installed if item.ref == ref.text]
    for fitting in (exact, *(_fitting(rule, ref, wanted, installed) for rule in rules or _RULES)):
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            return _preferred(ref, fitting)
    raise unknown(ref, installed)


def unknown(ref: Ref, installed: Iterable[Installed]) -> UnknownModel:
    """The error for a reference that nothing installed answers to, with near names."""
    known = catalog.lookup(ref.name, ref.tag) if ref.kind is RefKind.NAME else None
    if known is not None or ref.kind in (RefKind.HUB, RefKind.OLLAMA):
        return UnknownModel(
            f"{ref.text} is not installed.",
            "It is a model that can be fetched." if known else "",
            f"`snugly pull {ref.text}` fetches it.",
        )
    near = catalog.suggest(ref.text, (*catalog.aliases(), *(item.ref for item in installed)))
    return UnknownModel(
        f"There is no model called {ref.text!r}.",
        f"Did you mean {' or '.join(near)}?" if near else "No name is near to it.",
        "`snugly models` lists what is installed, `snugly models --available` what has a short "
        "name; any GGUF repository of the hub can be pulled as publisher/model.",
    )


def short_name(item: Installed, installed: Sequence[Installed]) -> str:
    """The shortest name that leads to `item` among what is installed. Pure."""
    publisher, model, file = item.ref.split("/")
    entry = catalog.of_repository(f"{publisher}/{model}", file)
    quantization = quantization_of(file)
    names = [f"{publisher}/{model}", f"{publisher}/{model}:{quantization}", item.ref]
    if publisher == "ollama":
        names.insert(0, f"{model}:{file.removesuffix('.gguf')}")
    if entry is not None:
        names = [entry.alias, f"{entry.name}:{entry.tag}-{quantization.lower()}", *names]
    for name in names:
        try:
            if match(parse(name), installed) is item:
                return name
        except SnuglyError:
            continue
    return item.ref


def is_file(text: str) -> bool:
    """Whether `models/x.gguf`, which reads like a reference, is a file that exists."""
    try:
        return text.lower().endswith(".gguf") and Path(text).is_file()
    except (OSError, ValueError):
        return False


def _stored_at(text: str, store: Store) -> Installed | None:
    """The stored model whose file a path leads to, so that its provenance is not lost."""
    try:
        path = Path(text).expanduser().resolve()
        if not path.is_relative_to(store.root.resolve()):
            return None
    except (OSError, RuntimeError, ValueError):
        return None
    return next((i for i in store.installed() if str(path) in map(_resolved, i.parts)), None)


def _resolved(part: str) -> str:
    return str(Path(part).resolve())


def _fitting(
    rule: Rule,
    ref: Ref,
    wanted: str,
    installed: Sequence[Installed],
) -> list[Installed]:
    return [item for item in installed if rule(ref, wanted, item)]


def _by_full_name(ref: Ref, wanted: str, item: Installed) -> bool:
    name = item.ref.casefold()
    return wanted in (name, name.removesuffix(".gguf")) or wanted in map(str.casefold, item.parts)


def _by_repository(ref: Ref, wanted: str, item: Installed) -> bool:
    if ref.kind is RefKind.OLLAMA:  # as `adopt` and the source of that name store it
        publisher = "ollama" if ref.publisher == "library" else ref.publisher
        return item.ref.casefold() == f"{publisher}/{ref.model}/{ref.tag}.gguf".casefold()
    if ref.kind is not RefKind.HUB:
        return False
    folder, _, file = item.ref.casefold().rpartition("/")
    if folder != ref.repository.casefold():
        return False
    if ref.revision and not item.provenance.revision.startswith(ref.revision):
        return False
    if ref.file:
        return file == ref.file.casefold().rpartition("/")[2]
    return not ref.tag or _is_tag(ref.tag, file)


def _by_catalogue(ref: Ref, wanted: str, item: Installed) -> bool:
    if ref.kind is not RefKind.NAME:
        return False
    publisher, model, file = item.ref.split("/")
    if publisher == "ollama":  # adopted from there: its own name and tag
        return (model.casefold(), file.casefold().removesuffix(".gguf")) == (
            ref.name.casefold(),
            (ref.tag or "latest").casefold(),
        )
    known = catalog.lookup(ref.name, ref.tag)
    if known is None or catalog.of_repository(f"{publisher}/{model}", file) != known[0]:
        return False
    return not known[1] or _is_tag(known[1], file)


def _by_family(ref: Ref, wanted: str, item: Installed) -> bool:
    """`qwen2.5` when only another size than the family's default is here."""
    if ref.kind is not RefKind.NAME or ref.tag:
        return False
    publisher, model, file = item.ref.split("/")
    entry = catalog.of_repository(f"{publisher}/{model}", file)
    return entry is not None and entry.name == ref.name.casefold()


def _by_prefix(ref: Ref, wanted: str, item: Installed) -> bool:
    if ref.kind is RefKind.OLLAMA:
        return False  # its name is whole
    publisher, model, file = item.ref.casefold().split("/")
    names = (item.ref.casefold(), f"{model}/{file}", file)
    if ref.tag:
        name = wanted.partition(":")[0]
        return _is_tag(ref.tag, file) and any(candidate.startswith(name) for candidate in names)
    return any(candidate.startswith(wanted) for candidate in names)


_RULES = (_by_full_name, _by_repository, _by_catalogue, _by_family, _by_prefix)


def _is_tag(tag: str, file: str) -> bool:
    stem = file.casefold().removesuffix(".gguf")
    return quantization_of(file) == tag.upper() or stem == tag.casefold()


def _preferred(ref: Ref, fitting: list[Installed]) -> Installed:
    """Among several quantizations of one short name the one that `pull` would have fetched."""
    known = catalog.lookup(ref.name, ref.tag) if ref.kind is RefKind.NAME else None
    if known is not None:
        default = [item for item in fitting if _is_tag(known[0].quantization, item.ref)]
        if len(default) == 1:
            return default[0]
    names = [item.ref for item in fitting]
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    raise UserError(
        f"{ref.text!r} can mean {len(names)} installed models.", f"{shown}.", "Name one of them."
    )
