// Attention of one token over a cache of 16-bit floats, for processors with AVX-512.
//
// Part of Snugly (Apache-2.0), added to llama.cpp when Snugly compiles it for a machine. Sixteen
// places of the cache at once, where ggml takes one after another: a sum, an exp() and a pass over
// a 16-bit accumulator for each. Here sums are of 32 bits.

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define SNUGLY_LOOKS 1

#include <immintrin.h>

#include <cmath>
#include <cstdint>

namespace snugly {

// e^x for x <= 0, to 2 units in the last place; 0 where x is far below.
inline __m512 exp_down(__m512 x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-104.0f));
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 8);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
    return _mm512_scalef_ps(p, n);
}

inline __m512 halves(const char * from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) from));
}

// The sums of sixteen vectors, one per lane.
inline __m512 sums(const __m512 * a) {
    __m512 b[8], c[4];
    for (int i = 0; i < 8; ++i) {
        b[i] = _mm512_add_ps(_mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]), _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]));
    }
    for (int i = 0; i < 4; ++i) {
        const __m512d one = _mm512_castps_pd(b[2 * i]), two = _mm512_castps_pd(b[2 * i + 1]);
        c[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(one, two)),
                             _mm512_castpd_ps(_mm512_unpackhi_pd(one, two)));
    }
    const __m512 d = _mm512_add_ps(_mm512_shuffle_f32x4(c[0], c[1], 0x88), _mm512_shuffle_f32x4(c[0], c[1], 0xdd));
    const __m512 e = _mm512_add_ps(_mm512_shuffle_f32x4(c[2], c[3], 0x88), _mm512_shuffle_f32x4(c[2], c[3], 0xdd));
    return _mm512_add_ps(_mm512_shuffle_f32x4(d, e, 0x88), _mm512_shuffle_f32x4(d, e, 0xdd));
}

// What looks back at the same keys and values: heads of one token, or one.
struct Look {
    const float * query;
    const uint16_t * mask;  // 16-bit floats, one per place; none: all are seen
    float slope;
    float * largest;  // of the scores
    float * sum;      // of e^(score - largest)
    float * values;   // weighed by it
};

constexpr int kLooks = 8;  // at once
// Places that all heads look at before any goes on: their keys and values lie side by side, and what
// the next ones need is on its way meanwhile.
constexpr int64_t kStretch = 64;

