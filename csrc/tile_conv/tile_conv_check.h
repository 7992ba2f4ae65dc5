#pragma once
#include "common/tensor.h"
#include "tile_conv.h"

namespace pyrcnn::tile_conv {

// The result of a convolution along one dimension.
inline int64_t convolved(int64_t size, int64_t kernel, int64_t stride, int64_t padding) {
  const int64_t padded = size + 2 * padding;
  return padded < kernel ? 0 : (padded - kernel) / stride + 1;
}

// Returns the layer without its cut.
inline Layer check_convolve(const Tensor& input, const Tensor& weight, const Tensor& bias,
                            const std::optional<Tensor>& other, int64_t outputs, int64_t kernel, int64_t stride,
                            int64_t padding, double low, double high) {
  const auto is_bfloat16 = [](const Tensor& t) { return t.scalar_type() == ScalarType::BFloat16; };
  check(input.dim() == 4 && input.size(1) > 0 && is_bfloat16(input),
        "input must be bfloat16 [N, C, H, W] with channels, got ", shape(input));
  check(outputs > 0, "outputs must be positive, got ", outputs);
  check(kernel == 1 || kernel == 3, "kernel must be 1 or 3, got ", kernel);
  check(stride == 1 || stride == 2, "stride must be 1 or 2, got ", stride);
  check(padding >= 0 && padding < kernel, "padding must be 0 or less than kernel, got ", padding);
  const int64_t panels = ceil_div(outputs, kPanel), pairs = kernel * kernel * whole_lines(input.size(1)) / 2;
  check(weight.dim() == 4 && weight.size(0) == panels && weight.size(1) == pairs && weight.size(2) == kPanel &&
            weight.size(3) == 2 && weight.is_contiguous() && is_bfloat16(weight),
        "weight must be contiguous bfloat16 [", panels, ", ", pairs, ", ", kPanel, ", 2], got ", shape(weight));
  check_same_device("weight", weight, "input", input);
  check(bias.dim() == 1 && bias.size(0) == panels * kPanel && bias.is_contiguous() &&
            bias.scalar_type() == ScalarType::Float,
        "bias must be contiguous float32 [", panels * kPanel, "], got ", shape(bias));
  check_same_device("bias", bias, "input", input);
  const int64_t rows = convolved(input.size(2), kernel, stride, padding);
  const int64_t columns = convolved(input.size(3), kernel, stride, padding);
  if (other) {
    check(other->dim() == 4 && other->size(0) == input.size(0) && other->size(1) == outputs && other->size(2) == rows &&
              other->size(3) == columns && is_bfloat16(*other),
          "other must be bfloat16 [", input.size(0), ", ", outputs, ", ", rows, ", ", columns, "], got ",
          shape(*other));
    check_same_device("other", *other, "input", input);
  }
  return {.kernel = kernel,
          .stride = stride,
          .top = padding,
          .left = padding,
          .inputs = input.size(1),
          .height = input.size(2),
          .width = input.size(3),
          .outputs = outputs,
          .rows = rows,
          .columns = columns,
          .tile_rows = 0,
          .tile_columns = 0,
          .input = nullptr,
          .weight = nullptr,
          .bias = nullptr,
          .other = nullptr,
          .low = float(low),
          .high = float(high),
          .output = nullptr,
          .tiles = TileKind::kPlain};
}

}  // namespace pyrcnn::tile_conv
