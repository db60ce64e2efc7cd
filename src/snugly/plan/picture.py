"""A plan as a picture: one bar per pool, filled by part, as SVG. Pure text."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from snugly.machine.types import Pool
from snugly.plan.types import PoolUse
from snugly.units import format_bytes

# field of PoolUse -> (word, colour). Okabe and Ito's colours, told apart by colour-blind people.
PARTS = (
    ("weights_bytes", "weights", "#0072b2"),
    ("repack_bytes", "faster copy", "#56b4e9"),
    ("kv_bytes", "cache", "#e69f00"),
    ("compute_bytes", "buffers", "#009e73"),
    ("extras_bytes", "extras", "#cc79a7"),
    ("overhead_bytes", "engine", "#999999"),
)
_WIDTH, _LEFT, _BAR, _ROW = 720, 110, 560, 30


@dataclass(frozen=True, slots=True)
class Bars:
    """What one picture shows: a title, a line below it, and pools with what is taken of each."""

    title: str
    subtitle: str
    rows: tuple[tuple[Pool, PoolUse], ...]


def svg(pictures: Iterable[Bars]) -> str:
    """The pictures one below the other, as one SVG document for light and dark pages."""
    parts: list[str] = []
    top = 0
    for bars in pictures:
        parts.extend(_picture(bars, top))
        top += 70 + _ROW * len(bars.rows)
    parts.extend(_legend(top))
    height = top + 30
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        f' width="{_WIDTH}" height="{height}" font-family="system-ui, sans-serif"'
        ' font-size="13" role="img">'
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>' + "".join(parts) + "</svg>\n"
    )


def _picture(bars: Bars, top: int) -> Iterator[str]:
    yield _text(12, top + 22, bars.title, "font-weight='bold' font-size='15'")
    yield _text(12, top + 42, bars.subtitle, "fill='#555555'")
    for number, (pool, use) in enumerate(bars.rows):
        yield from _bar(pool, use, top + 54 + _ROW * number)


def _bar(pool: Pool, use: PoolUse, y: int) -> Iterator[str]:
    """One pool: what others hold is hatched, what the run takes is coloured."""
    whole = max(pool.total_bytes, pool.free_bytes, use.total_bytes, 1)
    yield _text(_LEFT - 8, y + 15, pool.name, "text-anchor='end'")
    yield f"<rect x='{_LEFT}' y='{y}' width='{_BAR}' height='20' fill='#eeeeee'/>"
    x = float(_LEFT)
    for field, word, colour in PARTS:
        size = getattr(use, field)
        if size:
            width = _BAR * size / whole
            told = f"{word}: {format_bytes(size)}"
            yield (
                f"<rect x='{x:.1f}' y='{y}' width='{max(width, 1.0):.1f}' height='20'"
                f" fill='{colour}'><title>{_escaped(told)}</title></rect>"
            )
            x += width
    free = _LEFT + _BAR * min(1.0, pool.free_bytes / whole)
    told = f"{format_bytes(pool.free_bytes)} free"
    yield (
        f"<line x1='{free:.1f}' y1='{y - 3}' x2='{free:.1f}' y2='{y + 23}' stroke='#000000'"
        f" stroke-dasharray='3 2'><title>{_escaped(told)}</title></line>"
    )
    share = f"{format_bytes(use.total_bytes)} of {format_bytes(pool.free_bytes)} free"
    yield _text(_LEFT + _BAR - 6, y + 15, share, "text-anchor='end' font-size='11'")


def _legend(y: int) -> Iterator[str]:
    for number, (_, word, colour) in enumerate(PARTS):
        x = 12 + number * 115
        yield f"<rect x='{x}' y='{y}' width='12' height='12' fill='{colour}'/>"
        yield _text(x + 17, y + 11, word, "font-size='12'")


def _text(x: int, y: int, text: str, more: str = "") -> str:
    return f"<text x='{x}' y='{y}' {more}>{_escaped(text)}</text>"


def _escaped(text: str) -> str:
    from html import escape  # here: pictures are seldom asked for

    return escape(text)
