// The products of a chain in bfloat16: tiles. Included by conv_chain_kernel.cpp only.
#pragma once
#include "../common/tiles.h"
#include "products.h"

namespace pyrcnn::conv_chain::PYRCNN_ISA {
namespace {

using F = pyrcnn::PYRCNN_ISA::Pair<float>;
using pyrcnn::PYRCNN_ISA::copy_part;
using pyrcnn::PYRCNN_ISA::finish_panel;
using pyrcnn::PYRCNN_ISA::finish_pixel;
using pyrcnn::PYRCNN_ISA::load_pair;
using pyrcnn::PYRCNN_ISA::multiply_tiles;
using pyrcnn::PYRCNN_ISA::TileFinish;
using pyrcnn::PYRCNN_ISA::TileSource;

static_assert(kPanel<BFloat16> == kTilePanel && kDepth<BFloat16> == kTileDepth && kGroup<BFloat16> == kTileRows);
static_assert(kStrip<BFloat16> == kBlockPixels);

// What multiplies in bfloat16: one of the kinds of tiles.
template <class Tiles> struct InTiles {
  using T = BFloat16;
  Tiles& tiles;
  alignas(64) float sums[kBlockSums];
};

constexpr BFloat16 kNothing[kTilePanel] = {};

// One panel of results: weight [depth / 2, kPanel, 2].
template <class Tiles>
void multiply(InTiles<Tiles>& unit, const Source<BFloat16>& from, int64_t pixels, int64_t depth, const BFloat16* weight,
              const Target<BFloat16>& to) {
  float bias[kTilePanel];
  memcpy(bias, to.begin, sizeof bias);
  const TileFinish how{bias, to.low, to.high};
  for (int64_t first = 0; first < pixels; first += kBlockPixels) {
    const TileSource source{from.at + first * from.pixel, from.pixel, from.run, from.step};
    const bool two = pixels - first > kTileRows;
    multiply_tiles<false>(unit.tiles, source, two ? source.at + kTileRows * from.pixel : nullptr, depth, weight,
                          to.channels, unit.sums);
    const int64_t end = pixels - first < kBlockPixels ? pixels : first + kBlockPixels;
    const float* sums = unit.sums;
    for (int64_t i = first; i < end; ++i, sums += kTilePanel) {
      BFloat16* at = to.at + i * to.pixel;
      const BFloat16* other = to.other ? to.other + i * to.pixel : nullptr;
      if (to.zeros == 0) {
        finish_pixel<Tiles>(how, sums, other, to.channels, at);
        continue;
      }
      finish_panel<Tiles>(how, sums, other, at);
      copy_part(kNothing, to.zeros, at + to.channels);
    }
  }
}

}  // namespace
}  // namespace pyrcnn::conv_chain::PYRCNN_ISA
