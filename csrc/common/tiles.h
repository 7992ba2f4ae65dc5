// Products of bfloat16 matrices in tiles, as AMX has them: eight registers of 16 rows of 64 bytes, and one instruction
// that adds the product of 16 x 32 and 32 x 16 values to 16 x 16 float32 sums. Machines without compute the same by
// plain loops, so that what is built on tiles runs and is tested everywhere. Included by *_kernel.cpp only.
#pragma once
#include "common/simd/pack.h"
#include "common/simd/product.h"
#include "tile_kind.h"

namespace pyrcnn {

constexpr int kTileRows = 16;     // of a tile: pixels of the left matrix, pairs of channels of the right one
constexpr int kTileDepth = 32;    // values in a row of a left tile: channels of the input
constexpr int kTilePanel = 32;    // outputs whose weights lie together: two tiles
constexpr int kBlockPixels = 32;  // pixels of a block: two tiles
constexpr int kBlockSums = kBlockPixels * kTilePanel;

}  // namespace pyrcnn

namespace pyrcnn::PYRCNN_ISA {

// The registers as memory: the four of sums, and where the others were loaded from, which must still be there.
class TilesInMemory {
 public:
  template <int N> PYRCNN_HD void zero() { memset(sums_[N], 0, sizeof sums_[N]); }
  template <int N> PYRCNN_HD void load(const void* at, int64_t stride) {
    from_[N] = {static_cast<const char*>(at), stride};
    if constexpr (N < kSumTiles)
      for (int r = 0; r < kTileRows; ++r) memcpy(sums_[N][r], row<N>(r), sizeof sums_[N][r]);
  }
  template <int N> PYRCNN_HD void store(float* at, int64_t stride) const {
    for (int r = 0; r < kTileRows; ++r)
      memcpy(reinterpret_cast<char*>(at) + r * stride, sums_[N][r], sizeof sums_[N][r]);
  }

 protected:
  static constexpr int kSumTiles = 4;
  template <int N> PYRCNN_HD const char* row(int i) const { return from_[N].at + i * from_[N].stride; }
  alignas(64) float sums_[kSumTiles][kTileRows][16];