// The places from `first` to `end`, with what was made of earlier ones if there is `more` than these.
// D: the length of keys and of values.
template <int D>
inline void look(const Look * looks, int count, const char * k, int64_t next_k, const char * v, int64_t next_v,
                 float scale, int64_t first, int64_t end, bool more) {
    constexpr int kParts = D / 16;
    constexpr int kSets = D > 128 ? 1 : 2;  // of accumulators: none waits for the one before
    const __m512 never = _mm512_set1_ps(-INFINITY);
    alignas(64) float query[kLooks][D], values[kLooks][D], keys[16][D], here[16][D], weight[16];
    __m512 total[kLooks];
    float most[kLooks];
    for (int one = 0; one < count; ++one) {
        for (int i = 0; i < D; ++i) query[one][i] = looks[one].query[i] * scale;
        for (int i = 0; i < D; ++i) values[one][i] = more ? looks[one].values[i] : 0.0f;
        total[one] = _mm512_maskz_mov_ps(1, _mm512_set1_ps(more ? *looks[one].sum : 0.0f));
        most[one] = more ? *looks[one].largest : -INFINITY;
    }
    for (int64_t at = first; at < end; at += 16) {
        const __mmask16 there = end - at >= 16 ? 0xffff : (__mmask16) ((1 << (end - at)) - 1);
        __mmask16 seen[kLooks], any = 0;
        __m512 beside[kLooks];
        for (int one = 0; one < count; ++one) {
            seen[one] = there;
            beside[one] = _mm512_setzero_ps();
            if (const uint16_t * mask = looks[one].mask) {
                beside[one] = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(there, mask + at));
                seen[one] = _mm512_mask_cmp_ps_mask(there, beside[one], never, _CMP_NEQ_UQ);
            }
            any |= seen[one];
        }
        if (!any) continue;
        for (int i = 0; i < 16; ++i) {
            const bool is_there = any >> i & 1;  // else anything may stand there
            for (int line = 0; line < 2 * D; line += 64) {
                _mm_prefetch(k + (at + i + kStretch) * next_k + line, _MM_HINT_T0);
                _mm_prefetch(v + (at + i + kStretch) * next_v + line, _MM_HINT_T0);
            }
            for (int part = 0; part < kParts; ++part) {
                const __m512 key = is_there ? halves(k + (at + i) * next_k + 32 * part) : _mm512_setzero_ps();
                const __m512 value = is_there ? halves(v + (at + i) * next_v + 32 * part) : _mm512_setzero_ps();
                _mm512_store_ps(keys[i] + 16 * part, key);
                _mm512_store_ps(here[i] + 16 * part, value);
            }
        }
        for (int one = 0; one < count; ++one) {
            if (!seen[one]) continue;
            __m512 each[16], parts[kSets][kParts];
            for (int i = 0; i < 16; ++i) {
                each[i] = _mm512_mul_ps(_mm512_load_ps(query[one]), _mm512_load_ps(keys[i]));
                for (int part = 1; part < kParts; ++part) {
                    each[i] = _mm512_fmadd_ps(_mm512_load_ps(query[one] + 16 * part),
                                              _mm512_load_ps(keys[i] + 16 * part), each[i]);
                }
            }
            const __m512 plain = _mm512_fmadd_ps(_mm512_set1_ps(looks[one].slope), beside[one], sums(each));
            const __m512 scores = _mm512_mask_mov_ps(never, seen[one], plain);
            const float top = _mm512_reduce_max_ps(scores);
            for (int part = 0; part < kParts; ++part) {
                parts[0][part] = _mm512_load_ps(values[one] + 16 * part);
                for (int set = 1; set < kSets; ++set) parts[set][part] = _mm512_setzero_ps();
            }
            if (top > most[one]) {
                const __m512 less = exp_down(_mm512_set1_ps(most[one] - top));
                total[one] = _mm512_mul_ps(total[one], less);
                for (int part = 0; part < kParts; ++part) parts[0][part] = _mm512_mul_ps(parts[0][part], less);
                most[one] = top;
            }
            const __m512 now = exp_down(_mm512_sub_ps(scores, _mm512_set1_ps(most[one])));
            const __m512 weights = _mm512_maskz_mov_ps(seen[one], now);
            total[one] = _mm512_add_ps(total[one], weights);
            _mm512_store_ps(weight, weights);
            for (int i = 0; i < 16; i += kSets) {
                for (int set = 0; set < kSets; ++set) {
                    const __m512 times = _mm512_set1_ps(weight[i + set]);
                    for (int part = 0; part < kParts; ++part) {
                        parts[set][part] = _mm512_fmadd_ps(
                            times, _mm512_load_ps(here[i + set] + 16 * part), parts[set][part]);
                    }
                }
            }
            for (int part = 0; part < kParts; ++part) {
                for (int set = 1; set < kSets; ++set) parts[0][part] = _mm512_add_ps(parts[0][part], parts[set][part]);
                _mm512_store_ps(values[one] + 16 * part, parts[0][part]);
            }
        }
    }
    for (int one = 0; one < count; ++one) {
        *looks[one].largest = most[one];
        *looks[one].sum = _mm512_reduce_add_ps(total[one]);
        for (int i = 0; i < D; ++i) looks[one].values[i] = values[one][i];
    }
}

// As above for the lengths that models have; false for others, with nothing done.
inline bool looked(int64_t length, const Look * looks, int count, const char * k, int64_t next_k, const char * v,
                   int64_t next_v, float scale, int64_t first, int64_t end, bool more) {
    switch (length) {
        case 64: look<64>(looks, count, k, next_k, v, next_v, scale, first, end, more); return true;
        case 80: look<80>(looks, count, k, next_k, v, next_v, scale, first, end, more); return true;
        case 96: look<96>(looks, count, k, next_k, v, next_v, scale, first, end, more); return true;
        case 128: look<128>(looks, count, k, next_k, v, next_v, scale, first, end, more); return true;
        case 256: look<256>(looks, count, k, next_k, v, next_v, scale, first, end, more); return true;
        default: return false;
    }
}

}  // namespace snugly
#endif
