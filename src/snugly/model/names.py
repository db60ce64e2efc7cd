"""What a file name says, and which names are safe to put on a disk. Pure."""

import re
import unicodedata

MAX_NAME_BYTES = 200  # 255 is the usual limit; we add ".", ".part" and ".json" around it

# Names that Windows gives to devices, with any extension: "aux.gguf" opens a printer.
# Source: learn.microsoft.com/windows/win32/fileio/naming-a-file.
_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{stem}{digit}" for stem in ("com", "lpt") for digit in "0123456789¹²³"
}
_FORBIDDEN = frozenset('<>:"/\\|?*')  # not allowed in a Windows file name
_SPLIT = re.compile(r"(?P<base>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_QUANT = re.compile(
    r"(?<![A-Za-z0-9])"
    r"((?:UD-)?(?:I?Q\d+(?:_(?:K|NL|XXS|XS|S|M|L|XL|\d+))*|TQ\d_\d|MXFP4(?:_MOE)?|NVFP4"
    r"|BF16|FP?16|FP?32))"
    r"(?![A-Za-z0-9])",
    re.IGNORECASE,
)


def unsafe_because(name: str) -> str:
    """Why `name` may not be one part of a path in the store; empty when it may.

    The rules of all systems hold on each of them, so that a store can be moved.
    """
    if not name:
        return "it is empty"
    if len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        return f"it is longer than {MAX_NAME_BYTES} bytes"
    for character in name:
        if not _allowed(character):
            return f"it contains {_shown(character)}"
    if unicodedata.normalize("NFKC", name) != name:
        return "it contains letters that look like others"
    if name[0] in ". " or name[-1] in ". ":
        return "it begins or ends with a dot or a space"
    if name.split(".")[0].rstrip(" ").lower() in _DEVICES:
        return "Windows keeps this name for a device"
    return ""


def _allowed(character: str) -> bool:
    if character in _FORBIDDEN:
        return False
    if character.isascii():
        return character.isprintable()
    return character.isalnum()


def _shown(character: str) -> str:
    visible = character.isprintable() and not unicodedata.combining(character)
    return f"the character {character!r}" if visible else f"the character U+{ord(character):04X}"


def split_of(name: str) -> tuple[str, int, int] | None:
    """Base, part and number of parts of `base-00002-of-00003.gguf`; None for a whole file."""
    match = _SPLIT.fullmatch(name)
    if match is None:
        return None
    index, count = int(match["index"]), int(match["count"])
    return (match["base"], index, count) if 1 <= index <= count else None


def part_names(name: str) -> tuple[str, ...]:
    """All file names of the model that `name` belongs to, in order."""
    split = split_of(name)
    if split is None:
        return (name,)
    base, _, count = split
    return tuple(f"{base}-{index:05d}-of-{count:05d}.gguf" for index in range(1, count + 1))


def quantization_of(name: str) -> str:
    """Quantization that a file name states, in upper case: `Q4_K_M`, `UD-Q4_K_XL`, `BF16`.

    Empty when the name states none. The last one counts: some names carry two.
    """
    found = _QUANT.findall(name)
    if not found:
        return ""
    last = str(found[-1]).upper()
    return {"FP16": "F16", "FP32": "F32"}.get(last, last)


def is_runnable(name: str) -> bool:
    """Whether a file name is a language model: not a projector, an adapter or a statistic."""
    lower = name.lower()
    if not lower.endswith(".gguf"):
        return False
    return not re.search(r"mmproj|imatrix|(^|[-._])(lora|vocab)([-._]|$)", lower)
