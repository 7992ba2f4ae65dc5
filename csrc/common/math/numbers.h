// A small tensor of numbers (image sizes, cell anchors, counts) in any dtype. Kernels convert its elements when they
// read them, because converting the tensor first would cost a launch on a GPU.
#pragma once
#include "hd.h"

namespace pyrcnn {

enum class NumberKind : int32_t { kFloat, kDouble, kHalf, kBFloat16, kInt, kLong };

struct Numbers {
  const void* data;
  NumberKind kind;
  template <typename C> PYRCNN_HD C at(int64_t i) const {
    switch (kind) {
      case NumberKind::kFloat: return C(static_cast<const float*>(data)[i]);
      case NumberKind::kDouble: return C(static_cast<const double*>(data)[i]);
      case NumberKind::kHalf: return C(float(static_cast<const Half*>(data)[i]));
      case NumberKind::kBFloat16: return C(float(static_cast<const BFloat16*>(data)[i]));
      case NumberKind::kInt: return C(static_cast<const int32_t*>(data)[i]);
      default: return C(static_cast<const int64_t*>(data)[i]);
    }
  }
};

}  // namespace pyrcnn
