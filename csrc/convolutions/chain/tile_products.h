// The products of a chain in bfloat16: tiles. Included by conv_chain_kernel.cpp only.
#pragma once
#include "common/tiles.h"
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
static_assert(kStrip<BFloat16> % kBlockPixels == 0);

// What multiplies in bfloat16: one of the kinds of tiles.
template <class Tiles> struct InTiles {
  using T = BFloat16;
  Tiles& tiles;
  alignas(64) float sums[2][kBlockSums];
};

constexpr BFloat16 kNothing[kTilePanel] = {};

// The sums of pixels [first, end) -> their place.
template <class Tiles>
PYRCNN_HD void finish_block(const float* sums, int64_t first, int64_t end, const Target<BFloat16>& to,
                            const TileFinish& how) {
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

// One panel of results: weight [depth / 2, kPanel, 2].
template <class Tiles>
void multiply(InTiles<Tiles>& unit, const Source<BFloat16>& from, int64_t pixels, int64_t depth, const BFloat16* weight,
              const Target<BFloat16>& to) {
  float bias[kTilePanel];
  memcpy(bias, to.begin, sizeof bias);
  const auto sums = [&](int64_t first) { return unit.sums[first / kBlockPixels % 2]; };
  const auto product = [&](int64_t first) {
    const TileSource source{from.at + first * from.pixel, from.pixel, from.run, from.step};
    const BFloat16* second = pixels - first > kTileRows ? source.at + kTileRows * from.pixel : nullptr;
    multiply_tiles<false>(unit.tiles, source, second, depth, weight, to.channels, sums(first));
  };
  product(0);
  for (int64_t first = 0; first < pixels; first += kBlockPixels) {
    const int64_t next = first + kBlockPixels;
    if (next < pixels) product(next);  // meanwhile what follows, which does not need it
    finish_block<Tiles>(sums(first), first, next < pixels ? next : pixels, to, {bias, to.low, to.high});
  }
}

}  // namespace
}  // namespace pyrcnn::conv_chain::PYRCNN_ISA
