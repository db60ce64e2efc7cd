// How many 8-bit products this machine adds up in a second, at best: nothing but the widest
// instruction for it, on as many threads as the first argument says. Prints operations/s; a product
// and its sum are two.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif

#if defined(__AVX512VNNI__)
static const char * name = "AVX-512 VNNI";
typedef __m512i wide;
static const int products = 64;
static wide ones() { return _mm512_set1_epi8(1); }
static wide add(wide sum, wide a, wide b) { return _mm512_dpbusd_epi32(sum, a, b); }
#elif defined(__AVXVNNI__)
static const char * name = "AVX VNNI";
typedef __m256i wide;
static const int products = 32;
static wide ones() { return _mm256_set1_epi8(1); }
static wide add(wide sum, wide a, wide b) { return _mm256_dpbusd_avx_epi32(sum, a, b); }
#elif defined(__AVX2__)
static const char * name = "AVX2";
typedef __m256i wide;
static const int products = 32;
static wide ones() { return _mm256_set1_epi8(1); }
static wide add(wide sum, wide a, wide b) {
    const wide pairs = _mm256_maddubs_epi16(a, b);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
#elif defined(__ARM_FEATURE_DOTPROD)
static const char * name = "NEON with dot products";
typedef int32x4_t wide;
static const int products = 16;
static wide ones() { return vdupq_n_s32(0x01010101); }
static wide add(wide sum, wide a, wide b) {
    return vdotq_s32(sum, vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b));
}
#else
#error "No instruction for 8-bit products is known for this processor."
#endif

// More than the latency of the instruction times how many begin at once (5 times 2 on Zen 5), and few
// enough for all of them to stay in registers: with 16 the compiler moves half of them about.
static const int chains = 12;

static std::atomic<int> sink(0);

static long long work(std::atomic<bool> & go, std::atomic<bool> & enough) {
    wide sums[chains], one = ones();
    for (int i = 0; i < chains; i++) sums[i] = one;
    while (!go.load()) {}
    long long rounds = 0;
    while (!enough.load(std::memory_order_relaxed)) {
        for (int n = 0; n < 1000; n++) {
            for (int i = 0; i < chains; i++) sums[i] = add(sums[i], one, sums[i]);
        }
        rounds += 1000;
    }
    int words[sizeof(sums) / sizeof(int)];
    std::memcpy(words, sums, sizeof(sums));
    for (int word : words) sink += word;  // or the compiler leaves everything out
    return rounds * chains * products * 2;
}

int main(int n, char ** words) {
    const int count = n > 1 ? std::atoi(words[1]) : 1;
    double best = 0;
    for (int round = 0; round < 5; round++) {
        std::atomic<bool> go(false), enough(false);
        std::vector<long long> done(count);
        std::vector<std::thread> threads;
        for (int i = 0; i < count; i++) {
            threads.emplace_back([&, i] { done[i] = work(go, enough); });
        }
        const auto begun = std::chrono::steady_clock::now();
        go = true;
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
        enough = true;
        for (auto & thread : threads) thread.join();
        const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begun;
        long long all = 0;
        for (long long some : done) all += some;
        if (all / taken.count() > best) best = all / taken.count();
    }
    std::printf("%.6g %s\n", best, name);
}
