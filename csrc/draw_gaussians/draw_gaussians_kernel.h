// The loop of draw_gaussians_kernel.cpp, one version per instruction set.
#pragma once
#include "common/cpu/kernel.h"
#include "draw_gaussians.h"

namespace pyrcnn::draw_gaussians {

// Sets rows [top, bottom) of `plane` to the maximum of themselves and the Gaussian. Neighbouring cells are `step`
// elements apart. `scratch` [width].
PYRCNN_DECLARE_KERNEL(template <typename T> void, raise,
                      (const Gaussian<compute_t<T>>& g, T* plane, int64_t width, int64_t step, int64_t top,
                       int64_t bottom, compute_t<T>* scratch))
}  // namespace pyrcnn::draw_gaussians
