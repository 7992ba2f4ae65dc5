// The arguments of decode_anchors, checked once for both devices.
#pragma once
#include <vector>

#include "common/allocate.h"
#include "decode_anchors.h"

namespace pyrcnn::decode_anchors {

using Tensors = std::vector<Tensor>;
using Reals = HeaderOnlyArrayRef<double>;

struct Arguments {
  Tensors deltas, cell_anchors;  // contiguous or NHWC, as the kernels need them; copies where the caller's were not
  Tensor image_sizes, boxes;
  std::vector<double> strides;
};

// allocate(like, sizes, dtype) returns an uninitialized result on one device.
template <typename Allocate>
Arguments check_and_allocate(const Tensors& deltas, const Tensors& cell_anchors, Reals strides,
                             const Tensor& image_sizes, Reals weights, const Allocate& allocate) {
  const size_t levels = deltas.size();
  check(levels >= 1 && levels <= kMaxLevels, "deltas must be 1 to ", kMaxLevels, " levels, got ", levels);
  check(cell_anchors.size() == levels, "cell_anchors must be ", levels, " levels as deltas is, got ",
        cell_anchors.size());
  check(strides.size() == 2 * levels, "strides must be ", levels, " (down, across) pairs, got ", strides.size(),
        " numbers");
  check(weights.size() == 4, "weights must be 4 numbers, got ", weights.size());
  const Tensor& first = deltas[0];
  check_tensors("deltas", first, "deltas", deltas, "cell_anchors", cell_anchors, "image_sizes", image_sizes);
  check(first.dim() == 4, "deltas must be [N, 4A, H, W] at every level, got ", shape(first));
  const int64_t images = first.size(0);
  check(image_sizes.dim() == 2 && image_sizes.size(0) == images && image_sizes.size(1) == 2, "image_sizes must be [",
        images, ", 2], got ", shape(image_sizes));
  Arguments result{{}, {}, as_contiguous(image_sizes), first, {strides.begin(), strides.end()}};
  int64_t anchors = 0;
  for (size_t l = 0; l < levels; ++l) {
    const Tensor &d = deltas[l], &c = cell_anchors[l];
    check(c.dim() == 2 && c.size(1) == 4, "cell_anchors must be [A, 4] at every level, got ", shape(c), " at level ",
          l);
    check(d.dim() == 4 && d.size(0) == images && d.size(1) == 4 * c.size(0), "deltas must be [", images, ", ",
          4 * c.size(0), ", H, W], got ", shape(d), " at level ", l);
    check(d.scalar_type() == first.scalar_type(), "deltas must have one dtype, got ",
          torch::headeronly::toString(d.scalar_type()), " at level ", l);
    result.deltas.push_back(dense(d));
    result.cell_anchors.push_back(as_contiguous(c));
    anchors += c.size(0) * d.size(2) * d.size(3);
  }
  const auto dtype = first.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  result.boxes = allocate(first, std::vector<int64_t>{images, anchors, 4}, dtype);
  return result;
}

template <typename T> Level<T> level(const Arguments& a, size_t l, int64_t first) {
  using C = compute_t<T>;
  const Tensor &d = a.deltas[l], &c = a.cell_anchors[l];
  const bool nhwc = is_channels_last(d);
  const int64_t channels = d.size(1), height = d.size(2), width = d.size(3);
  return {data<T>(d),
          numbers(c, "cell_anchors"),
          height,
          width,
          c.size(0),
          channels * height * width,
          nhwc ? 1 : height * width,
          nhwc ? width * channels : width,
          nhwc ? channels : 1,
          first,
          C(a.strides[2 * l]),
          C(a.strides[2 * l + 1])};
}

template <typename C> Rules<C> rules(const Arguments& a, Reals weights, double clip, double offset) {
  Tensor boxes = a.boxes;
  return {{C(weights[0]), C(weights[1]), C(weights[2]), C(weights[3])},
          C(clip),
          C(offset),
          numbers(a.image_sizes, "image_sizes"),
          mutable_data<C>(boxes),
          boxes.size(1)};
}

}  // namespace pyrcnn::decode_anchors
