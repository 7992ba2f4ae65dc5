#pragma once
#include "common/allocate.h"
#include "winograd.h"

namespace pyrcnn::winograd {

inline void check_convolve(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                           const std::optional<Tensor>& other) {
  const auto is_float = [](const Tensor& t) { return t.scalar_type() == ScalarType::Float; };
  check_tensors("input", input, "weight", weight, "bias", bias, "other", other);
  check(input.dim() == 4 && input.size(1) > 0 && input.size(1) % kPanel == 0 && is_float(input),
        "input must be float32 [N, C, H, W] with C a multiple of ", kPanel, ", got ", shape(input));
  check(weight.dim() == 4 && weight.size(0) > 0 && weight.size(1) == kPlanes && weight.size(2) == input.size(1) &&
            weight.size(3) == kPanel && weight.is_contiguous() && is_float(weight),
        "weight must be contiguous float32 [outputs / ", kPanel, ", ", kPlanes, ", ", input.size(1), ", ", kPanel,
        "], got ", shape(weight));
  const int64_t outputs = weight.size(0) * kPanel;
  if (bias) {
    check(bias->dim() == 1 && bias->size(0) == outputs && bias->is_contiguous() && is_float(*bias),
          "bias must be contiguous float32 [", outputs, "], got ", shape(*bias));
  }
  if (other) {
    check(other->dim() == 4 && other->size(0) == input.size(0) && other->size(1) == outputs &&
              other->size(2) == input.size(2) && other->size(3) == input.size(3) && is_float(*other),
          "other must be float32 [", input.size(0), ", ", outputs, ", ", input.size(2), ", ", input.size(3), "], got ",
          shape(*other));
  }
}

}  // namespace pyrcnn::winograd
