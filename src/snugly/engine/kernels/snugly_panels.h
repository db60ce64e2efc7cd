// Quick products of quantized weights with many columns at once, for processors with AVX-512 VNNI.
//
// Part of Snugly (Apache-2.0), added to llama.cpp when Snugly compiles it for a machine.
//
// Rows of weights are unpacked 16 at a time, once for all columns: each lane of a vector holds
// four neighbouring weights of one row, and VPDPBUSD multiplies them with four activations that
// all lanes share. Integer sums are exact, as in ggml's own products of single rows; what differs
// is the order in which blocks are added up.

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VNNI__)
#define SNUGLY_PANELS 1

#include <immintrin.h>

#include <cstring>
#include <type_traits>
#include <vector>

namespace snugly {

constexpr int kRows = 16;   // of weights, one per 32-bit lane
constexpr int kBlock = 32;  // weights that share a scale
constexpr int kLeastColumns = 8;  // below that unpacking takes as long as it saves

// What a block of 32 weights is, unpacked: bytes without a sign, `bias` too high.
template <typename Block> struct Weights;

inline __m256i nibbles(const uint8_t * packed) {
    const __m128i both = _mm_loadu_si128((const __m128i *) packed);
    const __m256i apart = _mm256_inserti128_si256(
        _mm256_castsi128_si256(both), _mm_srli_epi16(both, 4), 1);
    return _mm256_and_si256(apart, _mm256_set1_epi8(15));
}

inline __m256i fifth_bits(const uint8_t * packed) {
    uint32_t bits;
    memcpy(&bits, packed, sizeof(bits));
    return _mm256_maskz_set1_epi8(bits, 16);
}

template <> struct Weights<block_q4_0> {
    using Columns = block_q8_0;
    static constexpr int bias = 8;
    static __m256i bytes(const block_q4_0 & b) { return nibbles(b.qs); }
};

template <> struct Weights<block_q4_1> {
    using Columns = block_q8_1;
    static constexpr int bias = 0;
    static __m256i bytes(const block_q4_1 & b) { return nibbles(b.qs); }
};

template <> struct Weights<block_q5_0> {
    using Columns = block_q8_0;
    static constexpr int bias = 16;
    static __m256i bytes(const block_q5_0 & b) {
        return _mm256_or_si256(nibbles(b.qs), fifth_bits(b.qh));
    }
};

template <> struct Weights<block_q5_1> {
    using Columns = block_q8_1;
    static constexpr int bias = 0;
    static __m256i bytes(const block_q5_1 & b) {
        return _mm256_or_si256(nibbles(b.qs), fifth_bits(b.qh));
    }
};

template <> struct Weights<block_q8_0> {
    using Columns = block_q8_0;
    static constexpr int bias = 128;
    static __m256i bytes(const block_q8_0 & b) {
        return _mm256_xor_si256(
            _mm256_loadu_si256((const __m256i *) b.qs), _mm256_set1_epi8((char) 0x80));
    }
};

// The halves that a block begins with; their names differ between C and C++ in ggml-common.h.
inline uint16_t half_of(const void * block, int number) {
    uint16_t bits;
    memcpy(&bits, (const char *) block + 2 * number, sizeof(bits));
    return bits;
}

// What a thread works with; kept between calls, each as large as the largest so far.
struct Room {
    std::vector<uint8_t> bytes;  // [block][8][16 rows][4 weights], of each panel
    std::vector<float> scales;   // [block][16 rows], and the least values behind them
    std::vector<float> columns;  // [column][block]: scale, and what the bias or the least costs
};

template <typename Block>
void unpack(const Block * a, int64_t lda, int64_t rows, int64_t k, uint8_t * bytes, float * scales) {
    alignas(64) uint8_t plain[kRows][kBlock];
    alignas(32) uint16_t d[kRows], m[kRows];
    const __m512i order = _mm512_setr_epi32(
        0, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120);
    for (int64_t b = 0; b < k; ++b) {
        for (int r = 0; r < kRows; ++r) {
            const Block & block = a[(r < rows ? r : 0) * lda + b];
            _mm256_store_si256((__m256i *) plain[r], Weights<Block>::bytes(block));
            d[r] = r < rows ? half_of(&block, 0) : 0;
            m[r] = r < rows && Weights<Block>::bias == 0 ? half_of(&block, 1) : 0;
        }
        for (int quad = 0; quad < 8; ++quad) {
            _mm512_storeu_si512(bytes + (b * 8 + quad) * 64,
                _mm512_i32gather_epi32(order, (const int *) plain + quad, 4));
        }
        _mm512_storeu_ps(scales + b * 32, _mm512_cvtph_ps(_mm256_load_si256((const __m256i *) d)));
        _mm512_storeu_ps(scales + b * 32 + 16, _mm512_cvtph_ps(_mm256_load_si256((const __m256i *) m)));
    }
}

template <typename Column> inline const int8_t * quants(const Column * row, int64_t block) {
    return row[block].qs;
}

inline const int8_t * quants(const block_q8_K * row, int64_t block) {
    return row[block / 8].qs + block % 8 * kBlock;
}

inline void shares(const block_q8_1 & b, int, float * to) {
    to[0] = _cvtsh_ss(half_of(&b, 0));
    to[1] = _cvtsh_ss(half_of(&b, 1));
}

// The second is an integer: what the bias adds to each sum of products.
inline void shares(const block_q8_0 & b, int bias, float * to) {
    const __m256i q = _mm256_loadu_si256((const __m256i *) b.qs);
    const __m256i fours = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), q);
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256(fours, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
    const int32_t over = -bias * _mm_cvtsi128_si32(sum);
    to[0] = _cvtsh_ss(half_of(&b, 0));
    memcpy(to + 1, &over, sizeof(over));
}

