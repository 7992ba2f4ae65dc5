// The CPU kernels that the Python module _C calls itself, without torch's dispatcher: libpyrcnn exports them to it.
#pragma once
#include "common/tensor.h"

#define PYRCNN_EXPORTED __attribute__((visibility("default")))

namespace pyrcnn::nms {
PYRCNN_EXPORTED Tensor nms(const Tensor& boxes, const Tensor& scores, double iou_threshold);
PYRCNN_EXPORTED Tensor batched_nms(const Tensor& boxes, const Tensor& scores, const Tensor& idxs, double iou_threshold);
PYRCNN_EXPORTED std::tuple<Tensor, Tensor> nms_padded(const Tensor& boxes, const Tensor& scores, double iou_threshold,
                                                      int64_t max_output, const std::optional<Tensor>& groups,
                                                      double score_threshold, const std::optional<Tensor>& valid);
}  // namespace pyrcnn::nms

namespace pyrcnn::box_iou {
PYRCNN_EXPORTED Tensor cpu(const Tensor& boxes1, const Tensor& boxes2);
}

namespace pyrcnn::heatmap_peaks {
PYRCNN_EXPORTED std::tuple<Tensor, Tensor, Tensor, Tensor> cpu(const Tensor& heatmap, int64_t k, int64_t kernel,
                                                               bool sigmoid, double tolerance, bool per_class);
}

namespace pyrcnn::decode_centers {
PYRCNN_EXPORTED Tensor cpu(const Tensor& ys, const Tensor& xs, const Tensor& size, const Tensor& offset, double stride,
                           bool clamp_size, bool clip);
}

namespace pyrcnn::roi_detections {
PYRCNN_EXPORTED std::tuple<Tensor, Tensor, Tensor, Tensor> cpu(
    const Tensor& class_logits, const Tensor& box_deltas, const Tensor& proposals, const Tensor& counts,
    const Tensor& image_sizes, double score_threshold, double nms_threshold, int64_t max_detections,
    HeaderOnlyArrayRef<double> weights, double clip, double min_size, bool background_first, int64_t max_per_class);
}
