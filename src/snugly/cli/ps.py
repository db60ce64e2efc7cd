"""`snugly ps`, `snugly load`, `snugly stop`: what the server holds, and changing it."""

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from snugly.cli.render import console, note, print_json

if TYPE_CHECKING:
    from collections.abc import Mapping

_Json = Annotated[bool, Parameter(name="--json", negative="")]
_LOAD_SECONDS = 3600.0  # a large model from a slow disk


def ps(*, as_json: _Json = False) -> None:
    """Show what `snugly serve` holds in memory.

    Parameters
    ----------
    as_json
        Print everything that is known of each model as JSON.
    """
    found = _ask("GET", "/snugly/loaded")
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
    """Load a model into `snugly serve` now.

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
    found = _ask("POST", "/snugly/load", {k: v for k, v in wish.items() if v is not None})
    if as_json:
        print_json(found)
        return
    print(found["loaded"])


def stop(ref: str | None = None, /, *, as_json: _Json = False) -> None:
    """Unload a model from `snugly serve` once its answers are done; without a name, all.

    Parameters
    ----------
    ref
        A name, as `snugly ps` shows it.
    as_json
        Print what was unloaded as JSON.
    """
    found = _ask("POST", "/snugly/stop", {} if ref is None else {"model": ref})
    if as_json:
        print_json(found)
        return
    for name in found["stopped"]:
        print(name)
    if not found["stopped"]:
        note("Nothing was loaded.")


def _ask(method: str, path: str, body: "Mapping[str, Any] | None" = None) -> Any:
    """Ask this machine's server. Raises: UserError, or what the server says."""
    import httpx2

    from snugly.errors import EngineError, UserError
    from snugly.server.tokens import read_token, token_path
    from snugly.settings import settings

    config = settings()
    host = config.serve_host if config.serve_host not in ("0.0.0.0", "::") else "127.0.0.1"
    shown = f"[{host}]" if ":" in host else host
    folder = config.history.parent
    token = read_token(token_path(config.history))
    secure = (folder / "server.crt").exists()
    for scheme in ("http", "https") if secure else ("http",):
        try:
            answer = httpx2.request(
                method,
                f"{scheme}://{shown}:{config.serve_port}{path}",
                json=body,
                headers={"Authorization": f"Bearer {token}"},
                timeout=httpx2.Timeout(5.0, read=_LOAD_SECONDS),
                verify=str(folder / "server.crt") if scheme == "https" else True,
                trust_env=False,
            )
            break
        except httpx2.TransportError:
            continue
    else:
        raise UserError(
            f"No server answers on {host}:{config.serve_port}.",
            "It is not running, or listens elsewhere.",
            "Start it with `snugly serve`, or set SNUGLY_SERVE_PORT.",
        )
    if answer.status_code >= 400:
        message = answer.json().get("error", {}).get("message", answer.text)
        kind = UserError if answer.status_code < 500 else EngineError
        raise kind("The server refused.", str(message))
    return answer.json()


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
