#pragma once
#include <vector>

#include "common/tensor.h"
#include "conv_chain.h"

namespace pyrcnn::conv_chain {

// Per chain: input, other or -1, up, stages, the channels that project reads, that it makes and of the result, then the
// stride and padding (top, left, bottom, right) of the depthwise convolution and of the first one, whose stride is 0
// where it is 1x1.
constexpr size_t kNumbers = 17;
constexpr size_t kLimits = 8;                                      // per chain: two for each of its four stages
enum Stages : int64_t { kExpand = 1, kDepthwise = 2, kLast = 4 };  // those that a chain has beside project

// One chain as the caller names it.
struct Arguments {
  size_t input;   // a map: those that are given, then the results of the chains before
  int64_t other;  // ... or -1
  int64_t up;     // how often it counts, both ways
  const Tensor *expand, *depthwise, *project, *last;  // null: none
  int64_t middle, hidden, outputs;                    // channels that project reads, that it makes, and of the result
  int64_t stride, padding[4];                         // of depthwise
  int64_t window_stride, window_padding[4];           // of expand
};

// The dtype that a call computes in: of all its tensors.
template <typename T> bool is_type(const Tensor& t) {
  return t.scalar_type() == (kInTiles<T> ? ScalarType::BFloat16 : ScalarType::Float);
}
template <typename T> constexpr const char* type_name = kInTiles<T> ? "bfloat16" : "float32";

// The arguments of every chain; `weights` are those of the stages that there are, in order.
inline std::vector<Arguments> arguments(const std::vector<Tensor>& inputs, const std::vector<Tensor>& weights,
                                        const std::vector<int64_t>& numbers, const std::vector<double>& limits) {
  const size_t count = numbers.size() / kNumbers;
  check(numbers.size() == count * kNumbers, "chains must be ", kNumbers, " numbers each, got ", numbers.size());
  check(limits.size() == count * kLimits, "limits must be ", kLimits, " numbers for each of ", count, " chains, got ",
        limits.size());
  std::vector<Arguments> chains;
  size_t used = 0;
  for (size_t i = 0; i < count; ++i) {
    const int64_t* n = &numbers[i * kNumbers];
    const int64_t maps = int64_t(inputs.size() + i);
    check(n[0] >= 0 && n[0] < maps, "input must be one of ", maps, " maps, got ", n[0]);
    check(n[1] >= -1 && n[1] < maps, "other must be one of ", maps, " maps or -1, got ", n[1]);
    const auto weight = [&](int64_t stage) -> const Tensor* {
      if (stage && !(n[3] & stage)) return nullptr;
      check(used < weights.size(), "weights must be one for each stage, got ", weights.size());
      return &weights[used++];
    };
    Arguments a{.input = size_t(n[0]),
                .other = n[1],
                .up = n[2],
                .expand = weight(kExpand),
                .depthwise = weight(kDepthwise),
                .project = weight(0),
                .last = weight(kLast),
                .middle = n[4],
                .hidden = n[5],
                .outputs = n[6],
                .stride = n[7],
                .padding = {n[8], n[9], n[10], n[11]},
                .window_stride = n[12],
                .window_padding = {n[13], n[14], n[15], n[16]}};
    chains.push_back(a);
  }
  check(used == weights.size(), "weights must be one for each stage, ", used, ", got ", weights.size());
  return chains;
}

// A weight of `outputs` channels: [panels, kBiasRows + rows, kPanel], the bias in the first rows.
template <typename T>
void check_weight(const char* name, const Tensor& weight, int64_t outputs, int64_t rows, const Tensor& input) {
  const int64_t all = kBiasRows<T> + rows;
  check(weight.dim() == 3 && weight.size(0) == panels<T>(outputs) && weight.size(1) == all &&
            weight.size(2) == kPanel<T> && weight.is_contiguous() && is_type<T>(weight),
        name, " must be contiguous ", type_name<T>, " [", panels<T>(outputs), ", ", all, ", ", kPanel<T>, "], got ",
        shape(weight));
  check_same_device(name, weight, "input", input);
}

struct Sizes {
  int64_t height, width;  // of what the depthwise convolution sees
  int64_t rows, columns;  // of the result
};

// The result of a 3x3 convolution along one dimension.
inline int64_t convolved(int64_t size, int64_t before, int64_t after, int64_t stride) {
  const int64_t padded = size + before + after;
  return padded < kKernel ? 0 : (padded - kKernel) / stride + 1;
}

inline void check_window(const char* stride_name, int64_t stride, const char* padding_name, const int64_t (&padding)[4],
                         bool used) {
  check(used ? stride == 1 || stride == 2 : stride <= 1, stride_name, " must be 1, or 2 with its 3x3 convolution, got ",
        stride);
  for (int64_t side : padding)
    check(side == 0 || (used && side > 0 && side < kKernel), padding_name, " must be 0, 1 or 2 on every side, and 0 ",
          "without its 3x3 convolution, got ", side);
}

template <typename T> Sizes check_chain(const Arguments& a, const Tensor& input, const Tensor* other) {
  check(input.size(1) > 0 && is_type<T>(input), "input must be ", type_name<T>, " [N, C, H, W] with channels, got ",
        shape(input));
  check(a.middle > 0 && a.hidden > 0 && a.outputs > 0, "channels must be positive, got ", a.middle, ", ", a.hidden,
        ", ", a.outputs);
  check(a.last || a.hidden == a.outputs, "channels must be two without last, got ", a.outputs);
  check_window("stride", a.stride, "padding", a.padding, a.depthwise);
  check_window("window_stride", a.window_stride, "window_padding", a.window_padding, a.window_stride != 0);
  check(a.window_stride == 0 || (a.expand && a.depthwise), "window_stride must be 0 without expand and depthwise, got ",
        a.window_stride);
  check(a.expand || a.middle == input.size(1), "channels must begin with the input's ", input.size(1), ", got ",
        a.middle);
  Sizes sizes{.height = input.size(2), .width = input.size(3), .rows = 0, .columns = 0};
  if (a.window_stride) {
    sizes.height = convolved(input.size(2), a.window_padding[0], a.window_padding[2], a.window_stride);
    sizes.width = convolved(input.size(3), a.window_padding[1], a.window_padding[3], a.window_stride);
  }
  const int64_t taps = a.window_stride ? kTaps : 1;
  const auto pointwise = [&](const char* name, const Tensor* weight, int64_t outputs, int64_t inputs) {
    if (weight) check_weight<T>(name, *weight, outputs, whole_depth<T>(inputs), input);
  };
  pointwise("expand", a.expand, a.middle, taps * input.size(1));
  if (a.depthwise) check_weight<T>("depthwise", *a.depthwise, a.middle, kTaps, input);
  pointwise("project", a.project, a.hidden, a.middle);
  pointwise("last", a.last, a.outputs, a.hidden);
  sizes.rows = a.depthwise ? convolved(sizes.height, a.padding[0], a.padding[2], a.stride) : sizes.height;
  sizes.columns = a.depthwise ? convolved(sizes.width, a.padding[1], a.padding[3], a.stride) : sizes.width;
  check(a.up == 1 || (a.up == 2 && other), "up must be 1, or 2 with other, got ", a.up);
  if (other) {
    check(other->dim() == 4 && other->size(0) == input.size(0) && other->size(1) == a.outputs &&
              other->size(2) * a.up == sizes.rows && other->size(3) * a.up == sizes.columns && is_type<T>(*other),
          "other must be ", type_name<T>, " [", input.size(0), ", ", a.outputs, ", ", sizes.rows, " / ", a.up, ", ",
          sizes.columns, " / ", a.up, "], got ", shape(*other));
    check_same_device("other", *other, "input", input);
  }
  return sizes;
}

}  // namespace pyrcnn::conv_chain
