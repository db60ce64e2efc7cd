// Quick products of one row of K-quantized weights with one column, for AVX-512 VNNI.
//
// Part of Snugly (Apache-2.0), added to llama.cpp when Snugly compiles it for a machine. The
// integer sums are the same as ggml's; what differs is the order in which floats are added.

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VNNI__)
#define SNUGLY_ROWS 1

static inline void snugly_row_q4_K(int n, float * s, const void * vx, const void * vy) {
    const block_q4_K * x = vx;
    const block_q8_K * y = vy;
    const __m512i low = _mm512_set1_epi8(15);
    const __m512i first = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2);
    const __m512i one = _mm512_set1_epi32(1), four = _mm512_set1_epi32(4);
    __m512 total = _mm512_setzero_ps();
    __m128 least = _mm_setzero_ps();
    for (int i = 0; i < n / QK_K; ++i) {
        uint32_t packed[3];
        memcpy(packed, x[i].scales, 12);
        // Eight scales of six bits, then eight least values.
        const uint32_t s0 = packed[0] & 0x3f3f3f3f, m0 = packed[1] & 0x3f3f3f3f;
        const uint32_t s1 = (packed[2] & 0x0f0f0f0f) | ((packed[0] >> 2) & 0x30303030);
        const uint32_t m1 = ((packed[2] >> 4) & 0x0f0f0f0f) | ((packed[1] >> 2) & 0x30303030);
        const __m128i both = _mm_set_epi32(m1, m0, s1, s0);
        const __m512i scales = _mm512_cvtepu8_epi32(both);  // the first eight are used
        const __m512i q0 = _mm512_loadu_si512(x[i].qs), q1 = _mm512_loadu_si512(x[i].qs + 64);
        const __m512i y0 = _mm512_loadu_si512(y[i].qs), y1 = _mm512_loadu_si512(y[i].qs + 64);
        const __m512i y2 = _mm512_loadu_si512(y[i].qs + 128), y3 = _mm512_loadu_si512(y[i].qs + 192);
        const __m512i zero = _mm512_setzero_si512();
        const __m512i a = _mm512_dpbusd_epi32(zero, _mm512_and_si512(q0, low), _mm512_shuffle_i64x2(y0, y1, 0x44));
        const __m512i b = _mm512_dpbusd_epi32(zero, _mm512_and_si512(_mm512_srli_epi16(q0, 4), low), _mm512_shuffle_i64x2(y0, y1, 0xee));
        const __m512i c = _mm512_dpbusd_epi32(zero, _mm512_and_si512(q1, low), _mm512_shuffle_i64x2(y2, y3, 0x44));
        const __m512i d = _mm512_dpbusd_epi32(zero, _mm512_and_si512(_mm512_srli_epi16(q1, 4), low), _mm512_shuffle_i64x2(y2, y3, 0xee));
        const __m512i third = _mm512_add_epi32(first, four);
        __m512i sum = _mm512_mullo_epi32(a, _mm512_permutexvar_epi32(first, scales));
        sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(b, _mm512_permutexvar_epi32(_mm512_add_epi32(first, one), scales)));
        sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(c, _mm512_permutexvar_epi32(third, scales)));
        sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(d, _mm512_permutexvar_epi32(_mm512_add_epi32(third, one), scales)));
        const float scale = y[i].d * GGML_CPU_FP16_TO_FP32(x[i].d);
        total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(scale), total);
        const __m256i sums = _mm256_loadu_si256((const __m256i *) y[i].bsums);
        const __m128i pairs = _mm_hadd_epi16(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
        const __m128i lowest = _mm_cvtepu8_epi16(_mm_unpackhi_epi64(both, both));
        const float under = -y[i].d * GGML_CPU_FP16_TO_FP32(x[i].dmin);
        least = _mm_fmadd_ps(_mm_set1_ps(under), _mm_cvtepi32_ps(_mm_madd_epi16(lowest, pairs)), least);
    }
    least = _mm_add_ps(least, _mm_movehl_ps(least, least));
    least = _mm_add_ss(least, _mm_movehdup_ps(least));
    *s = _mm512_reduce_add_ps(total) + _mm_cvtss_f32(least);
}

static inline void snugly_row_q6_K(int n, float * s, const void * vx, const void * vy) {
    const block_q6_K * x = vx;
    const block_q8_K * y = vy;
    const __m512i low = _mm512_set1_epi8(15), two = _mm512_set1_epi8(3);
    const __m512i front = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(2), 1);
    const __m512i back = _mm512_add_epi16(front, _mm512_set1_epi16(4));
    const __m512i fours = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    __m512 total = _mm512_setzero_ps();
    for (int i = 0; i < n / QK_K; ++i) {
        const __m128i bytes = _mm_loadu_si128((const __m128i *) x[i].scales);
        const __m512i scales = _mm512_cvtepi8_epi32(bytes);
        // Weights are stored 32 too high.
        const __m256i over = _mm256_slli_epi32(_mm256_madd_epi16(
            _mm256_loadu_si256((const __m256i *) y[i].bsums), _mm256_cvtepi8_epi16(bytes)), 5);
        __m512i sum = _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_zextsi256_si512(over));
        for (int half = 0; half < 2; ++half) {
            const __m512i q = _mm512_loadu_si512(x[i].ql + half * 64);
            const __m512i h = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *) (x[i].qh + half * 32)));
            const __m512i h0 = _mm512_slli_epi16(_mm512_and_si512(_mm512_srlv_epi16(h, front), two), 4);
            const __m512i h1 = _mm512_slli_epi16(_mm512_and_si512(_mm512_srlv_epi16(h, back), two), 4);
            const __m512i w0 = _mm512_or_si512(_mm512_and_si512(q, low), h0);
            const __m512i w1 = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(q, 4), low), h1);
            const __m512i zero = _mm512_setzero_si512();
            const __m512i a = _mm512_dpbusd_epi32(zero, w0, _mm512_loadu_si512(y[i].qs + half * 128));
            const __m512i b = _mm512_dpbusd_epi32(zero, w1, _mm512_loadu_si512(y[i].qs + half * 128 + 64));
            const __m512i at = _mm512_add_epi32(fours, _mm512_set1_epi32(half * 8));
            sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(a, _mm512_permutexvar_epi32(at, scales)));
            sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(b, _mm512_permutexvar_epi32(_mm512_add_epi32(at, _mm512_set1_epi32(4)), scales)));
        }
        const float scale = y[i].d * GGML_CPU_FP16_TO_FP32(x[i].d);
        total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(scale), total);
    }
    *s = _mm512_reduce_add_ps(total);
}
#endif
