"""Pictures in requests: bytes that came with them, never an address to fetch."""

import base64
import binascii

from snugly.chat.types import Image
from snugly.server.dialects.faults import BadRequest

MAX_IMAGE_BYTES = 32 * 1024 * 1024
# How files begin, for what llama.cpp's image reader (stb_image, and WebP since 2025) takes.
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
)


def image_of_url(url: str, path: str) -> Image:
    """The picture in a data URL.

    Raises: BadRequest for every other address: nothing is fetched, from no place.
    """
    if not url.startswith("data:"):
        raise BadRequest(
            f"`{path}` is not a data URL.",
            path,
            "Nothing is fetched from elsewhere.",
            "Send the picture itself, as data:image/png;base64,...",
        )
    head, _, data = url[5:].partition(",")
    if not head.endswith(";base64"):
        raise BadRequest(f"`{path}` must be in base64.", path)
    return image_of_base64(data, path)


def image_of_base64(data: str, path: str) -> Image:
    """The picture in base64, its kind told by how it begins.

    Raises: BadRequest for damaged base64, for what is no picture, for one that is too large.
    """
    if len(data) > MAX_IMAGE_BYTES * 4 // 3 + 4:
        raise BadRequest(f"`{path}` is larger than {MAX_IMAGE_BYTES >> 20} MiB.", path)
    try:
        raw = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest(f"`{path}` is not base64.", path) from None
    return Image(raw, _kind(raw, path))


def _kind(raw: bytes, path: str) -> str:
    if raw[:4] == b"RIFF" and raw[8:12] == b"WEBP":
        return "image/webp"
    for magic, mime in _MAGIC:
        if raw.startswith(magic):
            return mime
    raise BadRequest(f"`{path}` is not a PNG, JPEG, WebP, GIF or BMP picture.", path)