template <typename Column>
inline void shares_of(const Column * row, int64_t block, int bias, float * to) {
    shares(row[block], bias, to);
}

inline void shares_of(const block_q8_K * row, int64_t block, int, float * to) {
    const block_q8_K & b = row[block / 8];
    const int part = block % 8 * 2;
    to[0] = b.d;
    to[1] = b.d * (b.bsums[part] + b.bsums[part + 1]);
}

// PANELS times 16 rows of weights by COLUMNS columns.
template <typename Column, bool LEAST, int PANELS, int COLUMNS>
void tile(const uint8_t * bytes, const float * scales, int64_t k,
          const Column * b, int64_t ldb, const float * of_columns,
          float * c, int64_t ldc, int64_t rows) {
    __m512 total[PANELS][COLUMNS];
    for (int p = 0; p < PANELS; ++p)
        for (int j = 0; j < COLUMNS; ++j) total[p][j] = _mm512_setzero_ps();
    for (int64_t block = 0; block < k; ++block) {
        __m512i sum[PANELS][COLUMNS];
        for (int j = 0; j < COLUMNS; ++j) {
            int32_t over = 0;
            if (!LEAST) memcpy(&over, of_columns + (j * k + block) * 2 + 1, sizeof(over));
            for (int p = 0; p < PANELS; ++p) sum[p][j] = _mm512_set1_epi32(over);
        }
        for (int quad = 0; quad < 8; ++quad) {
            __m512i weights[PANELS];
            for (int p = 0; p < PANELS; ++p)
                weights[p] = _mm512_loadu_si512(bytes + (p * k + block) * 512 + quad * 64);
            for (int j = 0; j < COLUMNS; ++j) {
                int32_t four;
                memcpy(&four, quants(b + j * ldb, block) + quad * 4, sizeof(four));
                const __m512i same = _mm512_set1_epi32(four);
                for (int p = 0; p < PANELS; ++p)
                    sum[p][j] = _mm512_dpbusd_epi32(sum[p][j], weights[p], same);
            }
        }
        for (int p = 0; p < PANELS; ++p) {
            const __m512 d = _mm512_loadu_ps(scales + (p * k + block) * 32);
            const __m512 m = _mm512_loadu_ps(scales + (p * k + block) * 32 + 16);
            for (int j = 0; j < COLUMNS; ++j) {
                const float * share = of_columns + (j * k + block) * 2;
                const __m512 both = _mm512_mul_ps(d, _mm512_set1_ps(share[0]));
                total[p][j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[p][j]), both, total[p][j]);
                if (LEAST) total[p][j] = _mm512_fmadd_ps(m, _mm512_set1_ps(share[1]), total[p][j]);
            }
        }
    }
    for (int p = 0; p < PANELS; ++p) {
        const int64_t there = rows - p * kRows;
        const __mmask16 kept = there >= kRows ? 0xffff : (__mmask16) ((1u << there) - 1);
        for (int j = 0; j < COLUMNS; ++j) _mm512_mask_storeu_ps(c + j * ldc + p * kRows, kept, total[p][j]);
    }
}

