"""The products that are compiled into llama.cpp, beside plain sums over the same numbers."""

# ruff: noqa: E501  (C as it is read)

import shutil
import subprocess
from pathlib import Path

import pytest

from snugly.engine import build_native_kernels
from snugly.engine.build_native_kernels import PLACES, add, digest
from snugly.errors import EngineError

HEADERS = Path(build_native_kernels.__file__).with_name("kernels")
# ggml-common.h's blocks, as far as they are used.
BLOCKS = """
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define QK_K 256
typedef uint16_t ggml_half;
typedef struct { ggml_half d; uint8_t qs[16]; } block_q4_0;
typedef struct { ggml_half d, m; uint8_t qs[16]; } block_q4_1;
typedef struct { ggml_half d; uint8_t qh[4], qs[16]; } block_q5_0;
typedef struct { ggml_half d, m; uint8_t qh[4], qs[16]; } block_q5_1;
typedef struct { ggml_half d; int8_t qs[32]; } block_q8_0;
typedef struct { ggml_half d, s; int8_t qs[32]; } block_q8_1;
typedef struct { ggml_half d, dmin; uint8_t scales[12], qs[128]; } block_q4_K;
typedef struct { uint8_t ql[128], qh[64]; int8_t scales[16]; ggml_half d; } block_q6_K;
typedef struct { float d; int8_t qs[256]; int16_t bsums[16]; } block_q8_K;
#define GGML_CPU_FP16_TO_FP32(x) _cvtsh_ss(x)
static int any(int n) { return rand() / 7 % n; }
static ggml_half half(float x) { return _cvtss_sh(x, 0); }
static int wrong = 0;
static void same(const char * what, double is, double should, double size) {
    if (fabs(is - should) > 2e-5 * size) { printf("%s: %g, not %g\\n", what, is, should); wrong = 1; }
}
"""
PANELS = """
enum { GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1, GGML_TYPE_Q8_0, GGML_TYPE_Q8_1 };
struct ggml_compute_params { int ith, nth; };
#include <type_traits>
#include <vector>
#include "snugly_panels.h"
static int bits(const uint8_t * qs, int i) { return i < 16 ? qs[i] & 15 : qs[i - 16] >> 4; }
static int fifth(const uint8_t * qh, int i) { return (qh[i / 8] >> (i % 8) & 1) << 4; }
static double of(const block_q4_0 & b, int i) { return _cvtsh_ss(b.d) * (bits(b.qs, i) - 8); }
static double of(const block_q4_1 & b, int i) { return _cvtsh_ss(b.d) * bits(b.qs, i) + _cvtsh_ss(b.m); }
static double of(const block_q5_0 & b, int i) { return _cvtsh_ss(b.d) * ((bits(b.qs, i) | fifth(b.qh, i)) - 16); }
static double of(const block_q5_1 & b, int i) { return _cvtsh_ss(b.d) * (bits(b.qs, i) | fifth(b.qh, i)) + _cvtsh_ss(b.m); }
static double of(const block_q8_0 & b, int i) { return _cvtsh_ss(b.d) * b.qs[i]; }
static double of(const block_q8_1 & b, int i) { return _cvtsh_ss(b.d) * b.qs[i]; }
static void mend(block_q8_0 &) {}
static void mend(block_q8_1 & b) {
    int sum = 0;
    for (int i = 0; i < 32; ++i) sum += b.qs[i];
    b.d = half(0.5f);  // so that the half of the sum is exact
    b.s = half(0.5f * sum);
}
template <typename A, typename B> void check(const char * name, int atype, int btype) {
    for (int m : {17, 33, 64}) for (int n : {8, 11}) for (int k : {1, 5}) {
        std::vector<A> a(m * k); std::vector<B> b(n * k); std::vector<float> c(n * m, NAN);
        for (auto & x : a) { for (size_t i = 0; i < sizeof(x); ++i) ((char *) &x)[i] = any(256); x.d = half(any(100) * 0.01f); }
        if constexpr (!std::is_same<A, B>::value && std::is_same<B, block_q8_1>::value)
            for (auto & x : a) x.m = half(any(100) * -0.01f);
        for (auto & x : b) { for (auto & q : x.qs) q = any(255) - 127; x.d = half(any(100) * 0.01f); mend(x); }
        for (int t = 0; t < 2; ++t) {
            ggml_compute_params p = {t, 2};
            if (!snugly::panels(&p, m, n, k, a.data(), k, b.data(), k, c.data(), m, atype, btype)) wrong = 1;
        }
        for (int i = 0; i < m; ++i) for (int j = 0; j < n; ++j) {
            double sum = 0, size = 1;
            for (int l = 0; l < 32 * k; ++l) {
                double one = of(a[i * k + l / 32], l % 32) * of(b[j * k + l / 32], l % 32);
                sum += one; size += fabs(one);
            }
            same(name, c[j * m + i], sum, size);
        }
    }
}
static void least(const uint8_t * q, int j, int * d, int * m) {
    if (j < 4) { *d = q[j] & 63; *m = q[j + 4] & 63; return; }
    *d = (q[j + 4] & 15) | (q[j - 4] >> 6) << 4;
    *m = (q[j + 4] >> 4) | (q[j] >> 6) << 4;
}
// As ggml's repack.cpp stores eight rows, eight bytes of each at a time.
static void interleaved() {
    for (int m : {8, 24, 64}) {
        const int n = 9, k = 2;
        std::vector<block_q4_K> a(m * k); std::vector<block_q8_K> b(n * k); std::vector<float> c(n * m, NAN);
        for (auto & x : a) { for (size_t i = 0; i < sizeof(x); ++i) ((char *) &x)[i] = any(256); x.d = half(0.25f); x.dmin = half(any(9) * 0.1f); }
        for (auto & y : b) {
            for (auto & q : y.qs) q = any(255) - 127;
            memset(y.bsums, 0, sizeof(y.bsums));
            for (int i = 0; i < 256; ++i) y.bsums[i / 16] += y.qs[i];
            y.d = 0.1f * any(9);
        }
        std::vector<snugly::Interleaved::Eight> rows(m / 8 * k);
        for (int i = 0; i < m; ++i) for (int l = 0; l < k; ++l) {
            auto & to = rows[i / 8 * k + l]; const auto & x = a[i * k + l]; const int r = i % 8;
            to.d[r] = x.d; to.dmin[r] = x.dmin;
            for (int o = 0; o < 128; ++o) to.qs[o / 8 * 64 + r * 8 + o % 8] = x.qs[o];
            for (int part = 0; part < 8; ++part) {
                int s, z; least(x.scales, part, &s, &z);
                uint8_t * q = to.scales + part * 12;
                if (r < 4) { q[r] = (q[r] & 192) | s; q[4 + r] = (q[4 + r] & 192) | z; }
                else { q[r - 4] = (q[r - 4] & 63) | (s & 48) << 2; q[r] = (q[r] & 63) | (z & 48) << 2; q[4 + r] = (s & 15) | (z & 15) << 4; }
            }
        }
        for (int t = 0; t < 2; ++t)
            snugly::product(snugly::Interleaved{(const char *) rows.data()}, m, n, k * 8, b.data(), k, c.data(), m, t, 2);
        for (int i = 0; i < m; ++i) for (int j = 0; j < n; ++j) {
            double sum = 0, size = 1;
            for (int l = 0; l < 256 * k; ++l) {
                const auto & x = a[i * k + l / 256]; const int z = l % 256, q = x.qs[z / 64 * 32 + z % 32];
                int d, u; least(x.scales, z / 32, &d, &u);
                const double w = _cvtsh_ss(x.d) * d * (z % 64 < 32 ? q & 15 : q >> 4) - _cvtsh_ss(x.dmin) * u;
                const double one = w * b[j * k + l / 256].qs[z] * b[j * k + l / 256].d;
                sum += one; size += fabs(one);
            }
            same("eight rows of Q4_K", c[j * m + i], sum, size);
        }
    }
}
int main() {
    interleaved();
    check<block_q4_0, block_q8_0>("Q4_0", GGML_TYPE_Q4_0, GGML_TYPE_Q8_0);
    check<block_q4_1, block_q8_1>("Q4_1", GGML_TYPE_Q4_1, GGML_TYPE_Q8_1);
    check<block_q5_0, block_q8_0>("Q5_0", GGML_TYPE_Q5_0, GGML_TYPE_Q8_0);
    check<block_q5_1, block_q8_1>("Q5_1", GGML_TYPE_Q5_1, GGML_TYPE_Q8_1);
    check<block_q8_0, block_q8_0>("Q8_0", GGML_TYPE_Q8_0, GGML_TYPE_Q8_0);
    ggml_compute_params p = {0, 1};
    if (snugly::panels(&p, 64, 7, 1, 0, 1, 0, 1, 0, 64, GGML_TYPE_Q4_0, GGML_TYPE_Q8_0)) wrong = 1;
    if (snugly::panels(&p, 64, 8, 1, 0, 1, 0, 1, 0, 64, GGML_TYPE_Q4_1, GGML_TYPE_Q8_0)) wrong = 1;
    return wrong;
}
"""
ROWS = """
#include "snugly_rows.h"
static void least(const uint8_t * q, int j, int * d, int * m) {
    if (j < 4) { *d = q[j] & 63; *m = q[j + 4] & 63; return; }
    *d = (q[j + 4] & 15) | (q[j - 4] >> 6) << 4;
    *m = (q[j + 4] >> 4) | (q[j] >> 6) << 4;
}
int main(void) {
    enum { N = 3 };
    block_q4_K a[N]; block_q6_K b[N]; block_q8_K y[N];
    for (int round = 0; round < 100; ++round) {
        double fours = 0, sixes = 0, size = 1, sizes = 1;
        for (int i = 0; i < N; ++i) {
            for (size_t z = 0; z < sizeof(*a); ++z) ((char *) (a + i))[z] = any(256);
            for (size_t z = 0; z < sizeof(*b); ++z) ((char *) (b + i))[z] = any(256);
            for (int z = 0; z < 256; ++z) y[i].qs[z] = any(255) - 127;
            memset(y[i].bsums, 0, sizeof(y[i].bsums));
            for (int z = 0; z < 256; ++z) y[i].bsums[z / 16] += y[i].qs[z];
            y[i].d = 0.5f; a[i].d = half(0.25f); a[i].dmin = half(any(9) * 0.1f); b[i].d = half(any(9) * 0.1f);
            for (int z = 0; z < 256; ++z) {
                int d, m, q = a[i].qs[z / 64 * 32 + z % 32];
                least(a[i].scales, z / 32, &d, &m);
                double w = _cvtsh_ss(a[i].d) * d * (z % 64 < 32 ? q & 15 : q >> 4) - _cvtsh_ss(a[i].dmin) * m;
                fours += w * y[i].qs[z] * 0.5; size += fabs(w * y[i].qs[z]);
                int part = z % 128, h = z / 128, low = b[i].ql[h * 64 + part % 64];
                int high = b[i].qh[h * 32 + part % 32] >> part / 32 * 2 & 3;
                w = _cvtsh_ss(b[i].d) * b[i].scales[z / 16] * (((part < 64 ? low & 15 : low >> 4) | high << 4) - 32);
                sixes += w * y[i].qs[z] * 0.5; sizes += fabs(w * y[i].qs[z]);
            }
        }
        float is;
        snugly_row_q4_K(256 * N, &is, a, y); same("Q4_K", is, fours, size);
        snugly_row_q6_K(256 * N, &is, b, y); same("Q6_K", is, sixes, sizes);
    }
    return wrong;
}
"""
LOOKS = """
#include <vector>
#include "snugly_looks.h"
static void check(int d, int n, int kind, int count) {
    const int stride = 2 * d + 32, first = n > 20 ? 7 : 0;  // of other heads, between the places
    std::vector<float> q(count * d), out(count * d, NAN), most(count, NAN), sum(count, NAN);
    std::vector<ggml_half> k(n * stride), v(n * stride), mask(count * n);
    for (auto & x : q) x = 0.05f * (any(100) - 50);
    for (auto & x : k) x = half(0.05f * (any(100) - 50));
    for (auto & x : v) x = half(0.1f * (any(100) - 50));
    for (auto & x : mask) x = half(kind == 1 ? 0.0f : kind == 2 && any(3) || kind == 3 ? -INFINITY : -0.1f * any(9));
    if (kind == 2) for (int c = 0; c < count; ++c) mask[c * n + n / 2] = half(0.0f);
    for (int i = 0; i < n && kind; ++i) {
        bool any_sees = false;
        for (int c = 0; c < count; ++c) any_sees |= !std::isinf(_cvtsh_ss(mask[c * n + i]));
        for (int j = 0; j < d && !any_sees; ++j) k[i * stride + j] = v[i * stride + j] = half(NAN);
    }
    snugly::Look looks[snugly::kLooks];
    for (int c = 0; c < count; ++c)
        looks[c] = {&q[c * d], kind ? &mask[c * n] : nullptr, 0.5f, &most[c], &sum[c], &out[c * d]};
    const int part = n > 20 ? 40 : n;  // the rest goes on from there
    for (int at = first; at < n; at = at < part ? part : n)
        if (!snugly::looked(d, looks, count, (const char *) k.data(), 2 * stride, (const char *) v.data(), 2 * stride,
                            0.125f, at, at < part ? part : n, at > first)) wrong = 1;
    for (int c = 0; c < count; ++c) {
        double top = -INFINITY, all = 0;
        std::vector<double> score(n, -INFINITY), should(d), size(d, 1e-3);
        for (int i = first; i < n; ++i) {
            if (kind && std::isinf(_cvtsh_ss(mask[c * n + i]))) continue;
            score[i] = kind ? 0.5 * _cvtsh_ss(mask[c * n + i]) : 0;
            for (int j = 0; j < d; ++j) score[i] += 0.125 * q[c * d + j] * _cvtsh_ss(k[i * stride + j]);
            top = fmax(top, score[i]);
        }
        if (kind == 3) {
            if (!std::isinf(most[c]) || sum[c] != 0) wrong = 2;
            for (int j = 0; j < d; ++j) if (out[c * d + j] != 0) wrong = 3;
            continue;
        }
        for (int i = first; i < n; ++i) if (!std::isinf(score[i])) {
            const double weight = exp(score[i] - top);
            all += weight;
            for (int j = 0; j < d; ++j) { const double one = weight * _cvtsh_ss(v[i * stride + j]); should[j] += one; size[j] += fabs(one); }
        }
        same("largest", most[c], top, 1 + fabs(top)); same("sum", sum[c], all, all);
        for (int j = 0; j < d; ++j) same("value", out[c * d + j], should[j], size[j]);
    }
}
int main() {
    for (int d : {64, 80, 96, 128, 256}) for (int n : {1, 15, 16, 100}) for (int kind = 0; kind < 4; ++kind)
        for (int count : {1, 3, 8}) check(d, n, kind, count);
    if (snugly::looked(72, nullptr, 0, nullptr, 0, nullptr, 0, 1.0f, 0, 0, false)) wrong = 4;
    return wrong;
}
"""
FLAGS = ("-O1", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vnni", "-mf16c", "-mfma")


def can() -> bool:
    """Whether this machine compiles and runs AVX-512 VNNI."""
    info = Path("/proc/cpuinfo")
    known = info.read_text() if info.exists() else ""
    return bool(shutil.which("c++")) and "avx512_vnni" in known and "avx512bw" in known


@pytest.mark.skipif(not can(), reason="no compiler, or no AVX-512 VNNI here")
@pytest.mark.parametrize(
    ("name", "text"), [("panels.cpp", PANELS), ("rows.c", ROWS), ("looks.cpp", LOOKS)]
)
def test_products_are_the_plain_sums(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(BLOCKS + text)
    compiler = "c++" if name.endswith("cpp") else "cc"
    standard = ("-std=c++17",) if compiler == "c++" else ()
    subprocess.run(
        [compiler, *standard, *FLAGS, f"-I{HEADERS}", name, "-o", "check", "-lm"],
        cwd=tmp_path, check=True,
    )  # fmt: skip
    done = subprocess.run([tmp_path / "check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def source(root: Path) -> Path:
    for file in dict.fromkeys(place.file for place in PLACES):
        path = root / "ggml/src/ggml-cpu" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [p for p in PLACES if p.file == file and (p.after or "x86" not in file)]
        path.write_text("// before\n" + "".join(p.line for p in rows) + "// behind\n")
    return root


def test_they_are_added_once(tmp_path: Path) -> None:
    root = source(tmp_path)
    add(root)
    rows = (root / "ggml/src/ggml-cpu/arch/x86/quants.c").read_text()
    assert rows.count("snugly_row_q4_K(n, s, vx, vy);") == 1
    assert rows.count("snugly_row_q6_K(n, s, vx, vy);") == 1
    assert rows.index('#include "snugly_rows.h"') < rows.index("void ggml_vec_dot_q4_K_q8_K")
    add(root)
    assert (root / "ggml/src/ggml-cpu/arch/x86/quants.c").read_text() == rows
    assert (root / "ggml/src/ggml-cpu/llamafile/snugly_panels.h").is_file()
    assert len(digest()) == 12


def test_another_llama_cpp_is_refused(tmp_path: Path) -> None:
    root = source(tmp_path)
    (root / "ggml/src/ggml-cpu/llamafile/sgemm.cpp").write_text("int main() {}")
    with pytest.raises(EngineError, match="kernels"):
        add(root)
