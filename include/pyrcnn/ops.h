// pyrcnn's operators for C++ programs, with ATen's tensors. Link with pyrcnn::pyrcnn (find_package(pyrcnn)), or load
// libpyrcnn.so (on CUDA also libpyrcnn_cuda.so) with dlopen before the first call.
//
// Arguments, results and defaults are those of the functions of the same names in Python's pyrcnn.ops, whose
// documentation holds. Bad arguments throw c10::Error or std::exception, with the argument's name in the message.
//
// The operators' gradients are defined in Python. So a tensor that needs a gradient is refused while gradients are
// recorded: call detach(), or use at::NoGradGuard or c10::InferenceMode. A program that calls the dispatcher itself
// gets torch's warning in backward() instead.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <tuple>

namespace pyrcnn {
namespace detail {

inline bool needs_gradient(const at::Tensor& t) { return t.defined() && t.requires_grad(); }
inline bool needs_gradient(const std::optional<at::Tensor>& t) { return t && needs_gradient(*t); }
inline bool needs_gradient(at::TensorList list) {
  for (const at::Tensor& t : list)
    if (needs_gradient(t)) return true;
  return false;
}
template <typename T> bool needs_gradient(const T&) { return false; }

// The operator of this name, looked up once per Signature and Name.
template <typename Signature, typename Name> const c10::TypedOperatorHandle<Signature>& find() {
  static const auto handle =
      c10::Dispatcher::singleton().findSchemaOrThrow(Name::text(), "").template typed<Signature>();
  return handle;
}

template <typename Name, typename Result, typename... Arguments> Result call(Arguments... arguments) {
  TORCH_CHECK(!at::GradMode::is_enabled() || !(needs_gradient(arguments) || ...), Name::text(),
              " has no gradient in C++, but an argument needs one: call detach(), or use at::NoGradGuard");
  return find<Result(Arguments...), Name>().call(arguments...);
}

}  // namespace detail

using Tensor = at::Tensor;

#define PYRCNN_NAME(name)                                            \
  struct Name {                                                      \
    static constexpr const char* text() { return "pyrcnn::" #name; } \
  }

// boxes [K, 4], scores [K] -> indices [D] int64 of the boxes that remain, by descending score.
inline Tensor nms(const Tensor& boxes, const Tensor& scores, double iou_threshold) {
  PYRCNN_NAME(nms);
  return detail::call<Name, Tensor, const Tensor&, const Tensor&, double>(boxes, scores, iou_threshold);
}

// As nms, within each category. idxs [K] int64.
inline Tensor batched_nms(const Tensor& boxes, const Tensor& scores, const Tensor& idxs, double iou_threshold) {
  PYRCNN_NAME(batched_nms);
  return detail::call<Name, Tensor, const Tensor&, const Tensor&, const Tensor&, double>(boxes, scores, idxs,
                                                                                         iou_threshold);
}

// boxes [N, K, 4], scores [N, K] -> indices [N, max_output] int64, padded with -1, and counts [N] int64.
inline std::tuple<Tensor, Tensor> nms_padded(const Tensor& boxes, const Tensor& scores, double iou_threshold,
                                             int64_t max_output, const std::optional<Tensor>& groups = std::nullopt,
                                             double score_threshold = -std::numeric_limits<double>::infinity(),
                                             const std::optional<Tensor>& valid = std::nullopt) {
  PYRCNN_NAME(nms_padded);
  return detail::call<Name, std::tuple<Tensor, Tensor>, const Tensor&, const Tensor&, double, c10::SymInt,
                      const std::optional<Tensor>&, double, const std::optional<Tensor>&>(
      boxes, scores, iou_threshold, max_output, groups, score_threshold, valid);
}

// boxes1 [..., K1, 4], boxes2 [..., K2, 4] -> [..., K1, K2].
inline Tensor box_iou(const Tensor& boxes1, const Tensor& boxes2) {
  PYRCNN_NAME(box_iou);
  return detail::call<Name, Tensor, const Tensor&, const Tensor&>(boxes1, boxes2);
}

// features: [N, C, H, W] of each level; rois [K, 5] image index, x1, y1, x2, y2 -> [K, C, output_height, output_width].
inline Tensor roi_align_levels(at::TensorList features, const Tensor& rois, int64_t output_height, int64_t output_width,
                               at::ArrayRef<double> scales, int64_t sampling_ratio = 2, bool aligned = false,
                               double canonical_size = 224, int64_t canonical_level = 4) {
  PYRCNN_NAME(roi_align);
  return detail::call<Name, Tensor, at::TensorList, const Tensor&, at::ArrayRef<double>, c10::SymInt, c10::SymInt,
                      int64_t, bool, double, int64_t>(features, rois, scales, output_height, output_width,
                                                      sampling_ratio, aligned, canonical_size, canonical_level);
}

// input [N, C, H, W], rois [K, 5] -> [K, C, output_height, output_width].
inline Tensor roi_align(const Tensor& input, const Tensor& rois, int64_t output_height, int64_t output_width,
                        double spatial_scale = 1, int64_t sampling_ratio = -1, bool aligned = false) {
  return roi_align_levels({input}, rois, output_height, output_width, {spatial_scale}, sampling_ratio, aligned);
}

// The values of roi_pool, without the positions of the maxima, which only a gradient needs.
inline Tensor roi_pool(const Tensor& input, const Tensor& rois, int64_t output_height, int64_t output_width,
                       double spatial_scale = 1) {
  PYRCNN_NAME(roi_pool);
  return std::get<0>(detail::call<Name, std::tuple<Tensor, Tensor>, const Tensor&, const Tensor&, double, c10::SymInt,
                                  c10::SymInt, int64_t>(input, rois, spatial_scale, output_height, output_width, 0));
}

// heatmap [N, C, H, W] -> scores, classes, ys, xs, each [N, k] ([N, C, k] with per_class).
inline std::tuple<Tensor, Tensor, Tensor, Tensor> heatmap_peaks(const Tensor& heatmap, int64_t k, int64_t kernel = 3,
                                                                bool sigmoid = true, double tolerance = 0,
                                                                bool per_class = false) {
  PYRCNN_NAME(heatmap_peaks);
  return detail::call<Name, std::tuple<Tensor, Tensor, Tensor, Tensor>, const Tensor&, c10::SymInt, int64_t, bool,
                      double, bool>(heatmap, k, kernel, sigmoid, tolerance, per_class);
}

// Cells ys, xs [N, k] and maps [N, 2, H, W] -> boxes [N, k, 4].
inline Tensor decode_centers(const Tensor& ys, const Tensor& xs, const Tensor& size, const Tensor& offset,
                             double stride, bool clamp_size = true, bool clip = true) {
  PYRCNN_NAME(decode_centers);
  return detail::call<Name, Tensor, const Tensor&, const Tensor&, const Tensor&, const Tensor&, double, bool, bool>(
      ys, xs, size, offset, stride, clamp_size, clip);
}

#undef PYRCNN_NAME

}  // namespace pyrcnn
