"""The pieces in a SentencePiece `tokenizer.model`: a small part of a protocol buffer.

Format: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto;
field 1 of the whole is a piece: 1 text, 2 score (float), 3 kind. The package itself would
add 1.4 MB of compiled code to read three fields.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from snugly.errors import BadModelFile


class Kind(IntEnum):
    """What a piece is: ModelProto.SentencePiece.Type."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of a vocabulary; its number is its place."""

    text: str
    score: float
    kind: Kind


def read_pieces(path: Path) -> list[Piece]:
    """All pieces in order. Raises: BadModelFile when it is no such file."""
    try:
        raw = path.read_bytes()
        found = [_piece(value) for field, value in _fields(raw)
                 if field == 1 and isinstance(value, bytes)]  # fmt: skip
    except (OSError, ValueError, IndexError, struct.error) as error:
        raise BadModelFile(
            f"{path.name} is not a SentencePiece model.",
            f"{error} ({path}).",
            "Fetch the checkpoint again, with all its files.",
        ) from error
    if not found:
        raise BadModelFile(f"{path.name} holds no tokens.", f"({path})", "Fetch it again.")
    return found


def _piece(raw: bytes) -> Piece:
    text, score, kind = "", 0.0, Kind.NORMAL
    for field, value in _fields(raw):
        if field == 1 and isinstance(value, bytes):
            text = value.decode()
        elif field == 2 and isinstance(value, bytes):
            score = float(struct.unpack("<f", value)[0])
        elif field == 3 and isinstance(value, int):
            kind = Kind(value)
    return Piece(text, score, kind)


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a message."""
    at = 0
    while at < len(raw):
        key, at = _number(raw, at)
        wire = key & 7
        if wire == 0:
            value, at = _number(raw, at)
            yield key >> 3, value
            continue
        if wire == 2:
            length, at = _number(raw, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"a field has the wire type {wire}")
        if at + length > len(raw):
            raise ValueError("a field is longer than the file")
        yield key >> 3, raw[at : at + length]
        at += length


def _number(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number has more than ten bytes")
