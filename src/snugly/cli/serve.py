"""`snugly serve`: models for every client, on one port."""

import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from snugly.cli.begun import BEGUN
from snugly.cli.render import note


def serve(
    *,
    model: Annotated[list[str] | None, Parameter(name=["--model", "-m"], negative="")] = None,
    host: str | None = None,
    port: int | None = None,
    tls: Annotated[bool, Parameter(negative="")] = False,
    cert: Path | None = None,
    key: Path | None = None,
    no_token: Annotated[bool, Parameter(negative="")] = False,
    polite: Annotated[bool, Parameter(negative="")] = False,
    verbose: Annotated[bool, Parameter(negative="")] = False,
    log_json: Annotated[bool, Parameter(negative="")] = False,
    install: Annotated[bool, Parameter(negative="")] = False,
    uninstall: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Serve models to every client, on one port.

    OpenAI, Anthropic, Ollama, LM Studio and llama.cpp are spoken. Models are loaded when
    asked for, and unloaded when nobody uses them or another one needs the memory.

    Parameters
    ----------
    model
        A model to load at once and keep; may be given several times. The first answers
        requests that name none.
    host
        Address to listen on; others than this machine need the token for everything.
    port
        Port to listen on.
    tls
        Serve HTTPS with a certificate that signs itself.
    cert
        Certificate to serve HTTPS with, in PEM.
    key
        Key of the certificate, in PEM.
    no_token
        Serve without any token: nothing that changes models can be done then.
    polite
        Run models with half of the threads and low priority: on a battery, beside other work.
    verbose
        Say every request on standard error, without its words.
    log_json
        Log JSON lines on standard error, as is done where it is no terminal.
    install
        Serve from now on whenever you are logged in, with the other options given here.
    uninstall
        Undo --install.
    """
    from snugly.errors import UserError

    if install or uninstall:
        from snugly.cli.service import install_or_remove

        words = options(model or [], host, port, tls, cert, key, no_token)
        words += ("--polite",) if polite else ()
        install_or_remove(words, remove=uninstall)
        return
    from snugly.server import serving
    from snugly.server.logs import log_path, logged
    from snugly.server.record import only_server
    from snugly.server.tokens import own_token, token_path
    from snugly.settings import settings

    os.umask(0o077)
    if (cert is None) != (key is None):
        raise UserError("A certificate and its key belong together.", "", "Give --cert and --key.")
    changes: dict[str, Any] = {"serve_host": host, "serve_port": port}
    changes["polite"] = "on" if polite else None
    config = replace(settings(), **{k: v for k, v in changes.items() if v is not None})
    as_json = log_json or not sys.stderr.isatty()
    with logged(log_path(config.history), as_json=as_json, verbose=verbose):
        say = _logs if as_json else note
        token = "" if no_token else own_token(token_path(config.history))
        serving.policy_of(config, token, cert is not None or tls)  # refuses before anything starts
        if tls and cert is None:
            from snugly.server.tls import own_certificate

            cert, key = own_certificate(config.history.parent, config.serve_host)
        bound = serving.listening(config.serve_host, config.serve_port)
        if token:
            say(f"The token lies in {token_path(config.history)}.")
        wish = serving.Wish(tuple(model or ()), cert, key, BEGUN)
        with bound, only_server(config.history):
            serving.run(config, token, wish, bound, say)


def _logs(text: str) -> None:
    logging.getLogger("snugly.server").info("%s", text)


def options(
    models: list[str],
    host: str | None,
    port: int | None,
    tls: bool,
    cert: Path | None,
    key: Path | None,
    no_token: bool,
) -> tuple[str, ...]:
    """The words of the command that serves so: for a service that is started without us."""
    words = [word for model in models for word in ("--model", _whole(model))]
    for name, value in (("--host", host), ("--port", port)):
        words += [] if value is None else [name, str(value)]
    for name, path in (("--cert", cert), ("--key", key)):
        words += [] if path is None else [name, str(path.expanduser().absolute())]
    words += ["--tls"] if tls else []
    words += ["--no-token"] if no_token else []
    return tuple(words)


def _whole(model: str) -> str:
    """A file by its whole path: a service stands in another folder."""
    path = Path(model).expanduser()
    return str(path.absolute()) if model.endswith(".gguf") and path.is_file() else model
