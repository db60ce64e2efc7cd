"""The person's choice of an engine, written into the settings file."""

import os
import re
import stat
import tomllib
from pathlib import Path

from snugly.engine.native_found import look_at
from snugly.engine.registry import ENGINES, NATIVE
from snugly.errors import UserError
from snugly.model import sidecar
from snugly.settings import config_file


def choose(name: str, cache: Path) -> str:
    """Keep the choice: the name of an engine, or the path of a llama-server. What was done.

    Raises: UserError for neither; EngineError for a program that is no llama-server.
    """
    if name in ENGINES:
        write({"engine": name})
        return f"The engine is {name} now."
    path = Path(name).expanduser().absolute()
    if os.sep not in name and not path.is_file():
        raise UserError(
            f"There is no engine called {name!r}.",
            f"There are {', '.join(ENGINES)}.",
            "Or give the path of a llama-server.",
        )
    native = look_at(str(path), "settings", cache)
    if native.unusable:
        raise UserError(f"{path} cannot be used.", f"{native.unusable}.", "Take a newer one.")
    write({"engine": NATIVE, "llama_server": str(path)})
    return f"The engine is {path} now."


def write(values: dict[str, str]) -> None:
    """Set keys of the settings file; comments and everything else stay as they are.

    Raises: UserError when the file is no TOML or cannot be written.
    """
    path = config_file()
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        for key, value in values.items():
            text = with_value(text, key, value)
        tomllib.loads(text)
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.resolve()  # it may be a link into a folder of settings that is shared
        mode = stat.S_IMODE(file.stat().st_mode) if file.exists() else 0o644
        sidecar.write_text(file, text, mode)
    except (OSError, ValueError) as error:
        raise UserError(f"The settings file {path} cannot be changed.", f"{error}.") from error


def with_value(text: str, key: str, value: str) -> str:
    """`text` of a TOML file with a top-level `key` set to the string `value`."""
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    line = f'{key} = "{quoted}"'
    # Top-level keys stand before the first table.
    head = re.search(r"^\s*\[", text, re.MULTILINE)
    top = text[: head.start()] if head else text
    changed, count = re.subn(
        rf"^\s*{re.escape(key)}\s*=.*$", lambda _: line, top, count=1, flags=re.MULTILINE
    )
    return (changed if count else f"{line}\n{top}") + text[len(top) :]
