"""Asking this machine's server, wherever it listens."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from snugly.server.record import Record

LOAD_SECONDS = 3600.0  # a large model from a slow disk


def running_server() -> "Record | None":
    """The server that runs on this history, as it wrote itself down; None without one."""
    from snugly.server.record import read_record, record_path
    from snugly.settings import settings

    return read_record(record_path(settings().history))


def ask_server(
    method: str,
    path: str,
    body: "Mapping[str, Any] | None" = None,
    seconds: float = LOAD_SECONDS,
) -> Any:
    """Ask this machine's server. Raises: UserError, or what the server says."""
    import httpx2

    from snugly.errors import EngineError, UserError
    from snugly.server.tokens import read_token, token_path
    from snugly.settings import settings

    config, here = settings(), running_server()
    host, port = (here.host, here.port) if here else (config.serve_host, config.serve_port)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    shown = f"[{host}]" if ":" in host else host
    certificate = config.history.parent / "server.crt"
    token = read_token(token_path(config.history))
    for scheme in ("http", "https") if certificate.exists() else ("http",):
        try:
            answer = httpx2.request(
                method,
                f"{scheme}://{shown}:{port}{path}",
                json=body,
                headers={"Authorization": f"Bearer {token}"},
                timeout=httpx2.Timeout(5.0, read=seconds),
                verify=str(certificate) if scheme == "https" else True,
                trust_env=False,
            )
            break
        except httpx2.TransportError:
            continue
    else:
        raise UserError(
            f"No server answers on {host}:{port}.",
            "It is not running, or listens elsewhere.",
            "Start it with `snugly serve`, or set SNUGLY_SERVE_PORT.",
        )
    if answer.status_code >= 400:
        message = answer.json().get("error", {}).get("message", answer.text)
        kind = UserError if answer.status_code < 500 else EngineError
        raise kind("The server refused.", str(message))
    return answer.json()
