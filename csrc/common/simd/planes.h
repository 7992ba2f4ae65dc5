// Copies between NCHW planes and tiles. A tile [pixels, kBlock] holds some channels of an image with the channels
// adjacent, so that NCHW is processed with the same packs of channels as NHWC. For *_kernel.cpp only, as pack.h.
#pragma once
#include "block.h"
#include "pack.h"

namespace pyrcnn {
template <> struct Compute<int32_t> {
  using type = int32_t;
};  // indices are only copied
}  // namespace pyrcnn

namespace pyrcnn::PYRCNN_ISA {

// For indices that fit into 16 bits.
PYRCNN_HD void store(int16_t* to, Pack<int32_t> pack) {
  using Words = int16_t __attribute__((vector_size(2 * lanes_of<int32_t>)));
  const Words words = __builtin_convertvector(pack, Words);
  memcpy(to, &words, sizeof words);
}

// Lanes 0, 0, 1, 1, ... of the lower (or upper) halves of a and b.
template <bool upper, typename P> PYRCNN_HD P interleave(P a, P b) {
  constexpr int lanes = sizeof(a) / sizeof(a[0]), k = upper ? lanes / 2 : 0;
  if constexpr (lanes == 2) {
    return __builtin_shufflevector(a, b, k, 2 + k);
  } else if constexpr (lanes == 4) {
    return __builtin_shufflevector(a, b, k, 4 + k, k + 1, 5 + k);
  } else if constexpr (lanes == 8) {
    return __builtin_shufflevector(a, b, k, 8 + k, k + 1, 9 + k, k + 2, 10 + k, k + 3, 11 + k);
  } else {
    return __builtin_shufflevector(a, b, k, 16 + k, k + 1, 17 + k, k + 2, 18 + k, k + 3, 19 + k, k + 4, 20 + k, k + 5,
                                   21 + k, k + 6, 22 + k, k + 7, 23 + k);
  }
}

// Transposes a square of packs: every round of perfect shuffles moves one bit of the row number into the lane number.
template <typename C> PYRCNN_HD void transpose(Pack<C>* rows) {
  constexpr int lanes = lanes_of<C>;
#pragma GCC unroll 4
  for (int step = 1; step < lanes; step *= 2) {
    Pack<C> mixed[lanes];
#pragma GCC unroll 8
    for (int i = 0; i < lanes / 2; ++i) {
      mixed[2 * i] = interleave<false>(rows[i], rows[i + lanes / 2]);
      mixed[2 * i + 1] = interleave<true>(rows[i], rows[i + lanes / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) rows[i] = mixed[i];
  }
}

// A matrix from rows of S to columns of D: to[j * to_stride + i] = from[i * from_stride + j], i < rows, j < columns.
// `ahead`: how many values to prefetch in each row, if there are more rows than the hardware prefetches by itself.
template <int ahead = 0, typename S, typename D>
PYRCNN_HD void transpose(const S* from, int64_t rows, int64_t columns, int64_t from_stride, D* to, int64_t to_stride) {
  using C = compute_t<S>;
  constexpr int lanes = lanes_of<C>;
  int64_t j = 0;
  for (; j + lanes <= columns; j += lanes) {
    int64_t i = 0;
    for (; i + lanes <= rows; i += lanes) {
      Pack<C> square[lanes];
      if constexpr (ahead > 0) {
        if (j % (64 / int64_t(sizeof(S))) < lanes)  // once per cache line
          for (int k = 0; k < lanes; ++k) __builtin_prefetch(from + (i + k) * from_stride + j + ahead);
      }
#pragma GCC unroll 16
      for (int k = 0; k < lanes; ++k) square[k] = load(from + (i + k) * from_stride + j);
      transpose<C>(square);
#pragma GCC unroll 16
      for (int k = 0; k < lanes; ++k) store(to + (j + k) * to_stride + i, square[k]);
    }
    for (; i < rows; ++i)
      for (int k = 0; k < lanes; ++k) to[(j + k) * to_stride + i] = D(C(from[i * from_stride + j + k]));
  }
  for (; j < columns; ++j)
    for (int64_t i = 0; i < rows; ++i) to[j * to_stride + i] = D(C(from[i * from_stride + j]));
}

// Copies `count` channels from planes that are `stride` apart into tile [pixels, block]; missing channels become 0.
template <int block = kBlock, typename S, typename D>
PYRCNN_HD void planes_to_tile(const S* planes, int64_t stride, int64_t count, int64_t pixels, D* tile) {
  transpose<256 / int(sizeof(S))>(planes, count, pixels, stride, tile, block);
  if (count == block) return;
  for (int64_t i = 0; i < pixels; ++i)
    for (int64_t c = count; c < block; ++c) tile[i * block + c] = D(compute_t<D>(0));
}

// Copies the first `count` channels of tile [pixels, block] into planes that are `stride` apart.
template <int block = kBlock, typename S, typename D>
PYRCNN_HD void tile_to_planes(const S* tile, int64_t pixels, int64_t count, D* planes, int64_t stride) {
  transpose(tile, pixels, count, block, planes, stride);
}

// Copies a block of `count` channels that begins at `from` in pixels [pixels, channels] into tile [pixels, kBlock], and
// back.
template <typename S, typename D>
PYRCNN_HD void pixels_to_tile(const S* from, int64_t channels, int64_t count, int64_t pixels, D* tile) {
  using C = compute_t<S>;
  constexpr int lanes = lanes_of<C>;
  for (int64_t i = 0; i < pixels; ++i, from += channels, tile += kBlock) {
    int64_t c = 0;
    for (; c + lanes <= count; c += lanes) store(tile + c, load(from + c));
    for (; c < count; ++c) tile[c] = D(C(from[c]));
    for (; c < kBlock; ++c) tile[c] = D(C(0));
  }
}
template <typename S, typename D>
PYRCNN_HD void tile_to_pixels(const S* tile, int64_t pixels, int64_t count, D* to, int64_t channels) {
  using C = compute_t<S>;
  constexpr int lanes = lanes_of<C>;
  for (int64_t i = 0; i < pixels; ++i, to += channels, tile += kBlock) {
    int64_t c = 0;
    for (; c + lanes <= count; c += lanes) store(to + c, load(tile + c));
    for (; c < count; ++c) to[c] = D(C(tile[c]));
  }
}

}  // namespace pyrcnn::PYRCNN_ISA
