"""Which files of a repository make the model that was asked for. Pure."""

import fnmatch
from collections.abc import Sequence

from snugly.errors import UnknownModel, UserError
from snugly.model.catalog import suggest
from snugly.model.names import is_runnable, part_names, quantization_of, split_of
from snugly.model.sources import Wish

# When nothing was said: the smallest loss that most machines can hold, then its neighbours.
# Source of the order: perplexity against size in llama.cpp tools/quantize/README.md.
PREFERRED = ("Q4_K_M", "Q4_K_S", "Q4_K_L", "Q5_K_M", "Q5_K_S", "IQ4_XS", "Q4_0", "Q4_1",
             "MXFP4", "Q6_K", "Q8_0", "Q3_K_M", "BF16", "F16", "F32")  # fmt: skip


def choose(files: Sequence[str], wish: Wish) -> tuple[str, ...]:
    """Paths of the wished model inside its repository, parts in order.

    Raises: UnknownModel when there is no such model or it is incomplete,
    UserError when several fit.
    """
    models = models_in(files)
    if not models:
        raise UnknownModel(
            f"{wish.publisher}/{wish.model} holds no GGUF model.",
            f"It has {len(files)} files, none of them a language model in GGUF form.",
            "Look for a repository of the same name that ends in -GGUF.",
        )
    if wish.file:
        return _named(models, wish)
    fitting = [parts for parts in models if matches(parts[0], wish.pattern)] or models
    wanted = (wish.quantization.upper(),) if wish.quantization else PREFERRED
    for quantization in wanted:
        found = [parts for parts in fitting if type_of(parts[0]) == quantization]
        if found:
            return _only(_shortest(found), wish)
    if wish.quantization:
        return _by_stem(fitting, wish)
    return _only(fitting, wish)


def stored_names(chosen: Sequence[str], files: Sequence[str]) -> tuple[str, ...]:
    """Names in the store, without the repository's folders.

    A folder is kept in the name only where two files would otherwise get the same one.
    """
    names = [path.rpartition("/")[2].lower() for path in files]
    return tuple(
        path.rpartition("/")[2]
        if names.count(path.rpartition("/")[2].lower()) == 1
        else path.replace("/", "__")
        for path in chosen
    )


def models_in(files: Sequence[str]) -> list[tuple[str, ...]]:
    """Every model of the repository as its parts; those with missing parts are left out."""
    present = set(files)
    models = []
    for path in sorted(files):
        folder, slash, name = path.rpartition("/")
        parts = tuple(folder + slash + part for part in part_names(name))
        if is_runnable(name) and path == parts[0] and present.issuperset(parts):
            models.append(parts)
    return models


def _named(models: list[tuple[str, ...]], wish: Wish) -> tuple[str, ...]:
    wanted = wish.file.lower()
    for parts in models:
        # With "__" for "/": the name that `stored_names` gave it, as `snugly models` prints.
        if wanted in (p.lower() for part in parts for p in (part, part.replace("/", "__"))):
            return parts
    same_name = [p for p in models if any(wanted == part.rpartition("/")[2].lower() for part in p)]
    if same_name:
        return _only(same_name, wish)
    known = [parts[0] for parts in models]
    raise UnknownModel(
        f"{wish.publisher}/{wish.model} has no file {wish.file}.",
        f"It has {_listed(known)}.",
        _did_you_mean(suggest(wish.file, known)),
    )


def _by_stem(models: list[tuple[str, ...]], wish: Wish) -> tuple[str, ...]:
    """The tag may be a part of the name instead of a quantization, as in `:instruct-q4`."""
    tag = wish.quantization.lower()
    found = [p for p in models if p[0].rpartition("/")[2].lower().removesuffix(".gguf") == tag]
    if found:
        return _only(found, wish)
    known = sorted({type_of(parts[0]) or _base(parts[0]) for parts in models})
    raise UnknownModel(
        f"{wish.publisher}/{wish.model} has no {wish.quantization}.",
        f"It has {_listed(known)}.",
        _did_you_mean(suggest(wish.quantization, known)),
    )


def _shortest(found: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The same weights whole and in parts: the one with fewer files."""
    bases = {_base(parts[0]).lower() for parts in found}
    return [min(found, key=len)] if len(bases) == 1 else found


def _only(found: list[tuple[str, ...]], wish: Wish) -> tuple[str, ...]:
    if len(found) == 1:
        return found[0]
    raise UserError(
        f"{wish.text!r} can mean {len(found)} models.",
        f"{wish.publisher}/{wish.model} has {_listed([parts[0] for parts in found])}.",
        f"Name one: `snugly pull {wish.publisher}/{wish.model}/{found[0][0]}`.",
    )


def type_of(path: str) -> str:
    """The quantization that the name of a file or of its first part states; else empty."""
    return quantization_of(_base(path))


def _base(path: str) -> str:
    name = path.rpartition("/")[2]
    split = split_of(name)
    return split[0] if split else name.removesuffix(".gguf").removesuffix(".GGUF")


def matches(path: str, pattern: str) -> bool:
    """Whether the name of a file fits a catalogue's pattern; an empty one fits all."""
    return fnmatch.fnmatch(path.rpartition("/")[2].lower(), pattern.lower() or "*")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:12])
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _did_you_mean(near: Sequence[str]) -> str:
    return f"Did you mean {' or '.join(near)}?" if near else "Name one of them."
