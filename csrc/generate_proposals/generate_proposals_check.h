// Checks the arguments of generate_proposals and allocates its outputs, for CPU and CUDA alike.
#pragma once
#include <cmath>
#include <tuple>

#include "common/allocate.h"
#include "generate_proposals.h"

namespace pyrcnn::generate_proposals {

using Tensors = std::vector<Tensor>;
using Reals = HeaderOnlyArrayRef<double>;

constexpr size_t kMaxLevels = 16;

struct Arguments {
  Tensors objectness, deltas, cell_anchors;  // as the kernels read them, copied if necessary
  Tensor image_sizes;
  int64_t images, levels, pre_nms_top_n, post_nms_top_n;
  double nms_threshold, min_size, clip, offset;
  std::vector<double> strides, weights;
};

struct Outputs {
  Tensor boxes, scores, counts;
};

// Can the kernels read this objectness? The planes of an image (NCHW), or the whole image (NHWC), must have no gaps.
// There may be gaps between images, as in a slice of channels.
inline bool scannable(const Tensor& t) {
  return is_channels_last(t) || (t.stride(3) == 1 && t.stride(2) == t.size(3) && t.stride(1) == t.size(2) * t.size(3));
}

inline Arguments check_arguments(const Tensors& objectness, const Tensors& deltas, const Tensors& cell_anchors,
                                 Reals strides, const Tensor& image_sizes, int64_t pre_nms_top_n,
                                 int64_t post_nms_top_n, double nms_threshold, double min_size, Reals weights,
                                 double clip, double offset) {
  const size_t levels = objectness.size();
  check(levels >= 1 && levels <= kMaxLevels, "objectness must be 1 to ", kMaxLevels, " levels, got ", levels);
  check(deltas.size() == levels, "deltas must be ", levels, " levels as objectness is, got ", deltas.size());
  check(cell_anchors.size() == levels, "cell_anchors must be ", levels, " levels as objectness is, got ",
        cell_anchors.size());
  check(strides.size() == 2 * levels, "strides must be ", levels, " (height, width) pairs, got ", strides.size(),
        " numbers");
  check(weights.size() == 4, "weights must be 4 numbers, got ", weights.size());
  check(pre_nms_top_n >= 0, "pre_nms_top_n must not be negative, got ", pre_nms_top_n);
  check(post_nms_top_n >= 0, "post_nms_top_n must not be negative, got ", post_nms_top_n);
  const Tensor& first = objectness[0];
  check_tensors("objectness", first, "objectness", objectness, "deltas", deltas, "cell_anchors", cell_anchors,
                "image_sizes", image_sizes);
  check(first.dim() == 4, "objectness must be [N, A, H, W] at every level, got ", shape(first));
  const int64_t images = first.size(0);
  check(image_sizes.dim() == 2 && image_sizes.size(0) == images && image_sizes.size(1) == 2, "image_sizes must be [",
        images, ", 2], got ", shape(image_sizes));

  Arguments a{{},
              {},
              {},
              as_contiguous(image_sizes),
              images,
              int64_t(levels),
              pre_nms_top_n,
              post_nms_top_n,
              nms_threshold,
              min_size,
              clip,
              offset,
              {strides.begin(), strides.end()},
              {weights.begin(), weights.end()}};
  for (size_t l = 0; l < levels; ++l) {
    const Tensor &o = objectness[l], &d = deltas[l], &c = cell_anchors[l];
    check(o.dim() == 4 && o.size(0) == images, "objectness must be [", images, ", A, H, W] at every level, got ",
          shape(o), " at level ", l);
    check(d.dim() == 4 && d.size(0) == images && d.size(1) == 4 * o.size(1) && d.size(2) == o.size(2) &&
              d.size(3) == o.size(3),
          "deltas must be [N, 4A, H, W] where objectness is ", shape(o), ", got ", shape(d), " at level ", l);
    check(c.dim() == 2 && c.size(0) == o.size(1) && c.size(1) == 4, "cell_anchors must be [", o.size(1), ", 4], got ",
          shape(c), " at level ", l);
    check(o.scalar_type() == first.scalar_type(), "objectness must have one dtype, got ",
          torch::headeronly::toString(o.scalar_type()), " at level ", l);
    check(d.scalar_type() == first.scalar_type(), "deltas must have the dtype of objectness, ",
          torch::headeronly::toString(first.scalar_type()), ", got ", torch::headeronly::toString(d.scalar_type()),
          " at level ", l);
    check(o.size(1) * o.size(2) * o.size(3) < INT32_MAX, "objectness must have fewer than 2^31 anchors a level, got ",
          shape(o));
    a.objectness.push_back(scannable(o) ? o : as_contiguous(o));
    a.deltas.push_back(d);
    a.cell_anchors.push_back(as_contiguous(c));
    for (size_t d = 0; d < 2; ++d) {  // torchvision's: the side of the network input divided by the map's, rounded down
      const double cells = double(o.size(int64_t(2 + d))), input = strides[d] * double(first.size(int64_t(2 + d)));
      if (strides[2 * l + d] == 0 && cells > 0) a.strides[2 * l + d] = std::floor(input / cells);
    }
  }
  return a;
}

// Boxes and scores have the compute type: float32, or float64 for float64 inputs.
inline Outputs allocate(const Arguments& a) {
  const Tensor& like = a.objectness[0];
  const auto dtype = like.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  return {new_result("post_nms_top_n", like, {a.images, a.post_nms_top_n, 4}, dtype),
          new_result("post_nms_top_n", like, {a.images, a.post_nms_top_n}, dtype),
          new_result("objectness", like, {a.images}, ScalarType::Long)};
}

template <typename T> Level<T> level(const Arguments& a, int64_t l) {
  using C = compute_t<T>;
  const Tensor &o = a.objectness[l], &d = a.deltas[l];
  return {data<T>(o),
          data<T>(d),
          numbers(a.cell_anchors[l], "cell_anchors"),
          o.size(2),
          o.size(3),
          o.size(1),
          o.stride(0),
          d.stride(0),
          d.stride(1),
          d.stride(2),
          d.stride(3),
          C(a.strides[2 * l]),
          C(a.strides[2 * l + 1]),
          is_channels_last(o)};
}

template <typename C> Rules<C> rules(const Arguments& a) {
  return {{C(a.weights[0]), C(a.weights[1]), C(a.weights[2]), C(a.weights[3])}, C(a.clip), C(a.offset)};
}

}  // namespace pyrcnn::generate_proposals
