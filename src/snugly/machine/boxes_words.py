"""What a person's words for a box mean: its parts, by the tables of data sheets. Pure.

"2x rtx 3090 + rtx 3060, 64gb ram" is taken apart at the commas and pluses; each piece is an
amount of RAM, a processor, a chip of Apple's, a board or GPUs. A word that is not understood
is refused: a box for which something was passed over would be another box.
"""

import re
from dataclasses import dataclass, field, replace

from snugly.errors import UserError
from snugly.machine import sheets_apple, sheets_boards, sheets_cpus, sheets_gpus
from snugly.machine.boxes_names import near
from snugly.machine.sheets_apple import Chip
from snugly.machine.sheets_boards import Board
from snugly.machine.sheets_cpus import Model
from snugly.machine.sheets_gpus import Sheet

MOST_GPUS = 64  # more is no box
MOST_SOCKETS = 8
_PIECES = re.compile(r"\s+\+\s+|\s*[,;&]\s*|\s+(?:and|with)\s+")
# "64g" is an amount, "3400g" and "580g" are names.
_AMOUNT = re.compile(
    r"(?<![a-z\d.])(\d+(?:\.\d+)?(?= ?[gt]i?b\b)|\d\d?(?= ?g\b)|128(?=g\b)) ?(gi?b|ti?b|g)\b"
)
_RAM = re.compile(
    _AMOUNT.pattern + r" *(?:of )?(?:(?:lp)?ddr\d\w*|system|unified|shared)? *(?:ram|memory)\b"
    r"|" + _AMOUNT.pattern + r" *(?:lp)?ddr\d\w*"
)
_CORES = re.compile(r"\b(\d+)[- ]?cores?\b(?: (cpu|gpu))?(?: gpu)?")
# Words for the thing around the parts, which say nothing about speed.
_AROUND = re.compile(
    r"\b(a|an|the|my|used|new|one|single|gaming|rig|box|machine|system|build|tower|mini|pc|desktop|computer"
    r"|workstation|server|vps|vm|cloud|laptop|notebook|ultrabook|macbook|imac|mac|air|studio|book|free|google"
    r"|colab|kaggle|ram|memory|unified|integrated|apu|igpu|gpus?|soc|chip|framework)\b"
)
# Chips that people know by the name of their design: one model stands for all of them.
_DESIGNS = {
    "strix halo": "Ryzen AI Max+ 395", "strix point": "Ryzen AI 9 HX 370",
    "lunar lake": "Core Ultra 7 258V", "meteor lake": "Core Ultra 7 155H",
    "framework desktop": "Ryzen AI Max+ 395",
}  # fmt: skip
_KINDS = (
    ("colab", r"colab"), ("kaggle", r"kaggle"), ("server", r"\b(server|vps|vm|cloud)\b"),
    ("laptop", r"laptop|notebook|ultrabook|\bbook\b"),
    ("desktop", r"desktop|\bpc\b|computer|workstation|tower|gaming"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cards:
    """Some GPUs of one kind: the versions that the name may mean."""

    count: int
    versions: tuple[Sheet, ...]
    memory_bytes: int  # of each

    @property
    def sheet(self) -> Sheet:
        """The version that gives them their name."""
        return sheets_gpus.plainest(self.versions)


@dataclass(frozen=True, slots=True)
class Parts:
    """What was named. None, 0 and () mean: nothing was said about that."""

    kind: str = ""  # "laptop", "desktop", "server", "colab", "kaggle"
    ram_gb: float = 0.0
    model: Model | None = None
    sockets: int = 1
    chips: tuple[Chip, ...] = ()
    board: Board | None = None
    cards: tuple[Cards, ...] = ()
    remarks: tuple[str, ...] = ()  # what was decided for the person
    spare: float = field(default=0.0)  # an amount that stood alone


def read_box(text: str) -> Parts:
    """The parts of a box out of its description.

    Raises: UserError when a piece names nothing that is known, or several things.
    """
    if not text.strip():
        raise UserError("No box is named.", "The name is empty.", "Write `rtx 3060` or `m4 24gb`.")
    words = re.sub(r"\((r|tm|c)\)|[®™]", " ", text.lower()).replace("×", "x")
    words = re.sub(r"[()]", " ", words)
    if any(float(amount[1]) == 0 for amount in _AMOUNT.finditer(words)):
        raise UserError(
            f"The box {text!r} says 0 GB.", "No box has that.", "Write the amount as `32gb`."
        )
    for design, model in _DESIGNS.items():
        words = words.replace(design, "" if model.lower() in words else model.lower())
    kind = next((name for name, sign in _KINDS if re.search(sign, words)), "")
    parts = Parts(kind=kind)
    for piece in _PIECES.split(words):
        parts = _add(parts, re.sub(r"\s+", " ", piece).strip(), text)
    if parts.spare and not parts.ram_gb:
        parts = replace(parts, ram_gb=parts.spare, spare=0.0)
    if not (
        parts.ram_gb or parts.model or parts.chips or parts.board or parts.cards or _host(kind)
    ):
        raise _unknown(text, text)
    return parts


def _host(kind: str) -> bool:
    return kind in ("colab", "kaggle")


def _gigabytes(number: str, unit: str) -> float:
    return float(number) * (1024 if unit.startswith("t") else 1)


def _add(parts: Parts, piece: str, text: str) -> Parts:
    """`parts` with what one piece of the description names."""
    if ram := _RAM.search(piece):
        number, unit = ram[1] or ram[3], ram[2] or ram[4]
        parts = replace(parts, ram_gb=_gigabytes(number, unit))
        piece = (piece[: ram.start()] + " " + piece[ram.end() :]).strip()
    amount = _AMOUNT.search(piece)
    size = _gigabytes(amount[1], amount[2]) if amount else 0.0
    rest = _AMOUNT.sub(" ", piece).strip()
    if found := _apple(parts, rest, size, text):
        return found
    if not _bare(rest):
        if re.search(r"\b(gpus?|vram|igpu)\b", rest):
            raise _unknown(piece, text)
        return replace(parts, spare=size or parts.spare) if size else parts
    if (board := sheets_boards.board_of(rest)) is not None:
        return replace(parts, board=board, ram_gb=parts.ram_gb or size)
    count, name = _count(_bare(rest))
    model = sheets_cpus.typed_model(name)
    remarks = parts.remarks
    if model is None and (model := sheets_cpus.like(name)):
        remarks += (f"{model.name} is not in the tables: the least of its kind stands for it.",)
    if model is None or _cards_named(_count(_bare(piece))[1]):
        return _graphics(parts, piece, text)
    sockets = min(count, MOST_SOCKETS)
    parts = replace(parts, model=model, sockets=sockets, remarks=remarks)
    graphics = re.search(r"\b(geforce|rtx|gtx|rx|arc|radeon|quadro)\b.*", piece)
    if graphics and graphics[0] not in model.name.lower():
        return _graphics(parts, graphics[0], text)  # a bare amount is the card's
    return replace(parts, ram_gb=parts.ram_gb or size)


def _bare(piece: str) -> str:
    """`piece` without the words for what is around the parts."""
    return re.sub(r"\s+", " ", _AROUND.sub(" ", piece)).strip(" -:")


def _cards_named(name: str) -> bool:
    """Whether exactly that name is a card's: "7900 xtx" is no Ryzen 9 7900."""
    found = sheets_gpus.versions(name, 0, True)
    return bool(found) and found[0].kind != "shared"


def _apple(parts: Parts, rest: str, size: float, text: str) -> Parts | None:
    name = sheets_apple.chip_name(rest)
    if re.search(r"\b(tesla|quadro|geforce|radeon)\b", rest) or name is None:
        if re.search(r"\b(apple|mac|macbook|imac)\b", rest) and not sheets_cpus.model_of(rest):
            raise UserError(
                f"Which chip {text!r} means is not said.",
                "Macs are told apart by their chip.",
                "Write it as `m3 max 64gb` or `m4 24gb`.",
            )
        return None
    counts = {match[2] or "cpu": int(match[1]) for match in _CORES.finditer(rest)}
    gpu = re.search(r"(\d+)[- ]?core gpu", rest)
    ram = parts.ram_gb or size
    chips = sheets_apple.versions(name, int(gpu[1]) if gpu else counts.get("gpu", 0), 0, ram)
    if not chips:
        return None
    return replace(parts, chips=chips, ram_gb=ram)


def _graphics(parts: Parts, piece: str, text: str) -> Parts:
    laptop = " laptop" if parts.kind == "laptop" or "mobile" in piece else ""
    count, name = _count(_bare(piece))
    clean = name + laptop
    found = sheets_gpus.versions(clean, 0, True)
    if not found:
        _refuse_size(clean, text)
        raise _unknown(clean or piece, text)
    if found[0].kind == "shared":
        return _inside(parts, found, text)
    cards, remarks = _one_size(found, count, clean)
    return replace(parts, cards=(*parts.cards, cards), remarks=(*parts.remarks, *remarks))


def _one_size(found: tuple[Sheet, ...], count: int, name: str) -> tuple[Cards, list[str]]:
    """The cards that a name means, where it is sold with several amounts of memory.

    The first that was sold counts, of those of one day the smallest.
    """
    first = min(found, key=lambda sheet: (sheet.since or "9", sheet.memory_bytes))
    others = sorted({sheet.memory_bytes for sheet in found} - {first.memory_bytes})
    remarks = []
    if others:
        words = " and ".join(f"{size / 2**30:g} GB" for size in others)
        here = f"{first.memory_bytes / 2**30:g} GB"
        remarks.append(f"{name} is taken to have {here}; it is sold with {words} too.")
    told = round(sheets_gpus.take_apart(name).gib * 2**30)
    size = first.memory_bytes
    if told > size * 1.5:
        remarks.append(f"{name}: twice the memory of its data sheet, so a changed card.")
        size = told
    alike = tuple(sheet for sheet in found if sheet.memory_bytes == first.memory_bytes)
    return Cards(count, alike, size), remarks


def _count(piece: str) -> tuple[int, str]:
    """How many, and of what: "2x rtx 3090", "dual a6000", "t4 x2", "3090x2"."""
    piece = re.sub(r"^(dual|twin|two) ", "2x ", piece.strip())
    piece = re.sub(
        r"^(\d) (?=(nvidia |amd |intel )?(rtx|gtx|rx|arc|geforce|radeon) )", r"\1x ", piece
    )
    ahead = re.match(r"(\d{1,3}) ?x ?(?=[a-z])(.*)", piece) or re.match(r"(\d{1,3}) x (.*)", piece)
    if ahead:
        return max(1, min(int(ahead[1]), MOST_GPUS)), ahead[2]
    behind = re.search(r"^(.*?) ?\bx ?(\d{1,2})$", piece) or re.search(r"^(t4)x(2)$", piece)
    if behind:
        return max(1, min(int(behind[2]), MOST_GPUS)), behind[1]
    return _joined(piece) or (1, piece)


def _joined(piece: str) -> tuple[int, str] | None:
    """A count that is written onto a card's name: "2x3090", "3090x2", "h100*8", "x2 3090".

    Only where the rest is a card by itself, and the whole is none ("r9 290x2" is one).
    """
    ahead = re.fullmatch(r"(\d{1,2}) ?[x*] ?(.+)|x ?(\d{1,2}) (.+)", piece)
    behind = re.fullmatch(r"(.+?) ?[x*] ?(\d{1,2})( \d+ ?gi?b)?", piece)
    found = []
    if ahead:
        found.append((ahead[1] or ahead[3], ahead[2] or ahead[4]))
    if behind:
        found.append((behind[2], behind[1] + (behind[3] or "")))
    for number, name in found:
        if _cards_named(name) and not _cards_named(piece):
            return max(1, min(int(number), MOST_GPUS)), name
    return None


def _inside(parts: Parts, found: tuple[Sheet, ...], text: str) -> Parts:
    """Graphics inside a processor: the processor that was named, or one that has them."""
    if parts.model:
        return parts
    name = found[0].name.removesuffix(" Mobile")
    hosts = [model for model in sheets_cpus.models() if model.graphics == name]
    if not hosts:
        raise UserError(
            f"{found[0].name} is part of a processor.",
            "Its memory is the machine's, so the processor decides the speed.",
            "Name the processor: `ryzen 7 7840hs 32gb`.",
        )
    model = max(hosts, key=lambda model: (model.cores, -model.clock))
    remark = f"{name} is part of a processor; {model.name} is meant here."
    return replace(parts, model=model, remarks=(*parts.remarks, remark))


def _refuse_size(name: str, text: str) -> None:
    bare = _AMOUNT.sub(" ", name)
    known = sheets_gpus.versions(bare, 0, True)
    if bare != name and known:
        sizes = sorted({f"{sheet.memory_bytes / 2**30:g} GB" for sheet in known})
        raise UserError(
            f"{text!r} is not sold.",
            f"{known[0].name} has {' or '.join(sizes)}.",
            "Leave the amount out, or add `ram` to it when the machine's memory is meant.",
        )


def _unknown(piece: str, text: str) -> UserError:
    names = near(piece)
    return UserError(
        f"The box {text!r} is not known.",
        f"No data sheet of {piece!r} is at hand.",
        (f"Did you mean {', '.join(names)}? " if names else "")
        + "Or name its parts, as in `ryzen 5 5600, rtx 3060, 16gb ram` or `16gb laptop`;"
        " or give figures: --ram, --vram and --bandwidth.",
    )
