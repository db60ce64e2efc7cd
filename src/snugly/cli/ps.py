"""`snugly ps`, `snugly load`, `snugly stop`: what the server holds, and changing it."""

from typing import Annotated, Any

from cyclopts import Parameter

from snugly.cli.asking import ask_server
from snugly.cli.render import console, note, print_json

_Json = Annotated[bool, Parameter(name="--json", negative="")]


def ps(*, as_json: _Json = False) -> None:
    """Show what the server holds in memory.

    Parameters
    ----------
    as_json
        Print everything that is known of each model as JSON.
    """
    found = ask_server("GET", "/snugly/loaded")
    if as_json:
        print_json(found)
        return
    _table(found["models"])
    if not found["models"]:
        note("No model is loaded; the first request loads one.")
    if found["waiting"]:
        note(f"{found['waiting']} requests wait.")


def load(
    ref: str,
    /,
    *,
    pin: Annotated[bool, Parameter(negative="")] = False,
    context: int | None = None,
    keep_alive: str | None = None,
    as_json: _Json = False,
) -> None:
    """Load a model into the server now.

    Parameters
    ----------
    ref
        A name, as `snugly models` shows it.
    pin
        Keep it until it is stopped, whatever else needs the memory.
    context
        Tokens that its context must hold at least.
    keep_alive
        How long it stays loaded without being used: seconds, "10m", -1 for ever.
    as_json
        Print what was loaded as JSON.
    """
    wish = {"model": ref, "pin": pin, "context": context, "keep_alive": keep_alive}
    found = ask_server("POST", "/snugly/load", {k: v for k, v in wish.items() if v is not None})
    if as_json:
        print_json(found)
        return
    print(found["loaded"])


def stop(ref: str | None = None, /, *, as_json: _Json = False) -> None:
    """Unload a model from the server once its answers are done; without a name, all.

    Parameters
    ----------
    ref
        A name, as `snugly ps` shows it.
    as_json
        Print what was unloaded as JSON.
    """
    found = ask_server("POST", "/snugly/stop", {} if ref is None else {"model": ref})
    if as_json:
        print_json(found)
        return
    for name in found["stopped"]:
        print(name)
    if not found["stopped"]:
        note("Nothing was loaded.")


def _table(models: "list[dict[str, Any]]") -> None:
    from rich.table import Table

    from snugly.units import format_bytes

    if not models:
        return
    if not console().is_terminal:
        for model in models:
            print(model["name"], model["planned_bytes"], model["context"], model["in_use"],
                  "for ever" if model["expires_in"] is None else round(model["expires_in"]),
                  sep="\t")  # fmt: skip
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("NAME", "MEMORY", "CONTEXT", "SLOTS", "IN USE", "STAYS"):
        table.add_column(title, justify="left" if title == "NAME" else "right", no_wrap=True)
    for model in models:
        left = model["expires_in"]
        stays = "pinned" if model["pinned"] else "for ever" if left is None else f"{left:.0f} s"
        table.add_row(
            model["name"],
            format_bytes(model["peak_bytes"] or model["planned_bytes"]),
            f"{model['context']:,}",
            str(model["slots"]),
            str(model["in_use"]),
            stays,
        )
    console().print(table)
