"""`snugly status`: whether the server runs, since when, and with what."""

import time
from typing import Annotated, Any

from cyclopts import Parameter

from snugly.cli.asking import ask_server, running_server
from snugly.cli.render import print_json

_ANSWER_SECONDS = 5.0


def status(*, as_json: Annotated[bool, Parameter(name="--json", negative="")] = False) -> None:
    """Show whether the server runs, since when, its models, memory and queue.

    The exit code is 2 when it does not run or does not answer.

    Parameters
    ----------
    as_json
        Print it as JSON.
    """
    from snugly.errors import SnuglyError

    try:
        told = ask_server("GET", "/snugly/loaded", seconds=_ANSWER_SECONDS)
    except SnuglyError:
        if as_json:
            print_json({"up": False})
        raise
    found = _put_together(told)
    if as_json:
        print_json(found)
        return
    for line in _lines(found):
        print(line)


def _put_together(told: dict[str, Any]) -> dict[str, Any]:
    """What the server tells, and what the system tells of its process."""
    here = running_server()
    own = engines = None
    if here is not None:
        own, engines = _memory(here.pid)
    return {
        "up": True,
        "version": told["version"],
        "pid": here.pid if here else None,
        "address": f"{here.host}:{here.port}" if here else None,
        "tls": here.secure if here else None,
        "uptime_seconds": round(time.time() - here.started_at, 1) if here else None,
        "own_bytes": own,
        "engine_bytes": engines,
        "requests_waiting": told["waiting"],
        "requests_running": told["running"],
        "models": told["models"],
    }


def _memory(pid: int) -> tuple[int | None, int | None]:
    """Resident bytes of the server, and of its engines together."""
    import psutil

    try:
        server = psutil.Process(pid)
        own = server.memory_info().rss
        children = server.children(recursive=True)
    except psutil.Error:
        return None, None
    total = 0
    for child in children:
        try:
            total += child.memory_info().rss
        except psutil.Error:  # it has just ended
            continue
    return own, total


def _lines(found: dict[str, Any]) -> list[str]:
    from snugly.units import format_bytes, format_seconds

    lines = [f"up       Snugly {found['version']}"]
    if found["pid"] is not None:
        scheme = "https" if found["tls"] else "http"
        lines[0] += f", process {found['pid']}, {scheme}://{found['address']}"
        lines.append(f"since    {format_seconds(found['uptime_seconds'])}")
    if found["own_bytes"] is not None:
        lines.append(
            f"memory   {format_bytes(found['own_bytes'])}, "
            f"and {format_bytes(found['engine_bytes'])} of engines"
        )
    running, waiting = found["requests_running"], found["requests_waiting"]
    lines.append(f"requests {running} being answered, {waiting} waiting")
    for model in found["models"]:
        bytes_ = format_bytes(model["peak_bytes"] or model["planned_bytes"])
        use = f"{model['in_use']} of {model['slots']} slots in use"
        lines.append(f"model    {model['name']}: {bytes_}, {model['context']:,} tokens, {use}")
    return lines if found["models"] else [*lines, "model    none is loaded"]
