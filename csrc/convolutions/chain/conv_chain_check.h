#pragma once
#include <vector>

#include "common/allocate.h"
#include "conv_chain.h"

namespace pyrcnn::conv_chain {

// The integers of a chain, in the order of the argument `chains`: input; other or -1; up; stages; the channels that
// project reads, that project makes and of the result; stride and padding (top, left, bottom, right) of the depthwise
// convolution; stride and padding of a 3x3 expand. The last stride is 0 if expand is 1x1.
constexpr size_t kNumbers = 17;
constexpr size_t kLimits = 8;                                      // per chain: two for each of its four convolutions
enum Stages : int64_t { kExpand = 1, kDepthwise = 2, kLast = 4 };  // the convolutions that a chain has beside project

// One chain as the caller describes it. Maps are the inputs and then the results of the chains before.
struct Arguments {
  size_t input;                                       // the number of a map
  int64_t other;                                      // the number of a map, or -1
  int64_t up;                                         // 2 if each pixel of `other` is added to four, else 1
  const Tensor *expand, *depthwise, *project, *last;  // null if the chain does not have it
  int64_t expanded, hidden, outputs;                  // channels that project reads, that it makes, and of the result
  int64_t stride, padding[4];                         // of depthwise
  int64_t window_stride, window_padding[4];           // of a 3x3 expand
};

inline bool is_float(const Tensor& t) { return t.scalar_type() == ScalarType::Float; }

// The arguments of every chain. `weights` are those of the convolutions that there are, in order.
inline std::vector<Arguments> read_arguments(const std::vector<Tensor>& inputs, const std::vector<Tensor>& weights,
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
                .expanded = n[4],
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

// A weight of `outputs` channels: [panels, 1 + rows, kPanel], the bias in the first row.
inline void check_weight(const char* name, const Tensor& weight, int64_t outputs, int64_t rows) {
  check(weight.dim() == 3 && weight.size(0) == panels(outputs) && weight.size(1) == 1 + rows &&
            weight.size(2) == kPanel && weight.is_contiguous() && is_float(weight),
        name, " must be contiguous float32 [", panels(outputs), ", ", 1 + rows, ", ", kPanel, "], got ", shape(weight));
}

struct Sizes {
  int64_t height, width;  // of what the depthwise convolution reads
  int64_t rows, columns;  // of the result
};

// The size of a 3x3 convolution's result along one dimension; before, after: its padding.
inline int64_t convolved_size(int64_t size, int64_t before, int64_t after, int64_t stride) {
  const int64_t padded = size + before + after;
  return padded < kKernel ? 0 : (padded - kKernel) / stride + 1;
}

inline void check_3x3(const char* stride_name, int64_t stride, const char* padding_name, const int64_t (&padding)[4],
                      bool used) {
  check(used ? stride == 1 || stride == 2 : stride <= 1, stride_name, " must be 1, or 2 with its 3x3 convolution, got ",
        stride);
  for (int64_t side : padding)
    check(side == 0 || (used && side > 0 && side < kKernel), padding_name, " must be 0, 1 or 2 on every side, and 0 ",
          "without its 3x3 convolution, got ", side);
}

inline Sizes check_chain(const Arguments& a, const Tensor& input, const Tensor* other) {
  check(input.size(1) > 0 && is_float(input), "input must be float32 [N, C, H, W] with channels, got ", shape(input));
  constexpr int64_t kMostChannels = INT32_MAX;
  for (const int64_t channels : {a.expanded, a.hidden, a.outputs})
    check(channels > 0 && channels <= kMostChannels, "channels must be positive and below 2^31, got ", a.expanded, ", ",
          a.hidden, ", ", a.outputs);
  check(a.last || a.hidden == a.outputs, "channels must be two without last, got ", a.outputs);
  check_3x3("stride", a.stride, "padding", a.padding, a.depthwise);
  check_3x3("window_stride", a.window_stride, "window_padding", a.window_padding, a.window_stride != 0);
  check(a.window_stride == 0 || (a.expand && a.depthwise), "window_stride must be 0 without expand and depthwise, got ",
        a.window_stride);
  check(a.expand || a.expanded == input.size(1), "channels must begin with the input's ", input.size(1), ", got ",
        a.expanded);
  Sizes sizes{.height = input.size(2), .width = input.size(3), .rows = 0, .columns = 0};
  if (a.window_stride) {
    sizes.height = convolved_size(input.size(2), a.window_padding[0], a.window_padding[2], a.window_stride);
    sizes.width = convolved_size(input.size(3), a.window_padding[1], a.window_padding[3], a.window_stride);
  }
  if (a.expand) check_weight("expand", *a.expand, a.expanded, (a.window_stride ? kTaps : 1) * input.size(1));
  if (a.depthwise) check_weight("depthwise", *a.depthwise, a.expanded, kTaps);
  check_weight("project", *a.project, a.hidden, a.expanded);
  if (a.last) check_weight("last", *a.last, a.outputs, a.hidden);
  sizes.rows = a.depthwise ? convolved_size(sizes.height, a.padding[0], a.padding[2], a.stride) : sizes.height;
  sizes.columns = a.depthwise ? convolved_size(sizes.width, a.padding[1], a.padding[3], a.stride) : sizes.width;
  check(a.up == 1 || (a.up == 2 && other), "up must be 1, or 2 with other, got ", a.up);
  if (other) {
    check(other->dim() == 4 && other->size(0) == input.size(0) && other->size(1) == a.outputs &&
              other->size(2) * a.up == sizes.rows && other->size(3) * a.up == sizes.columns && is_float(*other),
          "other must be float32 [", input.size(0), ", ", a.outputs, ", ", sizes.rows, " / ", a.up, ", ", sizes.columns,
          " / ", a.up, "], got ", shape(*other));
  }
  return sizes;
}

}  // namespace pyrcnn::conv_chain
