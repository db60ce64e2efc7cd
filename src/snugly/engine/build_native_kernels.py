"""Products of our own that are compiled into llama.cpp, for processors with AVX-512 VNNI.

llama.cpp multiplies Q4_1, Q5_1 and others row by row, whatever the length of the prompt, Q4_K that
was stored for writing at 0.6 of what it does otherwise, and single rows of K-quants by AVX2; and a
token looks back at one place of the cache after another. What is in `kernels/` does each more
quickly where the processor can, and is nothing at all elsewhere: the compiler leaves it out.
"""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from snugly.errors import EngineError
from snugly.model import sidecar

_HERE = Path(__file__).with_name("kernels")
_CPU = Path("ggml/src/ggml-cpu")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a line of llama.cpp gets `text` before it or, at `after`, behind it."""

    file: str
    line: str
    text: str
    after: bool = True


def _row(kind: str) -> Place:
    return Place(
        "arch/x86/quants.c",
        f"void ggml_vec_dot_{kind}_q8_K(int n, float * GGML_RESTRICT s, size_t bs,"
        " const void * GGML_RESTRICT vx, size_t bx, const void * GGML_RESTRICT vy, size_t by,"
        " int nrc) {\n    assert(n % QK_K == 0);\n    assert(nrc == 1);\n",
        f"#ifdef SNUGLY_ROWS\n    snugly_row_{kind}(n, s, vx, vy);\n    return;\n#endif\n",
    )


# Found once each in the pinned source (build_native_pins.SOURCE).
PLACES = (
    Place(
        "llamafile/sgemm.cpp",
        "bool llamafile_sgemm(const struct ggml_compute_params * params, int64_t m,",
        '#include "snugly_panels.h"\n\n',
        after=False,
    ),
    Place(
        "llamafile/sgemm.cpp",
        "    switch (Atype) {\n",
        "#ifdef SNUGLY_PANELS\n    if (snugly::panels(params, m, n, k, A, lda, B, ldb, C, ldc,"
        " Atype, Btype))\n        return true;\n#endif\n\n",
        after=False,
    ),
    Place("repack.cpp", '#include "repack.h"\n', '#include "llamafile/snugly_panels.h"\n'),
    Place(
        "repack.cpp",
        "        assert(params->wsize >= nbw2 * ne12);\n\n"
        "        const ggml_from_float_t from_float ="
        " ggml_get_type_traits_cpu(PARAM_TYPE)->from_float;\n",
        '#include "llamafile/snugly_repacked.h"\n',
    ),
    Place(
        "arch/x86/quants.c",
        "void ggml_vec_dot_q4_K_q8_K(int n, float * GGML_RESTRICT s,",
        '#include "snugly_rows.h"\n\n',
        after=False,
    ),
    _row("q4_K"),
    _row("q6_K"),
    Place(
        "ops.cpp",
        "static void ggml_compute_forward_flash_attn_ext_f16_one_chunk(\n"
        "        const ggml_compute_params * params,\n        ggml_tensor * dst,\n"
        "        int ir0, int ir1,\n",
        '#include "snugly_looks.h"\n\n',
        after=False,
    ),
    Place(
        "ops.cpp",
        "        for (int64_t ic = ic_start; ic < ic_end; ++ic) {\n"
        "            const float mv = mp ? slope*GGML_CPU_FP16_TO_FP32(mp[ic]) : 0.0f;\n"
        "            if (mv == -INFINITY) {\n                continue;\n            }\n\n"
        "            float s; // KQ value\n",
        "#ifdef SNUGLY_LOOKS\n"
        "        const snugly::Look look = {pq, mp, slope, &M, &S, VKQ32};\n"
        "        const bool is_done = k->type == GGML_TYPE_F16 && v->type == GGML_TYPE_F16 &&\n"
        "            DK == DV && logit_softcap == 0.0f && snugly::looked(\n"
        "                DK, &look, 1, (const char *) k->data + ik2*nbk2 + ik3*nbk3, nbk1,\n"
        "                (const char *) v->data + iv2*nbv2 + iv3*nbv3, nbv1, scale,\n"
        "                ic_start, ic_end, false);\n"
        "        if (!is_done)\n#endif\n",
        after=False,
    ),
    Place(
        "ops.cpp",
        "        if (v->type == GGML_TYPE_F16) {\n"
        "            for (int64_t d = 0; d < DV; ++d) {\n"
        "                VKQ32[d] = GGML_CPU_FP16_TO_FP32(VKQ16[d]);\n",
        "#ifdef SNUGLY_LOOKS\n        if (!is_done)\n#endif\n",
        after=False,
    ),
    Place(
        "ops.cpp",
        "            for (int64_t q_head = 0; q_head < neq2; q_head++) {\n"
        "                ggml_compute_forward_flash_attn_ext_f16_one_chunk(\n",
        '#include "snugly_looks_of_one_token.h"\n',
        after=False,
    ),
)
_FILES = (
    ("snugly_panels.h", "llamafile"),
    ("snugly_repacked.h", "llamafile"),
    ("snugly_rows.h", "arch/x86"),
    ("snugly_looks.h", "."),
    ("snugly_looks_of_one_token.h", "."),
)


def digest() -> str:
    """What tells one state of the kernels from another."""
    told = hashlib.sha256(repr(PLACES).encode())
    for name, _ in _FILES:
        told.update((_HERE / name).read_bytes())
    return told.hexdigest()[:12]


def add(source: Path) -> None:
    """Put the kernels into llama.cpp's unpacked source; what is there already stays.

    Raises: EngineError where a place for them is missing: another llama.cpp than the pinned one.
    """
    cpu = source / _CPU
    for name, folder in _FILES:
        shutil.copy2(_HERE / name, cpu / folder / name)
    for file in dict.fromkeys(place.file for place in PLACES):
        text = before = (cpu / file).read_text(encoding="utf-8")
        for place in (p for p in PLACES if p.file == file):
            text = _with(text, place)
        if text != before:
            sidecar.write_text(cpu / file, text)


def _with(text: str, place: Place) -> str:
    made = place.line + place.text if place.after else place.text + place.line
    if made in text:
        return text
    if text.count(place.line) != 1:
        raise EngineError(
            "llama.cpp cannot be compiled with Snugly's kernels.",
            f"{place.file} is not the one that they were made for.",
            "Take an official build: `snugly engine build --prebuilt`.",
        )
    return text.replace(place.line, made)
