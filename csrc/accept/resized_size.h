// The size that an image is resized to, by the rules of pyrcnn/models/preprocess.py. Host code alone.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

namespace pyrcnn::accept {

struct Size {
  int64_t height, width;
};

// The longer side becomes `longer`, rounded half to even in float: TensorFlow's rule.
inline Size keep_aspect(Size old, int64_t longer) {
  const float ratio = std::min(float(longer) / float(old.height), float(longer) / float(old.width));
  const auto side = [&](int64_t n) { return std::max<int64_t>(int64_t(std::nearbyint(float(n) * ratio)), 1); };
  return {side(old.height), side(old.width)};
}

// The shorter side becomes `shorter` unless the longer one would exceed `longer`; sides are rounded down.
inline Size shorter_side(Size old, int64_t shorter, int64_t longer) {
  const double low = double(std::min(old.height, old.width)), high = double(std::max(old.height, old.width));
  const double scale = std::min(double(shorter) / low, double(longer) / high);
  const auto side = [&](int64_t n) { return std::max<int64_t>(int64_t(std::floor(double(n) * scale)), 1); };
  return {side(old.height), side(old.width)};
}

// The same, rounded to the nearest.
inline Size shorter_side_rounded(Size old, int64_t shorter, int64_t longer) {
  const double low = double(std::min(old.height, old.width)), high = double(std::max(old.height, old.width));
  double scale = double(shorter) / low;
  if (high * scale > double(longer)) scale = double(longer) / high;
  const auto side = [&](int64_t n) { return std::max<int64_t>(int64_t(double(n) * scale + 0.5), 1); };
  return {side(old.height), side(old.width)};
}

}  // namespace pyrcnn::accept
