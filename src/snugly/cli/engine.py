"""`snugly engine`: which engines there are, make a faster one, choose one."""

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from snugly.cli.render import console, note, print_json
from snugly.errors import UserError

if TYPE_CHECKING:
    from snugly.engine.listing import Listed

_Flag = Parameter(negative="")


def engine(
    action: Literal["list", "build", "use", "info"] = "list",
    name: str = "",
    /,
    *,
    prebuilt: Annotated[bool, _Flag] = False,
    backend: str = "",
    again: Annotated[bool, _Flag] = False,
    stock: Annotated[bool, _Flag] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Show the engines, build a faster one for this machine, or choose one.

    `list` shows what there is, `build` compiles llama.cpp for this very processor (about
    six minutes on two cores), `use NAME` chooses one, `info NAME` shows what is known of it.

    Parameters
    ----------
    action
        list, build, use or info.
    name
        For use and info: auto, native, xllamacpp, openvino, or the path of a llama-server.
    prebuilt
        With build: fetch an official build of llama.cpp instead of compiling one.
    backend
        With --prebuilt: cuda or vulkan; empty for the processor alone.
    again
        With build: compile even what is there already.
    stock
        With build: llama.cpp as it is, without the matrix products that Snugly adds.
    as_json
        Print what is known as JSON.
    """
    if name and action in ("list", "build"):
        raise UserError(f"`snugly engine {action}` takes no name.", "", "Leave it out.")
    if action == "build":
        _build(prebuilt, backend, again, stock, as_json)
    elif action == "use":
        _use(name)
    else:
        _show(name if action == "info" else "", action == "info", as_json)


def _build(prebuilt: bool, backend: str, again: bool, stock: bool, as_json: bool) -> None:
    from snugly.cli.progress import shown
    from snugly.cli.progress_steps import steps
    from snugly.engine import build_native
    from snugly.engine.native_found import described
    from snugly.machine.detect import detect
    from snugly.settings import settings

    config = settings()
    machine = detect(config.store)
    try:
        if prebuilt:
            made = build_native.prebuilt(config, machine, backend, shown())
        else:
            with steps("compiling llama.cpp") as step:
                made = build_native.build(config, machine, shown(), step, again, stock)
    except KeyboardInterrupt:
        note("`snugly engine build` goes on where it stopped.")
        raise
    if as_json:
        print_json(described(made))
        return
    print(made.path)
    note(f"llama-server {made.version} is ready; `snugly engine list` shows what is used.")


def _use(name: str) -> None:
    from snugly.engine.choice import choose
    from snugly.settings import config_file, settings

    if not name:
        raise UserError(
            "Which engine?", "", "`snugly engine use auto`, or a name of `snugly engine list`."
        )
    said = choose(name, settings().cache)
    note(f"{said} It stands in {config_file()}.")


def _show(name: str, whole: bool, as_json: bool) -> None:
    from snugly.engine.listing import listed
    from snugly.machine.detect import detect
    from snugly.settings import settings

    found = listed(settings(), detect(settings().store))
    if whole and name not in ("", "auto"):
        found = [item for item in found if name in (item.name, item.path)]
        if not found:
            raise UserError(f"There is no engine called {name!r}.", "", "`snugly engine list`.")
    elif whole:
        found = [item for item in found if item.used]
    if as_json:
        print_json(found)
    elif whole:
        for item in found:
            _print_one(item)
    else:
        _print_all(found)


def _print_all(found: "list[Listed]") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("used", "engine", "version", "computes on", "from"):
        table.add_column(column, overflow="fold")
    for item in found:
        origin = item.unusable or item.path or item.origin
        table.add_row(
            "*" if item.used else "", item.name, item.version, item.computes_on, Text(origin)
        )
    console().print(table)


def _print_one(item: "Listed") -> None:
    out = console()
    rows = {
        "engine": item.name,
        "version": item.version,
        "from": f"{item.origin} {item.path}".strip(),
        "computes on": item.computes_on,
        "lays out anew": ", ".join(item.repacks) or "nothing",
        "cannot": "; ".join(f"{what}: {why}" for what, why in item.lacks) or "nothing asked of it",
        "state": item.unusable or ("used" if item.used else "ready"),
    }
    for key, value in rows.items():
        out.print(f"{key:<14}{value}", markup=False)
