"""`snugly show`: what is inside a model file."""

import os
import sys
from collections import Counter
from typing import Annotated, Any

from cyclopts import Parameter

from snugly.cli.render import console, note, print_json, visible
from snugly.errors import UnknownModel
from snugly.model.lookup import find
from snugly.model.parts import Part, parts_of
from snugly.model.refs import RefKind, parse
from snugly.model.remote import look_up
from snugly.model.remote_places import is_url
from snugly.model.spec import read_spec
from snugly.model.store import Store
from snugly.model.types import AttentionKind, ModelSpec, Provenance
from snugly.settings import settings
from snugly.units import format_bytes, format_count


def show(
    ref: str,
    /,
    *,
    template: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Show what is inside a model file.

    Only the header is read, so a file of any size is shown at once.

    Parameters
    ----------
    ref
        An installed model, a GGUF file or its URL, or any model that `snugly pull` would fetch.
    template
        Print the chat template alone.
    as_json
        Print everything as JSON.
    """
    spec, provenance = _found(ref)
    if as_json:
        print_json(document(spec, provenance))
    elif template:
        template_text = spec.chat_template
        print(visible(template_text) if sys.stdout.isatty() else template_text)
    else:
        _print(spec, provenance)


def _found(ref: str) -> tuple[ModelSpec, Provenance | None]:
    """What is here, else what can be read from afar."""
    if not is_url(ref):
        parsed = parse(ref)
        if parsed.kind is RefKind.PATH and not os.path.isdir(os.path.expanduser(parsed.path)):
            return read_spec(parsed.path), None
        try:
            installed = find(Store(settings().store), ref)
            return read_spec(installed.path), installed.provenance
        except UnknownModel:
            pass
    found = look_up(ref, settings())
    for remark in found.remarks:
        note(remark)
    return found.spec, None


def document(spec: ModelSpec, provenance: Provenance | None) -> dict[str, Any]:
    """What `--json` prints; documented in docs/models.md."""
    return {
        "name": spec.name,
        "path": spec.path,
        "architecture": spec.architecture,
        "parameters": spec.n_params,
        "file_type": spec.file_type,
        "bits_per_weight": bits_per_weight(spec),
        "file_bytes": spec.file_bytes,
        "weight_bytes": spec.weight_bytes,
        "context_train": spec.context_train,
        "embedding_length": spec.embedding_length,
        "feed_forward_length": spec.feed_forward_length,
        "heads": spec.n_heads,
        "layers": spec.layers,
        "experts": spec.experts,
        "experts_used": spec.experts_used,
        "vocabulary": spec.vocab_size,
        "tied_embeddings": spec.tied_embeddings,
        "special_tokens": spec.special_tokens,
        "chat_template": spec.chat_template,
        "licence": spec.licence or (provenance.licence if provenance else ""),
        "causal": spec.is_causal,
        "parts": parts_of(spec),
        "provenance": provenance,
    }


def bits_per_weight(spec: ModelSpec) -> float:
    """Bits that a weight takes on average, scales included."""
    return round(8 * spec.weight_bytes / spec.n_params, 3) if spec.n_params else 0.0


def attention_words(spec: ModelSpec) -> str:
    """How the layers attend, in words: `30 layers, 9 heads over 3 KV heads of 64`."""
    kinds: Counter[str] = Counter(layer.kind.value for layer in spec.layers)
    shapes = {(la.kv_heads, la.key_length, la.value_length) for la in spec.layers if la.kv_heads}
    words = f"{len(spec.layers)} layers, {spec.n_heads} heads"
    if len(shapes) == 1:
        kv_heads, key, value = shapes.pop()
        size = f"{key}" if key == value else f"{key}/{value}"
        words += f" over {kv_heads} KV heads of {size}"
    if set(kinds) - {AttentionKind.FULL.value}:
        words += " (" + ", ".join(f"{n} {kind}" for kind, n in kinds.most_common()) + ")"
    windows = {layer.window for layer in spec.layers if layer.window}
    return words + (f", window {', '.join(map(str, sorted(windows)))}" if windows else "")


def _print(spec: ModelSpec, provenance: Provenance | None) -> None:
    from rich.table import Table

    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(spec, provenance):
        facts.add_row(name, _plain(value))
    out = console()
    out.print(facts)
    out.print()
    parts = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title, side in (("part", "left"), ("tensors", "right"), ("parameters", "right"),
                        ("bytes", "right"), ("kept as", "left")):  # fmt: skip
        parts.add_column(title, justify="right" if side == "right" else "left")
    for part in parts_of(spec):
        parts.add_row(
            part.name,
            str(part.tensors),
            format_count(part.parameters),
            format_bytes(part.n_bytes),
            _types(part),
        )
    out.print(parts)
    if spec.chat_template:
        note("The whole chat template: add --template.")


def _facts(spec: ModelSpec, provenance: Provenance | None) -> list[tuple[str, str]]:
    licence = spec.licence or (provenance.licence if provenance else "")
    tokens = ", ".join(f"{role} {text}" for role, text in spec.special_tokens.items())
    first = spec.chat_template.strip().splitlines()[:1]
    facts = [
        ("name", spec.name),
        ("file", f"{spec.path} ({format_bytes(spec.file_bytes)})"),
        ("architecture", spec.architecture),
        ("parameters", format_count(spec.n_params)),
        ("quantization", f"{spec.file_type}, {bits_per_weight(spec):.2f} bits per weight"),
        ("context", f"{spec.context_train:,} tokens"),
        ("attention", attention_words(spec)),
        ("widths", f"embedding {spec.embedding_length}, feed-forward {spec.feed_forward_length}"),
        ("vocabulary", f"{spec.vocab_size:,} tokens"),
        ("special tokens", tokens or "none named"),
        ("chat template", first[0][:120] if first else "none: it cannot chat, only continue text"),
        ("licence", licence or "not stated"),
    ]
    if spec.experts:
        facts.insert(4, ("experts", f"{spec.experts}, {spec.experts_used} used per token"))
    if provenance is not None:
        facts.append(("from", f"{provenance.source}: {provenance.origin} {provenance.revision}"))
        facts.append(("SHA-256", provenance.sha256 or "not recorded"))
    return facts


def _types(part: Part) -> str:
    if len(part.types) == 1:
        return next(iter(part.types))
    shares = ((kind, 100 * size / part.n_bytes) for kind, size in part.types.items())
    return ", ".join(f"{kind} {f'{share:.0f}' if share >= 1 else '<1'}%" for kind, share in shares)


def _plain(text: str) -> str:
    """Text from a file as a terminal may show it: no control characters, no markup."""
    from rich.markup import escape

    return escape("".join(c if c.isprintable() else "?" for c in text))
