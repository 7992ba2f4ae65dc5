// The arguments of box_iou and of its gradient, checked once for both devices.
#pragma once
#include <tuple>

#include "common/allocate.h"
#include "box_iou.h"

namespace pyrcnn::box_iou {

inline ScalarType result_type(const Tensor& boxes) {
  return boxes.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline std::vector<int64_t> result_shape(const Tensor& boxes1, const Tensor& boxes2) {
  std::vector<int64_t> sizes(boxes1.sizes().begin(), boxes1.sizes().end());
  sizes.back() = boxes2.size(-2);
  return sizes;
}

inline Sizes check_arguments(const Tensor& boxes1, const Tensor& boxes2) {
  check_tensors("boxes1", boxes1, "boxes2", boxes2);
  check(boxes1.dim() >= 2 && boxes1.size(-1) == 4, "boxes1 must be [..., K1, 4], got ", shape(boxes1));
  check(boxes2.dim() >= 2 && boxes2.size(-1) == 4, "boxes2 must be [..., K2, 4], got ", shape(boxes2));
  bool same_images = boxes1.dim() == boxes2.dim();
  Sizes s{1, boxes1.size(-2), boxes2.size(-2)};
  for (int64_t d = 0; same_images && d < boxes1.dim() - 2; ++d) {
    same_images = boxes1.size(d) == boxes2.size(d);
    s.images *= boxes1.size(d);
  }
  check(same_images, "boxes2 must be of as many images as boxes1 ", shape(boxes1), ", got ", shape(boxes2));
  check(boxes1.scalar_type() == boxes2.scalar_type(), "boxes2 must have the dtype of boxes1, ", dtype(boxes1), ", got ",
        dtype(boxes2));
  checked_product("boxes2", {s.images, s.first, s.second});
  return s;
}

// run(kernel) loops over the pairs on one device and writes `result`.
template <typename Run>
void forward(const Tensor& boxes1, const Tensor& boxes2, const Sizes& sizes, Tensor& result, Run&& run) {
  if (result.numel() == 0) return dispatch_floating(boxes1, "boxes1", [](auto) {});
  const Tensor a = as_contiguous(boxes1), b = as_contiguous(boxes2);
  dispatch_floating(boxes1, "boxes1", [&](auto type) {
    using T = typename decltype(type)::type;
    run(Forward<T>{data<T>(a), data<T>(b), mutable_data<compute_t<T>>(result), sizes});
  });
}

// run(kernel) loops over the boxes of the second list on one device. A gradient that is not needed is an empty tensor.
template <typename Run>
std::tuple<Tensor, Tensor> backward(const Tensor& grad, const Tensor& boxes1, const Tensor& boxes2, bool need_first,
                                    bool need_second, Run&& run) {
  const Sizes sizes = check_arguments(boxes1, boxes2);
  check_tensors("boxes1", boxes1, "grad", grad);
  const std::vector<int64_t> expected = result_shape(boxes1, boxes2);
  check(grad.sizes().equals(expected), "grad must have the shape of the result, got ", shape(grad));
  check(grad.scalar_type() == result_type(boxes1), "grad must have the dtype of the result, ",
        torch::headeronly::toString(result_type(boxes1)), ", got ", dtype(grad));
  const auto gradient_of = [&](const Tensor& boxes, const Tensor& others, const Tensor& g, const Sizes& s) {
    Tensor result = new_result("boxes1", boxes, boxes.sizes());
    const Tensor b = as_contiguous(boxes), o = as_contiguous(others), weights = as_contiguous(g);
    dispatch_floating(boxes, "boxes1", [&](auto type) {
      using T = typename decltype(type)::type;
      run(Backward<T>{data<compute_t<T>>(weights), data<T>(o), data<T>(b), mutable_data<T>(result), s});
    });
    return result;
  };
  const auto none = [](const Tensor& boxes) { return torch::stable::new_empty(boxes, {0}); };
  return {need_first ? gradient_of(boxes1, boxes2, torch::stable::transpose(grad, -2, -1),
                                   {sizes.images, sizes.second, sizes.first})
                     : none(boxes1),
          need_second ? gradient_of(boxes2, boxes1, grad, sizes) : none(boxes2)};
}

}  // namespace pyrcnn::box_iou
