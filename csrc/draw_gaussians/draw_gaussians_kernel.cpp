// Compiled once per instruction set.
#include "common/simd/pack.h"
#include "draw_gaussians.h"

namespace pyrcnn::draw_gaussians::PYRCNN_ISA {
using namespace pyrcnn::PYRCNN_ISA;

// exp(a + b) = exp(a) * exp(b), so one exponential per row and per column is enough.
template <typename T>
void raise(const Gaussian<compute_t<T>>& g, T* plane, int64_t width, int64_t step, int64_t top, int64_t bottom,
           compute_t<T>* scratch) {
  using C = compute_t<T>;
  constexpr int64_t lanes = lanes_of<C>;
  const int64_t count = g.right - g.left;
  for (int64_t x = 0; x < count; ++x) scratch[x] = g.along_x(g.left + x);
  for (int64_t y = higher(top, g.top); y < lower(bottom, g.bottom); ++y) {
    const C row = g.weight * g.along_y(y);
    T* to = plane + (y * width + g.left) * step;
    int64_t x = 0;
    if (step == 1)
      for (; x + lanes <= count; x += lanes) store(to + x, higher(load(scratch + x) * row, load(to + x)));
    for (; x < count; ++x) to[x * step] = T(higher(scratch[x] * row, C(to[x * step])));
  }
}

#define PYRCNN_INSTANTIATE(T) \
  template void raise(const Gaussian<compute_t<T>>&, T*, int64_t, int64_t, int64_t, int64_t, compute_t<T>*);
PYRCNN_INSTANTIATE(float)
PYRCNN_INSTANTIATE(double)
PYRCNN_INSTANTIATE(Half)
PYRCNN_INSTANTIATE(BFloat16)

}  // namespace pyrcnn::draw_gaussians::PYRCNN_ISA
