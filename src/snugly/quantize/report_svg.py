"""Pictures of a quantization as SVG: pure functions from values to text.

Colours are those of the page's style sheet where it has one, and readable on white without.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from snugly.model.ggml_types import TENSOR_TYPES
from snugly.model.types import Tensor

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 640, 320, 70, 46, 18, 24
_BITS = {name: 8 * size / block for name, block, size in TENSOR_TYPES.values()}
# From red over yellow to green to blue: few bits to many (ColorBrewer RdYlBu, 9 classes).
_COLOURS = ("#d73027", "#f46d43", "#fdae61", "#fee090", "#ffffbf", "#e0f3f8", "#abd9e9",
            "#74add1", "#4575b4")  # fmt: skip
_FEWEST, _MOST = 2.0, 8.5  # bits per weight at the ends of the colours; Q8_0 has 8.5


@dataclass(frozen=True, slots=True)
class Point:
    """A file in the picture of size against loss."""

    name: str
    n_bytes: int
    kld: float
    error: float = math.nan


def front(points: Sequence[Point]) -> str:
    """Size against loss, loss on a logarithmic scale. Points on the front are joined."""
    points = sorted((p for p in points if p.kld > 0), key=lambda point: point.n_bytes)
    if not points:
        return ""
    sizes = [point.n_bytes / 1e6 for point in points]
    lows = [point.kld for point in points]
    axes = _Axes((min(sizes) * 0.97, max(sizes) * 1.03), (min(lows) / 1.5, max(lows) * 1.5), True)
    best, line = math.inf, []
    for point in points:
        if point.kld < best:
            best = point.kld
            line.append((point.n_bytes / 1e6, point.kld))
    body = [_line([axes.at(x, y) for x, y in line], "front")]
    for point in points:
        x, y = axes.at(point.n_bytes / 1e6, point.kld)
        if point.error == point.error:
            low = max(point.kld - point.error, min(lows) / 1.5)
            high = axes.at(0, point.kld + point.error)[1]
            body.append(f'<path class="bar" d="M{x:.1f} {axes.at(0, low)[1]:.1f}V{high:.1f}"/>')
        body.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
        body.append(f'<text x="{x + 7:.1f}" y="{y - 6:.1f}">{escape(point.name)}</text>')
    return _drawing(axes, body, "MB of file", "mean KLD")


def positions(rows: Sequence[tuple[int, float, float]], last: int) -> str:
    """Loss over the position in a chunk; `rows` are (first place, mean, error)."""
    ends = [*(row[0] for row in rows[1:]), last]
    middles = [(row[0] + end) / 2 for row, end in zip(rows, ends, strict=True)]
    errors = [row[2] if row[2] == row[2] else 0.0 for row in rows]
    highest = max(row[1] + error for row, error in zip(rows, errors, strict=True)) or 1e-9
    axes = _Axes((rows[0][0], last), (0.0, highest * 1.1), False)
    upper = [axes.at(x, r[1] + e) for x, r, e in zip(middles, rows, errors, strict=True)]
    lower = [axes.at(x, max(r[1] - e, 0)) for x, r, e in zip(middles, rows, errors, strict=True)]
    band = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*upper, *reversed(lower)])
    means = [axes.at(x, row[1]) for x, row in zip(middles, rows, strict=True)]
    body = [f'<polygon class="band" points="{band}"/>', _line(means, "mean")]
    return _drawing(axes, body, "position in the text, tokens", "mean KLD")


def heat_map(tensors: Sequence[Tensor]) -> str:
    """Types of a file's matrices: a row for each kind of tensor, a column for each layer."""
    kinds: dict[str, dict[int, Tensor]] = {}
    for tensor in tensors:
        if len(tensor.shape) < 2:
            continue
        parts = tensor.name.split(".")
        layer = int(parts[1]) if parts[0] == "blk" and parts[1].isdigit() else -1
        kind = ".".join(parts[2:] if layer >= 0 else parts).removesuffix(".weight")
        kinds.setdefault(kind, {})[layer] = tensor
    layers = 1 + max((layer for row in kinds.values() for layer in row), default=0)
    left, cell = 120, max(min(22, 900 // max(layers, 1)), 6)
    body = []
    for row, (kind, cells) in enumerate(sorted(kinds.items())):
        y = 18 + row * 24
        body.append(f'<text class="right" x="{left - 6}" y="{y + 14}">{escape(kind)}</text>')
        for layer, tensor in cells.items():
            x = left + max(layer, 0) * cell
            bits = _BITS.get(tensor.ggml_type, 16.0)
            label = f"{tensor.name}: {tensor.ggml_type}, {bits:.2f} bits per weight"
            body.append(
                f'<rect x="{x}" y="{y}" width="{cell - 1}" height="20"'
                f' fill="{_colour(bits)}"><title>{escape(label)}</title></rect>'
            )
    height = 18 + len(kinds) * 24
    body += _legend(sorted({t.ggml_type for row in kinds.values() for t in row.values()},
                           key=lambda name: _BITS.get(name, 16.0)), left, height + 8)  # fmt: skip
    return _svg(max(left + layers * cell + 10, _WIDTH), height + 46, body)


def _legend(types: Sequence[str], left: int, y: int) -> list[str]:
    body = []
    for number, name in enumerate(types):
        x = left + number * 78
        body.append(f'<rect x="{x}" y="{y}" width="14" height="14" '
                    f'fill="{_colour(_BITS.get(name, 16.0))}"/>')  # fmt: skip
        body.append(f'<text x="{x + 18}" y="{y + 12}">{escape(name)}</text>')
    return body


def _colour(bits: float) -> str:
    share = (bits - _FEWEST) / (_MOST - _FEWEST)
    return _COLOURS[max(min(round(share * (len(_COLOURS) - 1)), len(_COLOURS) - 1), 0)]


@dataclass(frozen=True, slots=True)
class _Axes:
    x: tuple[float, float]
    y: tuple[float, float]
    logarithmic: bool

    def at(self, x: float, y: float) -> tuple[float, float]:
        low, high = self.y
        if self.logarithmic:
            low, high, y = math.log(low), math.log(high), math.log(max(y, self.y[0]))
        width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return (
            _LEFT + width * (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1),
            _TOP + height * (1 - (y - low) / ((high - low) or 1)),
        )

    def ticks(self) -> tuple[list[float], list[float]]:
        """About five round values on each axis."""
        return _round_values(*self.x), (
            _decades(*self.y) if self.logarithmic else _round_values(*self.y)
        )


def _round_values(low: float, high: float) -> list[float]:
    step = 10 ** math.floor(math.log10(((high - low) or 1) / 4))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= 6)
    first = math.ceil(low / step)
    return [n * step for n in range(first, math.floor(high / step) + 1)]


def _decades(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [m * 10.0**power for power in powers for m in (1, 2, 5)]
    return [value for value in every if low <= value <= high]


def _drawing(axes: _Axes, body: list[str], x_title: str, y_title: str) -> str:
    bottom = _HEIGHT - _BOTTOM
    frame = [f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{_WIDTH - _RIGHT}"/>']
    ticks_x, ticks_y = axes.ticks()
    for value in ticks_x:
        x = axes.at(value, axes.y[0])[0]
        frame.append(f'<text class="middle" x="{x:.1f}" y="{bottom + 18}">{value:g}</text>')
    for value in ticks_y:
        y = axes.at(axes.x[0], value)[1]
        frame.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        frame.append(f'<text class="right" x="{_LEFT - 6}" y="{y + 4:.1f}">{value:g}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    frame.append(f'<text class="middle" x="{middle}" y="{_HEIGHT - 8}">{escape(x_title)}</text>')
    frame.append(f'<text x="4" y="12">{escape(y_title)}</text>')
    return _svg(_WIDTH, _HEIGHT, frame + body)


def _line(points: Sequence[tuple[float, float]], kind: str) -> str:
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{kind}" points="{joined}"/>'


_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:currentColor}"
    ".right{text-anchor:end}.middle{text-anchor:middle}"
    "polyline{fill:none;stroke:#2166ac;stroke-width:2}.front{stroke-dasharray:4 3}"
    ".band{fill:#2166ac;opacity:.2}circle{fill:#2166ac}.bar{stroke:#2166ac}"
    ".axis{fill:none;stroke:currentColor}.grid{stroke:currentColor;opacity:.15}"
)


def _svg(width: int, height: int, body: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img"><style>{_STYLE}</style>'
        + "".join(body)
        + "</svg>"
    )
