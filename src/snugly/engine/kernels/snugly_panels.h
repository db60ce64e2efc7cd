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

inline ggml_half least_of(const block_q4_1 & b) { return b.m; }
inline ggml_half least_of(const block_q5_1 & b) { return b.m; }
template <typename Block> inline ggml_half least_of(const Block &) { return 0; }

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
            d[r] = r < rows ? block.d : 0;
            m[r] = r < rows ? least_of(block) : 0;
        }
        for (int quad = 0; quad < 8; ++quad) {
            _mm512_storeu_si512(bytes + (b * 8 + quad) * 64,
                _mm512_i32gather_epi32(order, (const int *) plain + quad, 4));
        }
        _mm512_storeu_ps(scales + b * 32, _mm512_cvtph_ps(_mm256_load_si256((const __m256i *) d)));
        _mm512_storeu_ps(scales + b * 32 + 16, _mm512_cvtph_ps(_mm256_load_si256((const __m256i *) m)));
    }
}

inline void shares(const block_q8_1 & b, int, float * to) {
    to[0] = _cvtsh_ss(b.d);
    to[1] = _cvtsh_ss(b.s);
}

// The second is an integer: what the bias adds to each sum of products.
inline void shares(const block_q8_0 & b, int bias, float * to) {
    const __m256i q = _mm256_loadu_si256((const __m256i *) b.qs);
    const __m256i fours = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), q);
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256(fours, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
    const int32_t over = -bias * _mm_cvtsi128_si32(sum);
    to[0] = _cvtsh_ss(b.d);
    memcpy(to + 1, &over, sizeof(over));
}

// PANELS times 16 rows of weights by COLUMNS columns.
template <typename Block, int PANELS, int COLUMNS>
void tile(const uint8_t * bytes, const float * scales, int64_t k,
          const typename Weights<Block>::Columns * b, int64_t ldb, const float * of_columns,
          float * c, int64_t ldc, int64_t rows) {
    constexpr bool least = Weights<Block>::bias == 0;
    __m512 total[PANELS][COLUMNS];
    for (int p = 0; p < PANELS; ++p)
        for (int j = 0; j < COLUMNS; ++j) total[p][j] = _mm512_setzero_ps();
    for (int64_t block = 0; block < k; ++block) {
        __m512i sum[PANELS][COLUMNS];
        for (int j = 0; j < COLUMNS; ++j) {
            int32_t over = 0;
            if (!least) memcpy(&over, of_columns + (j * k + block) * 2 + 1, sizeof(over));
            for (int p = 0; p < PANELS; ++p) sum[p][j] = _mm512_set1_epi32(over);
        }
        for (int quad = 0; quad < 8; ++quad) {
            __m512i weights[PANELS];
            for (int p = 0; p < PANELS; ++p)
                weights[p] = _mm512_loadu_si512(bytes + (p * k + block) * 512 + quad * 64);
            for (int j = 0; j < COLUMNS; ++j) {
                int32_t four;
                memcpy(&four, b[j * ldb + block].qs + quad * 4, sizeof(four));
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
                if (least) total[p][j] = _mm512_fmadd_ps(m, _mm512_set1_ps(share[1]), total[p][j]);
            }
        }
    }
    for (int p = 0; p < PANELS; ++p) {
        const int64_t there = rows - p * kRows;
        const __mmask16 kept = there >= kRows ? 0xffff : (__mmask16) ((1u << there) - 1);
        for (int j = 0; j < COLUMNS; ++j) _mm512_mask_storeu_ps(c + j * ldc + p * kRows, kept, total[p][j]);
    }
}

template <typename Block, int PANELS>
void rows_of(const Room & room, int64_t n, int64_t k, const typename Weights<Block>::Columns * b,
             int64_t ldb, float * c, int64_t ldc, int64_t rows) {
    const uint8_t * bytes = room.bytes.data();
    const float * scales = room.scales.data();
    const float * shares = room.columns.data();
    int64_t j = 0;
    for (; j + 4 <= n; j += 4)
        tile<Block, PANELS, 4>(bytes, scales, k, b + j * ldb, ldb, shares + j * k * 2, c + j * ldc, ldc, rows);
    for (; j < n; ++j)
        tile<Block, PANELS, 1>(bytes, scales, k, b + j * ldb, ldb, shares + j * k * 2, c + j * ldc, ldc, rows);
}

// C = A B for the rows that are this thread's; k in blocks, as are lda and ldb.
template <typename Block>
void product(int64_t m, int64_t n, int64_t k, const Block * a, int64_t lda,
             const typename Weights<Block>::Columns * b, int64_t ldb, float * c, int64_t ldc,
             int ith, int nth) {
    static thread_local Room room;
    const int64_t pairs = (m + 2 * kRows - 1) / (2 * kRows);
    const int64_t from = pairs * ith / nth, until = pairs * (ith + 1) / nth;
    if (from == until) return;
    if (room.bytes.size() < (size_t) k * 1024) room.bytes.resize(k * 1024);
    if (room.scales.size() < (size_t) k * 64) room.scales.resize(k * 64);
    if (room.columns.size() < (size_t) (n * k * 2)) room.columns.resize(n * k * 2);
    for (int64_t j = 0; j < n; ++j)
        for (int64_t block = 0; block < k; ++block)
            shares(b[j * ldb + block], Weights<Block>::bias, &room.columns[(j * k + block) * 2]);
    for (int64_t pair = from; pair < until; ++pair) {
        const int64_t first = pair * 2 * kRows, rows = m - first;
        unpack(a + first * lda, lda, rows < kRows ? rows : kRows, k, room.bytes.data(), room.scales.data());
        if (rows > kRows) {
            unpack(a + (first + kRows) * lda, lda, rows < 2 * kRows ? rows - kRows : kRows, k,
                   room.bytes.data() + k * 512, room.scales.data() + k * 32);
            rows_of<Block, 2>(room, n, k, b, ldb, c + first, ldc, rows);
        } else {
            rows_of<Block, 1>(room, n, k, b, ldb, c + first, ldc, rows);
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
        product<BLOCK>(m, n, k, (const BLOCK *) a, lda, (const Weights<BLOCK>::Columns *) b, ldb,  \
                       (float *) c, ldc, params->ith, params->nth);                                \
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
