"""`snugly serve --install` and `--uninstall`: the server as a service of this user."""

import os
import sys
from collections.abc import Sequence

from snugly.cli.render import note


def install_or_remove(words: Sequence[str], *, remove: bool) -> None:
    """Make a service of `snugly serve` with these options, or remove it. Raises: UserError."""
    from snugly.server import installing
    from snugly.server.logs import log_path
    from snugly.settings import settings

    config = settings()  # a slip in them would keep the service from starting
    launch = installing.launch_of(words, log_path(config.history), os.environ)
    place = installing.place_of(sys.platform, launch, os.environ)
    if remove:
        if installing.remove(place, note):
            print(place.path)
        return
    started = installing.install(place, note)
    print(place.path)
    if not started:
        return
    note("The server runs, and will whenever you are logged in. `snugly status` shows how it is.")
    if sys.platform == "linux":
        note("`loginctl enable-linger` keeps it running when you are not.")
