// The arguments of encode_boxes and of its gradient, checked once for both devices.
#pragma once
#include <tuple>

#include "common/pairing_check.h"
#include "encode_boxes.h"

namespace pyrcnn::encode_boxes {

// make() allocates the result: the shape of `boxes`, the dtype of `anchors`. run(kernel) loops over the rows on one
// device.
template <typename Make, typename Run>
Tensor forward(const Tensor& boxes, const Tensor& anchors, int64_t repeat, Weights weights, const Make& make,
               Run&& run) {
  const Pairing pairing = check_pairing("boxes", boxes, anchors, repeat, weights);
  Tensor deltas = make();
  const Tensor b = as_contiguous(boxes), a = as_contiguous(anchors);
  dispatch_pairing(boxes, "boxes", anchors, [&](auto type, auto anchor_type) {
    using T = typename decltype(type)::type;
    using TA = typename decltype(anchor_type)::type;
    using C = compute_t<TA>;
    run(Kernel<T, TA>{data<T>(b),
                      data<TA>(a),
                      mutable_data<TA>(deltas),
                      {C(weights[0]), C(weights[1]), C(weights[2]), C(weights[3])},
                      pairing});
  });
  return deltas;
}

// run(kernel) loops over the anchors on one device.
template <typename Run>
std::tuple<Tensor, Tensor> backward(const Tensor& grad, const Tensor& boxes, const Tensor& anchors, int64_t repeat,
                                    Weights weights, bool need_anchors, Run&& run) {
  const Pairing pairing = check_pairing("boxes", boxes, anchors, repeat, weights);
  check(grad.sizes().equals(boxes.sizes()), "grad must be ", shape(boxes), ", got ", shape(grad));
  check(grad.scalar_type() == anchors.scalar_type(), "grad must have the dtype of anchors, ", dtype(anchors), ", got ",
        dtype(grad));
  check_tensors("boxes", boxes, "grad", grad);
  const Tensor g = as_contiguous(grad), b = as_contiguous(boxes);
  const Tensor a = as_contiguous(anchors);
  Tensor to_boxes = new_result("boxes", boxes, boxes.sizes());
  Tensor to_anchors =
      need_anchors ? new_result("anchors", anchors, anchors.sizes()) : torch::stable::new_empty(anchors, {0});
  dispatch_pairing(boxes, "boxes", anchors, [&](auto type, auto anchor_type) {
    using T = typename decltype(type)::type;
    using TA = typename decltype(anchor_type)::type;
    using C = compute_t<TA>;
    run(Backward<T, TA>{data<TA>(g),
                        data<T>(b),
                        data<TA>(a),
                        mutable_data<T>(to_boxes),
                        need_anchors ? mutable_data<TA>(to_anchors) : nullptr,
                        {C(weights[0]), C(weights[1]), C(weights[2]), C(weights[3])},
                        pairing});
  });
  return {to_boxes, to_anchors};
}

}  // namespace pyrcnn::encode_boxes