template <typename Column, bool LEAST, int PANELS>
void rows_of(const Room & room, int64_t n, int64_t k, const Column * b, int64_t ldb,
             float * c, int64_t ldc, int64_t rows) {
    const uint8_t * bytes = room.bytes.data();
    const float * scales = room.scales.data();
    const float * shares = room.columns.data();
    int64_t j = 0;
    for (; j + 4 <= n; j += 4)
        tile<Column, LEAST, PANELS, 4>(bytes, scales, k, b + j * ldb, ldb, shares + j * k * 2, c + j * ldc, ldc, rows);
    for (; j < n; ++j)
        tile<Column, LEAST, PANELS, 1>(bytes, scales, k, b + j * ldb, ldb, shares + j * k * 2, c + j * ldc, ldc, rows);
}

// Rows as ggml stores them.
template <typename Block> struct Plain {
    const Block * a;
    int64_t lda;
    static constexpr int bias = Weights<Block>::bias;
    void panel(int64_t first, int64_t rows, int64_t k, uint8_t * bytes, float * scales) const {
        unpack(a + first * lda, lda, rows, k, bytes, scales);
    }
};

// Rows of Q4_K, eight interleaved by eight bytes as ggml's repack.cpp stores them (block_q4_Kx8).
// Each part of 32 weights is a block of its own: its scale and least value as floats.
struct Interleaved {
    const char * a;  // groups of eight rows, each of k / 8 super-blocks
    static constexpr int bias = 0;
    struct Eight {
        uint16_t d[8], dmin[8];
        uint8_t scales[96], qs[1024];
    };
    void panel(int64_t first, int64_t rows, int64_t k, uint8_t * bytes, float * scales) const {
        const Eight * low = (const Eight *) a + first / 8 * (k / 8);
        const Eight * high = rows > 8 ? low + k / 8 : low;
        const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
        const __m512i nibble = _mm512_set1_epi8(15);
        const __mmask16 kept = rows > 8 ? 0xffff : 0xff;
        for (int64_t block = 0; block < k; ++block) {
            const Eight & l = low[block / 8], & h = high[block / 8];
            const int part = block % 8;
            for (int q = 0; q < 4; ++q) {
                __m512i x = _mm512_loadu_si512(l.qs + (part / 2 * 4 + q) * 64);
                __m512i y = _mm512_loadu_si512(h.qs + (part / 2 * 4 + q) * 64);
                if (part & 1) x = _mm512_srli_epi16(x, 4), y = _mm512_srli_epi16(y, 4);
                x = _mm512_and_si512(x, nibble), y = _mm512_and_si512(y, nibble);
                uint8_t * to = bytes + block * 512 + q * 128;
                _mm512_storeu_si512(to, _mm512_permutex2var_epi32(x, even, y));
                _mm512_storeu_si512(to + 64, _mm512_permutex2var_epi32(x, odd, y));
            }
            const __m512 d = _mm512_cvtph_ps(both(l.d, h.d)), m = _mm512_cvtph_ps(both(l.dmin, h.dmin));
            __m512 s, least;
            sixes(l.scales + part * 12, h.scales + part * 12, &s, &least);
            _mm512_storeu_ps(scales + block * 32, _mm512_maskz_mul_ps(kept, d, s));
            _mm512_storeu_ps(scales + block * 32 + 16, _mm512_maskz_sub_ps(kept, _mm512_setzero_ps(), _mm512_mul_ps(m, least)));
        }
    }
    static __m256i both(const uint16_t * l, const uint16_t * h) {
        return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *) l)),
                                       _mm_loadu_si128((const __m128i *) h), 1);
    }
    // Scales and least values of six bits, of eight rows in 12 bytes.
    static void sixes(const uint8_t * l, const uint8_t * h, __m512 * scales, __m512 * least) {
        uint32_t p[2][3], s[4], m[4];
        memcpy(p[0], l, 12);
        memcpy(p[1], h, 12);
        for (int i = 0; i < 2; ++i) {
            s[2 * i] = p[i][0] & 0x3f3f3f3f;
            s[2 * i + 1] = (p[i][2] & 0x0f0f0f0f) | ((p[i][0] >> 2) & 0x30303030);
            m[2 * i] = p[i][1] & 0x3f3f3f3f;
            m[2 * i + 1] = ((p[i][2] >> 4) & 0x0f0f0f0f) | ((p[i][1] >> 2) & 0x30303030);
        }
        *scales = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *) s)));
        *least = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *) m)));
    }
};

