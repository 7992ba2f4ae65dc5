// The arguments of decode_centers, checked once for both devices.
#pragma once
#include "common/allocate.h"
#include "decode_centers.h"

namespace pyrcnn::decode_centers {

inline void check_cells(const char* name, const Tensor& cells, const Tensor& size) {
  check(cells.scalar_type() == ScalarType::Long, name, " must be int64, got ",
        torch::headeronly::toString(cells.scalar_type()));
  check(cells.dim() == 2 && cells.size(0) == size.size(0), name, " must be [N, k] with N = ", size.size(0), ", got ",
        shape(cells));
}

// Boxes have the compute type, because bfloat16 does not hold all integers above 256.
inline Tensor check_and_allocate(const Tensor& ys, const Tensor& xs, const Tensor& size, const Tensor& offset) {
  check_tensors("size", size, "ys", ys, "xs", xs, "offset", offset);
  check(size.dim() == 4 && size.size(1) == 2, "size must be [N, 2, H, W], got ", shape(size));
  check(offset.sizes().equals(size.sizes()), "offset must be ", shape(size), " as size is, got ", shape(offset));
  check(offset.scalar_type() == size.scalar_type(), "offset must have the dtype of size, ", dtype(size), ", got ",
        dtype(offset));
  check_cells("ys", ys, size);
  check_cells("xs", xs, size);
  check(xs.sizes().equals(ys.sizes()), "xs must be ", shape(ys), " as ys is, got ", shape(xs));
  const auto dtype = size.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  return new_result("ys", size, {ys.size(0), ys.size(1), 4}, dtype);
}

inline Strides strides(const Tensor& t) { return {t.stride(0), t.stride(1), t.stride(2), t.stride(3)}; }

template <typename T>
Kernel<T> kernel(const Tensor& ys, const Tensor& xs, const Tensor& size, const Tensor& offset, const Tensor& boxes,
                 double stride, bool clamp_size, bool clip) {
  using C = compute_t<T>;
  return {data<int64_t>(ys), data<int64_t>(xs), data<T>(size), data<T>(offset), mutable_data<C>(boxes),
          strides(size),     strides(offset),   ys.size(1),    size.size(2),    size.size(3),
          C(stride),         clamp_size,        clip};
}

}  // namespace pyrcnn::decode_centers
