// Compiled once per instruction set. The compiler vectorizes both loops over x.
#include "resize_as_pillow_kernel.h"

namespace pyrcnn::resize_as_pillow::PYRCNN_ISA {
namespace {

constexpr int64_t kColumns = 64;  // whose sums stay in registers

template <int taps> void stretch_few(const uint8_t* row, const Filters& f, uint8_t* to) {
  for (int64_t x = 0; x < f.count; ++x) {
    int32_t sum = kHalf;
    for (int k = 0; k < taps; ++k) sum += row[f.first[x] + k] * f.weights[x * taps + k];
    to[x] = uint8_t(sum >> kBits);
  }
}

}  // namespace

void stretch(const uint8_t* row, const Filters& f, uint8_t* to) {
  if (f.taps == 2) return stretch_few<2>(row, f, to);
  if (f.taps == 3) return stretch_few<3>(row, f, to);
  for (int64_t x = 0; x < f.count; ++x) {
    int32_t sum = kHalf;
    for (int64_t k = 0; k < f.taps; ++k) sum += row[f.first[x] + k] * f.weights[x * f.taps + k];
    to[x] = uint8_t(sum >> kBits);
  }
}

void blend(const uint8_t* image, int64_t width, const Filters& f, int64_t rows, int64_t y, uint8_t* to) {
  const int32_t* weights = f.weights + y * f.taps;
  const int64_t first = f.first[y], count = lower(f.taps, rows - first);
  for (int64_t begin = 0; begin < width; begin += kColumns) {
    const int64_t columns = lower(kColumns, width - begin);
    int32_t sums[kColumns];
    for (int64_t x = 0; x < kColumns; ++x) sums[x] = kHalf;
    for (int64_t k = 0; k < count; ++k) {
      const uint8_t* row = image + (first + k) * width + begin;
      for (int64_t x = 0; x < columns; ++x) sums[x] += row[x] * weights[k];
    }
    for (int64_t x = 0; x < columns; ++x) to[begin + x] = uint8_t(sums[x] >> kBits);
  }
}

}  // namespace pyrcnn::resize_as_pillow::PYRCNN_ISA