 private:
  struct {
    const char* at;
    int64_t stride;
  } from_[8];
};

// Plain loops. Like tdpbf16ps they add up the products of even and of odd channels apart; they keep subnormals, which
// that counts as zero.
struct PlainTiles : TilesInMemory {
  static PYRCNN_HD void round(const Pack<float>* panel, BFloat16* to) {
    for (int i = 0; i < kTilePanel / kLanes; ++i) PYRCNN_ISA::store(to + i * kLanes, panel[i]);
  }
  static PYRCNN_HD void round(Pair<float> pair, BFloat16* to) { store_pair(to, pair); }
  template <int Sum, int Left, int Right> void multiply() {
    for (int r = 0; r < kTileRows; ++r) {
      float even[16] = {}, odd[16] = {};
      for (int k = 0; k < kTileDepth / 2; ++k) {
        BFloat16 left[2], right[32];
        memcpy(left, row<Left>(r) + 4 * k, sizeof left);
        memcpy(right, row<Right>(k), sizeof right);
        for (int c = 0; c < 16; ++c) even[c] += float(left[0]) * float(right[2 * c]);
        for (int c = 0; c < 16; ++c) odd[c] += float(left[1]) * float(right[2 * c + 1]);
      }
      for (int c = 0; c < 16; ++c) sums_[Sum][r][c] += even[c] + odd[c];
    }
  }
};

#if defined(PYRCNN_TILES) && defined(__AVX512F__)
// Results as bfloat16 by AVX512_BF16, as a panel of them or load_pair()'s: NaN stays, subnormals become zero.
struct RoundedByMachine {
  static PYRCNN_HD void round(const Pack<float>* panel, BFloat16* to) { store_words(to, words(panel[0], panel[1])); }
  static PYRCNN_HD void round(Pair<float> pair, BFloat16* to) {
    const Words w = words(pair.first, pair.second);
    store_words(to, __builtin_shufflevector(w, w, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25,
                                            10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
  }

 private:
  using Words = uint16_t __attribute__((vector_size(64)));
  static PYRCNN_HD Words words(Pack<float> lower, Pack<float> upper) {
    Words w;  // this syntax has the sources in the other order than Intel's
    asm("vcvtne2ps2bf16 %1, %2, %0" : "=v"(w) : "v"(lower), "v"(upper));
    return w;
  }
  static PYRCNN_HD void store_words(BFloat16* to, Words w) { memcpy(to, &w, sizeof w); }
};

// By AVX-512's products of pairs (AVX512_BF16): twice as many as in float32.
struct PairTiles : TilesInMemory, RoundedByMachine {
  using Word = uint32_t __attribute__((may_alias));
  template <int Sum, int Left, int Right> PYRCNN_HD void multiply() {
    Pack<float> sum[kTileRows];
    PYRCNN_UNROLLED for (int r = 0; r < kTileRows; ++r) sum[r] = PYRCNN_ISA::load(sums_[Sum][r]);
    for (int k = 0; k < kTileDepth / 2; ++k) {
      const Pack<float> right = PYRCNN_ISA::load(reinterpret_cast<const float*>(row<Right>(k)));
      PYRCNN_UNROLLED for (int r = 0; r < kTileRows; ++r) {
        const auto* pair = reinterpret_cast<const Word*>(row<Left>(r) + 4 * k);
        asm("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sum[r]) : "v"(right), "m"(*pair));
      }
    }
    PYRCNN_UNROLLED for (int r = 0; r < kTileRows; ++r) PYRCNN_ISA::store(sums_[Sum][r], sum[r]);
  }
};

// The machine's registers, all of full size while this lives. Assembly rather than intrinsics: those of GCC 12 do not
// say that they read and write memory.
struct AmxTiles : RoundedByMachine {
  AmxTiles() {
    struct {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    static_assert(sizeof config == 64);
    asm volatile("ldtilecfg %0" ::"m"(config));
  }
  ~AmxTiles() { asm volatile("tilerelease"); }
  AmxTiles(const AmxTiles&) = delete;
  AmxTiles& operator=(const AmxTiles&) = delete;

  template <int N> PYRCNN_HD void zero() { asm volatile("tilezero %%tmm%c0" ::"i"(N)); }
  template <int N> PYRCNN_HD void load(const void* at, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(at), "r"(stride), "i"(N) : "memory");
  }
  template <int N> PYRCNN_HD void store(float* at, int64_t stride) const {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(at), "r"(stride), "i"(N) : "memory");
  }
  template <int Sum, int Left, int Right> PYRCNN_HD void multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(Sum), "i"(Left), "i"(Right));
  }
};
#endif

// body(tiles) with the fastest of them, as cpu_tiles() named it.
template <class F> PYRCNN_HD void with_tiles([[maybe_unused]] TileKind kind, const F& body) {
#if defined(PYRCNN_TILES) && defined(__AVX512F__)
  if (kind == TileKind::kAmx) {
    AmxTiles tiles;
    return body(tiles);
  }
  if (kind == TileKind::kPairs) {
    PairTiles tiles;
    return body(tiles);
  }
#endif
  PlainTiles tiles;
  body(tiles);
}

// The left matrix: value c of pixel i is value c % run of i in place c / run. Places lie `step` apart, and after
// `across` of them the next row of places begins, `down` after the last one; run is a multiple of kTileDepth.
struct TileSource {
  const BFloat16* at;
  int64_t pixel, run, step;
  int64_t across = INT64_MAX, down = 0;
};

// sums [16 * Rows][kTilePanel] = (Add: +=) a block's product. Its pixels are 16 from source.at on and, with Rows 2, 16
// from `second` on, all of which are read; `weight` [depth / 2][kTilePanel][2]: pairs of channels; depth is a multiple
// of kTileDepth. Columns: the halves of the panel that are wanted.
template <int Rows, int Columns, bool Add, class Tiles>
PYRCNN_HD void multiply_block(Tiles& tiles, const TileSource& source, const BFloat16* second, int64_t depth,
                              const BFloat16* weight, float* sums) {
  constexpr int64_t weight_bytes = sizeof(BFloat16) * 2 * kTilePanel, sum_bytes = sizeof(float) * kTilePanel;
  float* const below = sums + kTileRows * kTilePanel;
  if constexpr (Add) {
    tiles.template load<0>(sums, sum_bytes);
    if constexpr (Columns > 1) tiles.template load<1>(sums + 16, sum_bytes);
    if constexpr (Rows > 1) tiles.template load<2>(below, sum_bytes);
    if constexpr (Rows * Columns > 2) tiles.template load<3>(below + 16, sum_bytes);
  } else {
    tiles.template zero<0>();
    if constexpr (Columns > 1) tiles.template zero<1>();
    if constexpr (Rows > 1) tiles.template zero<2>();
    if constexpr (Rows * Columns > 2) tiles.template zero<3>();
  }
  const int64_t pixel_bytes = int64_t(sizeof(BFloat16)) * source.pixel, run = source.run, step = source.step;
  const int64_t across = source.across, down = source.down;
  const auto place = [&](const BFloat16* first, const BFloat16* below_it, int64_t channels) {
    for (int64_t c = 0; c < channels; c += kTileDepth) {
      tiles.template load<4>(first + c, pixel_bytes);
      tiles.template load<6>(weight, weight_bytes);
      tiles.template multiply<0, 4, 6>();
      if constexpr (Rows > 1) {
        tiles.template load<5>(below_it + c, pixel_bytes);
        tiles.template multiply<2, 5, 6>();
      }
      if constexpr (Columns > 1) {
        tiles.template load<7>(weight + 32, weight_bytes);
        tiles.template multiply<1, 4, 7>();
        if constexpr (Rows > 1) tiles.template multiply<3, 5, 7>();
      }
      weight += kTileDepth * kTilePanel;
      // Weights come from the second cache, and nothing but this asks for them early.
      PYRCNN_UNROLLED for (int line = 0; line < kTileDepth * kTilePanel; line += 32) __builtin_prefetch(weight + line);
    }
  };
  for (int64_t row = 0; depth > 0; row += down)
    for (int64_t i = 0; i < across && depth > 0; ++i, depth -= run)
      place(source.at + row + i * step, second + row + i * step, depth < run ? depth : run);
  tiles.template store<0>(sums, sum_bytes);
  if constexpr (Columns > 1) tiles.template store<1>(sums + 16, sum_bytes);
  if constexpr (Rows > 1) tiles.template store<2>(below, sum_bytes);
  if constexpr (Rows * Columns > 2) tiles.template store<3>(below + 16, sum_bytes);
}

template <int Rows, bool Add, class Tiles>
PYRCNN_HD void multiply_rows(Tiles& tiles, const TileSource& source, const BFloat16* second, int64_t depth,
                             const BFloat16* weight, int64_t channels, float* sums) {
  if (channels > kTilePanel / 2) multiply_block<Rows, 2, Add>(tiles, source, second, depth, weight, sums);
  else multiply_block<Rows, 1, Add>(tiles, source, second, depth, weight, sums);
}

// The same for 32 pixels, or 16 where `second` is null, and the panel's first `channels` outputs.
// Its own function: the copies of the loop above are many.
template <bool Add, class Tiles>
__attribute__((noinline)) void multiply_tiles(Tiles& tiles, const TileSource& source, const BFloat16* second,
                                              int64_t depth, const BFloat16* weight, int64_t channels, float* sums) {
  if (second) multiply_rows<2, Add>(tiles, source, second, depth, weight, channels, sums);
  else multiply_rows<1, Add>(tiles, source, source.at, depth, weight, channels, sums);
}

// What becomes of a sum.
struct TileFinish {
  const float* bias;  // [kTilePanel]
  float low, high;
};

// A pixel's sums of a whole panel, plus `other` or null, clamped (NaN stays).
template <class Tiles>
PYRCNN_HD void finish_panel(const TileFinish& finish, const float* sums, const BFloat16* other, BFloat16* to) {
  using P = Pack<float>;
  const P low = broadcast(finish.low), high = broadcast(finish.high);
  P values[kTilePanel / kLanes];
  PYRCNN_UNROLLED for (int i = 0; i < kTilePanel / kLanes; ++i) {
    P value = load(sums + i * kLanes) + load(finish.bias + i * kLanes);
    if (other) value += load(other + i * kLanes);
    value = low > value ? low : value;
    values[i] = high < value ? high : value;
  }
  Tiles::round(values, to);
}

// `count` values, at most a panel.
PYRCNN_HD void copy_part(const BFloat16* from, int64_t count, BFloat16* to) {
#if defined(__AVX512BW__) && PYRCNN_LANES == 16
  const auto mask = __mmask32((uint64_t(1) << count) - 1);
  _mm512_mask_storeu_epi16(to, mask, _mm512_maskz_loadu_epi16(mask, from));
#else
  memcpy(to, from, sizeof(BFloat16) * size_t(count));
#endif
}

// ... of its first `channels` outputs.
template <class Tiles>
PYRCNN_HD void finish_pixel(const TileFinish& finish, const float* sums, const BFloat16* other, int64_t channels,
                            BFloat16* to) {
  if (channels >= kTilePanel) return finish_panel<Tiles>(finish, sums, other, to);
  BFloat16 in[kTilePanel] = {}, out[kTilePanel];
  if (other) copy_part(other, channels, in);
  finish_panel<Tiles>(finish, sums, other ? in : nullptr, out);
  copy_part(out, channels, to);
}

}  // namespace pyrcnn::PYRCNN_ISA
