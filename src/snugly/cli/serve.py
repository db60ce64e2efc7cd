"""`snugly serve`: models for every client, on one port."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

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
    verbose: Annotated[bool, Parameter(negative="")] = False,
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
    verbose
        Say every request on standard error, without its words.
    """
    from snugly.errors import UserError
    from snugly.server import serving
    from snugly.server.tokens import own_token, token_path
    from snugly.settings import settings

    os.umask(0o077)
    if (cert is None) != (key is None):
        raise UserError("A certificate and its key belong together.", "", "Give --cert and --key.")
    changes = {"serve_host": host, "serve_port": port}
    config = settings().model_copy(update={k: v for k, v in changes.items() if v is not None})
    _log(verbose)
    token = "" if no_token else own_token(token_path(config.history))
    serving.policy_of(config, token, cert is not None or tls)  # refuses before anything starts
    if tls and cert is None:
        from snugly.server.tls import own_certificate

        cert, key = own_certificate(config.history.parent, config.serve_host)
    bound = serving.listening(config.serve_host, config.serve_port)
    if token:
        note(f"The token lies in {token_path(config.history)}.")
    with bound:
        serving.run(config, token, serving.Wish(tuple(model or ()), cert, key), bound, note)


def _log(verbose: bool) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    logging.getLogger("snugly").setLevel(logging.INFO if verbose else logging.WARNING)
