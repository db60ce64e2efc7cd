"""`snugly adopt`: use files that other programs already downloaded."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from snugly.cli.render import note, print_json

if TYPE_CHECKING:
    from snugly.model.adopt import Adopted


def adopt(
    *programs: str,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Use files that other programs already downloaded, without copying them.

    Parameters
    ----------
    programs
        ollama, lmstudio, gpt4all, jan or hf-cache; all of them when none is named.
    dry_run
        Only list what would be adopted.
    as_json
        Print what was found as JSON.
    """
    import os
    import platform
    from pathlib import Path

    from snugly.model.adopt import adopt as take
    from snugly.model.adopt import search
    from snugly.model.store import Store
    from snugly.settings import settings

    found = search(Path.home(), os.environ, platform.system(), programs)
    outcomes = take(found, Store(settings().store), dry_run=dry_run)
    if as_json:
        print_json([_row(item) for item in outcomes])
        return
    for item in outcomes:
        print(item.found.ref, item.found.n_bytes, item.found.program, item.outcome, sep="\t")
        if item.reason:
            note(f"{item.found.ref} was left out: {item.reason}.")
    _summarise(outcomes, dry_run)


def _row(item: "Adopted") -> dict[str, object]:
    found = item.found
    return {
        "ref": found.ref, "program": found.program, "parts": list(found.parts),
        "n_bytes": found.n_bytes, "sha256": found.sha256, "outcome": item.outcome,
        "reason": item.reason,
    }  # fmt: skip


def _summarise(outcomes: "tuple[Adopted, ...]", dry_run: bool) -> None:
    from snugly.units import format_bytes

    new = [item for item in outcomes if item.outcome == "adopted"]
    size = format_bytes(sum(item.found.n_bytes for item in new))
    if not outcomes:
        note("No model of Ollama, LM Studio, GPT4All, Jan or the Hugging Face cache was found.")
    elif dry_run:
        note(f"{len(new)} would be adopted ({size}); nothing was changed.")
    else:
        note(f"{len(new)} adopted ({size}), not copied. `snugly rm` gives one back.")