// C = A B for the rows that are this thread's; k in blocks of 32, ldb in blocks of B.
template <typename Rows, typename Column>
void product(const Rows & a, int64_t m, int64_t n, int64_t k, const Column * b, int64_t ldb,
             float * c, int64_t ldc, int ith, int nth) {
    constexpr bool least = Rows::bias == 0;
    static thread_local Room room;
    const int64_t pairs = (m + 2 * kRows - 1) / (2 * kRows);
    const int64_t from = pairs * ith / nth, until = pairs * (ith + 1) / nth;
    if (from == until) return;
    if (room.bytes.size() < (size_t) k * 1024) room.bytes.resize(k * 1024);
    if (room.scales.size() < (size_t) k * 64) room.scales.resize(k * 64);
    if (room.columns.size() < (size_t) (n * k * 2)) room.columns.resize(n * k * 2);
    for (int64_t j = 0; j < n; ++j)
        for (int64_t block = 0; block < k; ++block)
            shares_of(b + j * ldb, block, Rows::bias, &room.columns[(j * k + block) * 2]);
    for (int64_t pair = from; pair < until; ++pair) {
        const int64_t first = pair * 2 * kRows, rows = m - first;
        a.panel(first, rows < kRows ? rows : kRows, k, room.bytes.data(), room.scales.data());
        if (rows > kRows) {
            a.panel(first + kRows, rows < 2 * kRows ? rows - kRows : kRows, k,
                    room.bytes.data() + k * 512, room.scales.data() + k * 32);
            rows_of<Column, least, 2>(room, n, k, b, ldb, c + first, ldc, rows);
        } else {
            rows_of<Column, least, 1>(room, n, k, b, ldb, c + first, ldc, rows);
        }
    }
}

// Whether the product was done here.
inline bool panels(const struct ggml_compute_params * params, int64_t m, int64_t n, int64_t k,
                   const void * a, int64_t lda, const void * b, int64_t ldb, void * c, int64_t ldc,
                   int atype, int btype) {
    if (n < kLeastColumns || m < kRows) return false;
#define SNUGLY_CASE(NAME, BLOCK)                                                                   \
    case NAME:                                                                                     \
        if (btype != (std::is_same<Weights<BLOCK>::Columns, block_q8_0>::value ? GGML_TYPE_Q8_0    \
                                                                               : GGML_TYPE_Q8_1))  \
            return false;                                                                          \
        product(Plain<BLOCK>{(const BLOCK *) a, lda}, m, n, k,                                     \
                (const Weights<BLOCK>::Columns *) b, ldb, (float *) c, ldc, params->ith,           \
                params->nth);                                                                      \
        return true;
    switch (atype) {
        SNUGLY_CASE(GGML_TYPE_Q4_0, block_q4_0)
        SNUGLY_CASE(GGML_TYPE_Q4_1, block_q4_1)
        SNUGLY_CASE(GGML_TYPE_Q5_0, block_q5_0)
        SNUGLY_CASE(GGML_TYPE_Q5_1, block_q5_1)
        SNUGLY_CASE(GGML_TYPE_Q8_0, block_q8_0)
        default:
            return false;
    }
#undef SNUGLY_CASE
}

}  // namespace snugly
#endif
