#pragma once
#include <vector>

#include "../common/tensor.h"
#include "conv_chain.h"

namespace pyrcnn::conv_chain {

inline bool is_float(const Tensor& t) { return t.scalar_type() == ScalarType::Float; }

// A weight of `outputs` channels: [panels, rows, kPanel], the bias in the first row.
inline void check_weight(const char* name, const Tensor& weight, int64_t outputs, int64_t rows, const Tensor& input) {
  check(weight.dim() == 3 && weight.size(0) == panels(outputs) && weight.size(1) == rows && weight.size(2) == kPanel &&
            weight.is_contiguous() && is_float(weight),
        name, " must be contiguous float32 [", panels(outputs), ", ", rows, ", ", kPanel, "], got ", shape(weight));
  check_same_device(name, weight, "input", input);
}

struct Sizes {
  int64_t middle, hidden, rows, columns;  // channels between expand and project, before last; of the result
};

inline Sizes check_chain(const Tensor& input, const std::optional<Tensor>& expand,
                         const std::optional<Tensor>& depthwise, const Tensor& project,
                         const std::optional<Tensor>& last, const std::optional<Tensor>& other, int64_t outputs,
                         int64_t stride, const std::vector<int64_t>& padding, const std::vector<double>& limits) {
  check(input.dim() == 4 && input.size(1) > 0 && is_float(input),
        "input must be float32 [N, C, H, W] with channels, got ", shape(input));
  check(outputs > 0, "outputs must be positive, got ", outputs);
  check(stride == 1 || (stride == 2 && depthwise), "stride must be 1, or 2 with depthwise, got ", stride);
  check(padding.size() == 4, "padding must be top, left, bottom and right, got ", padding.size(), " numbers");
  for (int64_t side : padding)
    check(side == 0 || (depthwise && side > 0 && side < kKernel), "padding must be 0, 1 or 2 on every side, and 0 ",
          "without depthwise, got ", side);
  check(limits.size() == 8, "limits must be eight numbers, got ", limits.size());
  check(project.dim() == 3 && project.size(1) > 1, "project must be [panels, 1 + inputs, ", kPanel, "], got ",
        shape(project));
  if (last)
    check(last->dim() == 3 && last->size(1) > 1, "last must be [panels, 1 + inputs, ", kPanel, "], got ", shape(*last));
  Sizes sizes{project.size(1) - 1, last ? last->size(1) - 1 : outputs, input.size(2), input.size(3)};
  if (expand) check_weight("expand", *expand, sizes.middle, 1 + input.size(1), input);
  const int64_t inputs = expand ? sizes.middle : input.size(1);
  if (depthwise) check_weight("depthwise", *depthwise, inputs, 1 + kKernel * kKernel, input);
  check_weight("project", project, sizes.hidden, 1 + inputs, input);
  if (last) check_weight("last", *last, outputs, 1 + sizes.hidden, input);
  if (depthwise) {
    const auto result = [&](int64_t size, int64_t pad) {
      return size + pad < kKernel ? int64_t{0} : (size + pad - kKernel) / stride + 1;
    };
    sizes.rows = result(input.size(2), padding[0] + padding[2]);
    sizes.columns = result(input.size(3), padding[1] + padding[3]);
  }
  if (other) {
    check(other->dim() == 4 && other->size(0) == input.size(0) && other->size(1) == outputs &&
              other->size(2) == sizes.rows && other->size(3) == sizes.columns && is_float(*other),
          "other must be float32 [", input.size(0), ", ", outputs, ", ", sizes.rows, ", ", sizes.columns, "], got ",
          shape(*other));
    check_same_device("other", *other, "input", input);
  }
  return sizes;
}

}  // namespace pyrcnn::conv_chain
