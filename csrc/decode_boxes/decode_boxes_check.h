// The arguments of decode_boxes and of its gradient, checked once for both devices.
#pragma once
#include <tuple>

#include "common/pairing_check.h"
#include "decode_boxes.h"

namespace pyrcnn::decode_boxes {

// make() allocates the result: the shape of `deltas`, the dtype of `anchors`. run(kernel) loops over the rows on one
// device.
template <typename Make, typename Run>
Tensor forward(const Tensor& deltas, const Tensor& anchors, int64_t repeat, Weights weights, double clip, Weights size,
               const Make& make, Run&& run) {
  const Pairing pairing = check_pairing("deltas", deltas, anchors, repeat, weights);
  check(size.size() == 0 || size.size() == 2, "size must be (height, width), got ", size.size(), " numbers");
  Tensor boxes = make();
  const bool clipped = size.size() == 2;
  const Tensor d = as_contiguous(deltas), a = as_contiguous(anchors);
  dispatch_pairing(deltas, "deltas", anchors, [&](auto type, auto anchor_type) {
    using T = typename decltype(type)::type;
    using TA = typename decltype(anchor_type)::type;
    using C = compute_t<TA>;
    run(Kernel<T, TA>{data<T>(d),
                      data<TA>(a),
                      mutable_data<TA>(boxes),
                      {C(weights[0]), C(weights[1]), C(weights[2]), C(weights[3])},
                      C(clip),
                      clipped,
                      C(clipped ? size[0] : 0),
                      C(clipped ? size[1] : 0),
                      pairing});
  });
  return boxes;
}

// run(kernel) loops over the anchors on one device.
template <typename Run>
std::tuple<Tensor, Tensor> backward(const Tensor& grad, const Tensor& deltas, const Tensor& anchors, int64_t repeat,
                                    Weights weights, double clip, bool need_anchors, Run&& run) {
  const Pairing pairing = check_pairing("deltas", deltas, anchors, repeat, weights);
  check(grad.sizes().equals(deltas.sizes()), "grad must be ", shape(deltas), ", got ", shape(grad));
  check(grad.scalar_type() == anchors.scalar_type(), "grad must have the dtype of anchors, ", dtype(anchors), ", got ",
        dtype(grad));
  check_tensors("deltas", deltas, "grad", grad);
  const Tensor g = as_contiguous(grad), d = as_contiguous(deltas);
  const Tensor a = as_contiguous(anchors);
  Tensor to_deltas = new_result("deltas", deltas, deltas.sizes());
  Tensor to_anchors =
      need_anchors ? new_result("anchors", anchors, anchors.sizes()) : torch::stable::new_empty(anchors, {0});
  dispatch_pairing(deltas, "deltas", anchors, [&](auto type, auto anchor_type) {
    using T = typename decltype(type)::type;
    using TA = typename decltype(anchor_type)::type;
    using C = compute_t<TA>;
    run(Backward<T, TA>{data<TA>(g),
                        data<T>(d),
                        data<TA>(a),
                        mutable_data<T>(to_deltas),
                        need_anchors ? mutable_data<TA>(to_anchors) : nullptr,
                        {C(weights[0]), C(weights[1]), C(weights[2]), C(weights[3])},
                        C(clip),
                        pairing});
  });
  return {to_deltas, to_anchors};
}

}  // namespace pyrcnn::decode_boxes
