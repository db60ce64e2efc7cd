"""`snugly models` and `snugly rm`: what is in the store."""

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from snugly.cli.render import console, jsonable, note, print_json

if TYPE_CHECKING:
    from pathlib import Path

    from snugly.model.inventory import Problem
    from snugly.model.store import Checked, Store
    from snugly.model.types import Installed

_Json = Annotated[bool, Parameter(name="--json", negative="")]


def models(
    *,
    verify: Annotated[bool, Parameter(negative="")] = False,
    available: Annotated[bool, Parameter(negative="")] = False,
    task: Annotated[str, Parameter(name="--for")] = "",
    as_json: _Json = False,
) -> None:
    """List the models that can be run now, and checkpoints fetched for quantizing.

    Parameters
    ----------
    available
        List the models that have a short name, to be fetched with `snugly pull`.
    task
        Of these only what is made for it, best first: chat, code, complete, summarize,
        reason, translate, embed or rerank.
    verify
        Read every byte again and compare with the recorded SHA-256.
    as_json
        Print everything that is known of each model as JSON.
    """
    from snugly.model.checkpoint_kept import kept_checkpoints
    from snugly.model.store import Store
    from snugly.settings import settings
    from snugly.units import format_bytes

    if available or task:
        from snugly.cli.models_available import print_available

        print_available(task, as_json)
        return
    store = Store(settings().store)
    installed, problems = store.survey()
    checked = {item.ref: _checked(item, store) for item in installed} if verify else {}
    checkpoints = kept_checkpoints(settings().cache)
    if as_json:
        rows = [_row(item, installed, checked.get(item.ref)) for item in installed]
        print_json({"store": store.root, "models": rows, "problems": problems,
                    "checkpoints": checkpoints})  # fmt: skip
    else:
        _print_table(installed, checked)
        if not installed:
            note(f"No model in {store.root} yet: `snugly pull smollm2` fetches a small one.")
    for problem in problems:
        note(f"{problem.ref}: {problem.problem} {problem.remedy}")
    for kept in () if as_json else checkpoints:
        size = format_bytes(kept.n_bytes) + " so far" * kept.unfinished
        note(f"{kept.ref}: a checkpoint for `snugly quantize`, {size};"
             f" `snugly rm {kept.ref}` removes it.")  # fmt: skip
    _demand_whole([item for item in checked.values() if item.problem])


def rm(ref: str, /, *, as_json: _Json = False) -> None:
    """Remove a model or a fetched checkpoint. Of an adopted model only the entry goes.

    Parameters
    ----------
    ref
        As `snugly models` prints it, or as it was pulled.
    as_json
        Print what was removed as JSON.
    """
    from snugly.model.store import Store
    from snugly.settings import settings
    from snugly.units import format_bytes

    store = Store(settings().store)
    broken = _broken(ref, store)
    if broken is not None:
        removed, freed, kept = broken.ref, store.discard(broken), False
    else:
        removed, freed, kept = _remove(ref, store, settings().cache)
    if as_json:
        print_json({"removed": removed, "freed_bytes": freed, "file_kept": kept})
        return
    print(removed)
    note("The file stays: it belongs to another program." if kept
         else f"{format_bytes(freed)} are free again.")  # fmt: skip


def _remove(ref: str, store: "Store", cache: "Path") -> tuple[str, int, bool]:
    """A model, or the checkpoint when no model is called so: name, bytes, whether a file stays."""
    from snugly.errors import UnknownModel
    from snugly.model import checkpoint_kept
    from snugly.model.lookup import find

    checkpoints = checkpoint_kept.kept_checkpoints(cache)
    found = next((item for item in checkpoints if item.ref == ref), None)
    try:
        installed = None if found else find(store, ref, whole_name=True)
    except UnknownModel:
        installed, found = None, checkpoint_kept.named(ref, checkpoints)
        if found is None:
            raise
    if installed is not None:
        return installed.ref, store.remove(installed), installed.adopted
    assert found is not None
    return found.ref, checkpoint_kept.remove(found, cache), False


def _checked(item: "Installed", store: "Store") -> "Checked":
    from snugly.cli.progress import shown

    progress = shown()
    progress.begin(f"checking {item.ref}", item.provenance.n_bytes, 0)
    try:
        return store.verify(item, progress.advance)
    finally:
        progress.end()


def _row(
    item: "Installed", installed: "tuple[Installed, ...]", checked: "Checked | None"
) -> dict[str, Any]:
    from snugly.model.lookup import short_name

    row: dict[str, Any] = {"name": short_name(item, installed), **jsonable(item)}
    if checked is not None:
        row["verified"] = checked.recorded and not checked.problem
        row["problem"] = checked.problem
    return row


def _print_table(installed: "tuple[Installed, ...]", checked: "dict[str, Checked]") -> None:
    from rich.table import Table

    from snugly.model.lookup import short_name
    from snugly.model.names import quantization_of
    from snugly.units import format_bytes

    if not installed:
        return
    if not console().is_terminal:
        for item in installed:
            print(item.ref, item.provenance.n_bytes, item.provenance.source,
                  *_verdict(checked.get(item.ref)), sep="\t")  # fmt: skip
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("quantization", no_wrap=True)
    table.add_column("from", no_wrap=True)
    if checked:
        table.add_column("checked")
    for item in installed:
        table.add_row(short_name(item, installed), format_bytes(item.provenance.n_bytes),
                      quantization_of(item.ref.rpartition("/")[2]), item.provenance.source,
                      *_verdict(checked.get(item.ref)))  # fmt: skip
    console().print(table)


def _verdict(checked: "Checked | None") -> tuple[str, ...]:
    if checked is None:
        return ()
    return ("damaged" if checked.problem else "whole" if checked.recorded else "no checksum",)


def _demand_whole(damaged: "list[Checked]") -> None:
    if not damaged:
        return
    from snugly.errors import BadModelFile

    raise BadModelFile(
        f"{len(damaged)} of the models cannot be trusted.",
        " ".join(f"{item.ref}: {item.problem}." for item in damaged),
        f"`snugly pull {damaged[0].ref}` fetches it again.",
    )


def _broken(ref: str, store: "Store") -> "Problem | None":
    """What `ref` names in full among things in the store that are no model (any more)."""
    wanted = ref.casefold()
    return next((item for item in store.problems() if item.ref.casefold() == wanted), None)
