// The arguments of draw_gaussians, checked once for both devices.
#pragma once
#include "common/allocate.h"
#include "draw_gaussians.h"

namespace pyrcnn::draw_gaussians {

struct Inputs {
  Tensor centers, sigmas, classes;
  std::optional<Tensor> weights;
};

inline Tensor check_and_allocate(const Inputs& in, int64_t channels, int64_t height, int64_t width,
                                 bool channels_last) {
  check_tensors("centers", in.centers, "sigmas", in.sigmas, "classes", in.classes, "weights", in.weights);
  const auto dtype = in.centers.scalar_type();
  check(in.centers.dim() == 3 && in.centers.size(2) == 2, "centers must be [N, G, 2], got ", shape(in.centers));
  const auto check_objects = [&](const char* name, const Tensor& t) {
    check(t.dim() == 2 && t.size(0) == in.centers.size(0) && t.size(1) == in.centers.size(1), name, " must be [",
          in.centers.size(0), ", ", in.centers.size(1), "], got ", shape(t));
  };
  check_objects("sigmas", in.sigmas);
  check(in.sigmas.scalar_type() == dtype, "sigmas must have the dtype of centers, ", pyrcnn::dtype(in.centers),
        ", got ", pyrcnn::dtype(in.sigmas));
  check_objects("classes", in.classes);
  check(in.classes.scalar_type() == ScalarType::Long, "classes must be int64, got ",
        torch::headeronly::toString(in.classes.scalar_type()));
  if (in.weights) {
    check_objects("weights", *in.weights);
    check(in.weights->scalar_type() == dtype, "weights must have the dtype of centers, ", pyrcnn::dtype(in.centers),
          ", got ", pyrcnn::dtype(*in.weights));
  }
  check(channels >= 0 && height >= 0 && width >= 0, "shape must not have negative sizes, got [", in.centers.size(0),
        ", ", channels, ", ", height, ", ", width, "]");
  return new_4d("shape", in.centers, in.centers.size(0), channels, height, width, channels_last);
}

inline Inputs contiguous(const Inputs& in) {
  const auto dense = [](const Tensor& t) { return as_contiguous(t); };
  return {dense(in.centers), dense(in.sigmas), dense(in.classes),
          in.weights ? std::optional<Tensor>(dense(*in.weights)) : std::nullopt};
}

template <typename T> Objects<T> objects(const Inputs& in, const Tensor& maps) {
  return {data<T>(in.centers),
          data<T>(in.sigmas),
          data<int64_t>(in.classes),
          in.weights ? data<T>(*in.weights) : nullptr,
          in.centers.size(1),
          maps.size(1),
          maps.size(2),
          maps.size(3)};
}

}  // namespace pyrcnn::draw_gaussians
