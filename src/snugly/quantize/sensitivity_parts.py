"""The pieces of a decoder, forwards and backwards, in numpy. Pure functions of arrays.

A backward function takes the gradient of a sum over its result and gives that over its input.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Curve = Callable[[Floats], tuple[Floats, Floats]]
_GELU = math.sqrt(2 / math.pi)
_PART = 1 << 14  # numbers of 64 KiB: half a dozen such arrays stay in a core's own cache


def norm(x: Floats, weight: Floats, epsilon: float) -> Floats:
    """Root-mean-square norm over the last axis."""
    return np.asarray(x * (weight * _inverse(x, epsilon)), dtype=np.float32)


def norm_back(x: Floats, weight: Floats, epsilon: float, given: Floats) -> Floats:
    """Gradient over `x` of `norm`."""
    inverse = _inverse(x, epsilon)
    scaled = given * weight
    along = np.mean(scaled * x, axis=-1, keepdims=True)
    return np.asarray(inverse * scaled - x * (along * inverse**3), dtype=np.float32)


def _inverse(x: Floats, epsilon: float) -> Floats:
    mean = np.einsum("...i,...i->...", x, x)[..., None] / np.float32(x.shape[-1])
    return np.asarray(1 / np.sqrt(mean + np.float32(epsilon)), dtype=np.float32)


def silu(x: Floats) -> tuple[Floats, Floats]:
    """X * sigmoid(x) and its derivative."""
    return _in_parts(_silu, x)


def gelu(x: Floats) -> tuple[Floats, Floats]:
    """GELU by tanh, as ggml computes it, and its derivative."""
    return _in_parts(_gelu, x)


def _in_parts(curve: Curve, x: Floats) -> tuple[Floats, Floats]:
    """A curve and its slope, some numbers at a time: the steps between never leave the cache."""
    bent, slope = np.empty(x.shape, np.float32), np.empty(x.shape, np.float32)
    given, into, beside = x.reshape(-1), bent.reshape(-1), slope.reshape(-1)
    for start in range(0, x.size, _PART):
        here = slice(start, start + _PART)
        into[here], beside[here] = curve(given[here])
    return bent, slope


def _silu(x: Floats) -> tuple[Floats, Floats]:
    with np.errstate(over="ignore"):
        gate = np.asarray(1 / (1 + np.exp(-x)), dtype=np.float32)
    return x * gate, gate * (1 + x * (1 - gate))


def _gelu(x: Floats) -> tuple[Floats, Floats]:
    half, square = np.float32(0.5), x * x
    inner = np.float32(_GELU) * x * (1 + np.float32(0.044715) * square)
    bent = np.asarray(np.tanh(inner), dtype=np.float32)
    slope = np.float32(_GELU) * (1 + np.float32(3 * 0.044715) * square)
    return (
        half * x * (1 + bent),
        half * (1 + bent) + half * x * (1 - bent * bent) * slope,
    )


def turn(x: Floats, angles: tuple[Floats, Floats], halves: bool, back: bool = False) -> Floats:
    """Rotary embedding of x [..., places, heads, length] by cosines and sines [places, n].

    `halves`: the pairs are (i, i + n) as in NeoX, else neighbours. What lies behind the
    turned part stays. `back` turns the other way, which is the gradient.
    """
    cosines, sines = (part[:, None, :] for part in angles)
    if back:
        sines = -sines
    count = cosines.shape[-1]
    result = x.copy()
    if halves:
        left, right = x[..., :count], x[..., count : 2 * count]
        result[..., :count] = left * cosines - right * sines
        result[..., count : 2 * count] = left * sines + right * cosines
    else:
        left, right = x[..., 0 : 2 * count : 2], x[..., 1 : 2 * count : 2]
        result[..., 0 : 2 * count : 2] = left * cosines - right * sines
        result[..., 1 : 2 * count : 2] = left * sines + right * cosines
    return result


def attend(
    q: Floats, k: Floats, v: Floats, scale: float, hidden: NDArray[np.bool_], cap: float
) -> tuple[Floats, Floats]:
    """One sequence: q [heads, places, length], k and v [kv heads, places, length].

    Returns what each head gathers [heads, places, length], and how it attends.
    """
    groups = q.shape[0] // k.shape[0]
    k, v = np.repeat(k, groups, axis=0), np.repeat(v, groups, axis=0)
    scores = (q @ k.swapaxes(1, 2)) * np.float32(scale)
    if cap:
        scores = np.float32(cap) * np.tanh(scores / np.float32(cap))
    scores[:, hidden] = -np.inf
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return np.asarray(scores @ v, dtype=np.float32), scores


def attend_back(
    q: Floats,
    k: Floats,
    v: Floats,
    scale: float,
    cap: float,
    attention: Floats,
    given: Floats,
) -> tuple[Floats, Floats, Floats]:
    """Gradients over q, k and v of `attend`."""
    groups = q.shape[0] // k.shape[0]
    wide_k, wide_v = np.repeat(k, groups, axis=0), np.repeat(v, groups, axis=0)
    over_v = attention.swapaxes(1, 2) @ given
    over = given @ wide_v.swapaxes(1, 2)
    over = attention * (over - np.sum(over * attention, axis=-1, keepdims=True))
    if cap:
        raw = (q @ wide_k.swapaxes(1, 2)) * np.float32(scale / cap)
        over *= 1 - np.tanh(raw) ** 2
    over *= np.float32(scale)
    return (
        np.asarray(over @ wide_k, dtype=np.float32),
        _grouped(np.asarray(over.swapaxes(1, 2) @ q, dtype=np.float32), groups),
        _grouped(np.asarray(over_v, dtype=np.float32), groups),
    )


def _grouped(x: Floats, groups: int) -> Floats:
    return np.asarray(x.reshape(-1, groups, *x.shape[1:]).sum(axis=1), dtype=np.float32)
