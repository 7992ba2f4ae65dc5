// Integer keys that order scores: by descending score, NaN first, as torch.sort(descending=True) orders them.
#pragma once
#include "hd.h"

namespace pyrcnn {

// A key that is smaller for a greater score, equal for equal scores (-0 equals 0), and smallest for NaN.
PYRCNN_HD uint32_t descending_key(float score) {
  if (score != score) return 0;
  const uint32_t u = bit_cast<uint32_t>(score + 0.0f);
  return u >> 31 ? u : ~(u | 0x80000000u);
}
PYRCNN_HD uint64_t descending_key(double score) {
  if (score != score) return 0;
  const uint64_t u = bit_cast<uint64_t>(score + 0.0);
  return u >> 63 ? u : ~(u | 0x8000000000000000u);
}

// The score that a key was made from (-0 became 0).
PYRCNN_HD float score_of(uint32_t key) { return bit_cast<float>(key >> 31 ? key : ~key & 0x7fffffffu); }
PYRCNN_HD double score_of(uint64_t key) { return bit_cast<double>(key >> 63 ? key : ~key & 0x7fffffffffffffffu); }

}  // namespace pyrcnn
