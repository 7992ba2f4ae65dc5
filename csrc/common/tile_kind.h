// What multiplies bfloat16 in tiles.
#pragma once

namespace pyrcnn {

enum class TileKind {
  kPlain,  // loops, everywhere
  kPairs,  // AVX512_BF16
  kAmx
};

}  // namespace pyrcnn
