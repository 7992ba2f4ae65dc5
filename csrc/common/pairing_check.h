// Checks the arguments that decode_boxes and encode_boxes share, for CPU and CUDA alike.
#pragma once
#include "common/math/pairing.h"
#include "allocate.h"

namespace pyrcnn {

using Weights = HeaderOnlyArrayRef<double>;

inline bool is_half_type(const Tensor& t) {
  return t.scalar_type() == ScalarType::Half || t.scalar_type() == ScalarType::BFloat16;
}

// Anchors must have the dtype of the rows, or be float32 if the rows are float16 or bfloat16.
inline Pairing check_pairing(const char* name, const Tensor& rows, const Tensor& anchors, int64_t repeat,
                             Weights weights) {
  check_tensors(name, rows, "anchors", anchors);
  check(rows.dim() >= 1 && rows.size(-1) == 4, name, " must be [..., 4], got ", shape(rows));
  check(anchors.dim() >= 1 && anchors.size(-1) == 4, "anchors must be [..., 4], got ", shape(anchors));
  const Pairing pairing{rows.numel() / 4, anchors.numel() / 4, repeat};
  const int64_t period = checked_product("repeat", {pairing.anchors, repeat});
  check((period == 0 ? pairing.rows == 0 : pairing.rows % period == 0), "anchors ", shape(anchors),
        " must broadcast to ", name, " ", shape(rows));
  check(
      anchors.scalar_type() == rows.scalar_type() || (anchors.scalar_type() == ScalarType::Float && is_half_type(rows)),
      "anchors must have the dtype of ", name, " or float32, got ", torch::headeronly::toString(anchors.scalar_type()));
  check(weights.size() == 4, "weights must be 4 numbers, got ", weights.size());
  return pairing;
}

// Calls f(Type<T>{}, Type<TA>{}) with the storage types of the rows and of the anchors.
template <typename F> void dispatch_pairing(const Tensor& rows, const char* name, const Tensor& anchors, F&& f) {
  dispatch_floating(rows, name, [&](auto type) {
    if (anchors.scalar_type() == rows.scalar_type()) {
      f(type, type);
    } else if constexpr (sizeof(typename decltype(type)::type) == 2) {
      f(type, Type<float>{});
    }
  });
}

}  // namespace pyrcnn
