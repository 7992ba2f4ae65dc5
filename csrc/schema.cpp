// The signature of every native op. Defaults live in Python. Users do not call an op whose name starts with an
// underscore: the Python wrapper of another op does, for example for its backward pass.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(pyrcnn, m) {
  // boxes
  m.def(
      "decode_boxes(Tensor deltas, Tensor anchors, SymInt repeat, float[] weights, float clip, float[] size) -> "
      "Tensor");
  m.def(
      "_decode_boxes_backward(Tensor grad, Tensor deltas, Tensor anchors, SymInt repeat, float[] weights, float clip, "
      "bool need_anchors) -> (Tensor, Tensor)");
  m.def("encode_boxes(Tensor boxes, Tensor anchors, SymInt repeat, float[] weights) -> Tensor");
  m.def(
      "_encode_boxes_backward(Tensor grad, Tensor boxes, Tensor anchors, SymInt repeat, float[] weights, "
      "bool need_anchors) -> (Tensor, Tensor)");
  m.def(
      "grid_anchors(Tensor cell_anchors, SymInt height, SymInt width, float stride_y, float stride_x, float offset) "
      "-> Tensor");
  m.def("box_iou(Tensor boxes1, Tensor boxes2) -> Tensor");
  m.def(
      "_box_iou_backward(Tensor grad, Tensor boxes1, Tensor boxes2, bool need_first, bool need_second) -> "
      "(Tensor, Tensor)");
  m.def(
      "match_boxes(Tensor anchors, Tensor ground_truth, Tensor? counts, Tensor? crowd, float high, float low, "
      "bool allow_low_quality, float crowd_threshold) -> (Tensor, Tensor, Tensor)");
  m.def(
      "decode_anchors(Tensor[] deltas, Tensor[] cell_anchors, float[] strides, Tensor image_sizes, float[] weights, "
      "float clip, float offset) -> Tensor");
  // suppression
  m.def("nms(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor");
  m.def("batched_nms(Tensor boxes, Tensor scores, Tensor idxs, float iou_threshold) -> Tensor");
  m.def(
      "nms_padded(Tensor boxes, Tensor scores, float iou_threshold, SymInt max_output, Tensor? groups, "
      "float score_threshold, Tensor? valid) -> (Tensor, Tensor)");

  // the last stages of detectors
  m.def(
      "generate_proposals(Tensor[] objectness, Tensor[] deltas, Tensor[] cell_anchors, float[] strides, Tensor "
      "image_sizes, SymInt pre_nms_top_n, SymInt post_nms_top_n, float nms_threshold, float min_size, float[] weights, "
      "float clip, float offset) -> (Tensor, Tensor, Tensor)");

  m.def(
      "roi_detections(Tensor class_logits, Tensor box_deltas, Tensor proposals, Tensor counts, Tensor image_sizes, "
      "float score_threshold, float nms_threshold, SymInt max_detections, float[] weights, float clip, float min_size, "
      "bool background_first, SymInt max_per_class) -> (Tensor, Tensor, Tensor, Tensor)");

  // regions of interest
  m.def(
      "roi_align(Tensor[] features, Tensor rois, float[] scales, SymInt output_height, SymInt output_width, "
      "int sampling_ratio, bool aligned, float canonical_size, int canonical_level) -> Tensor");
  m.def(
      "_roi_align_backward(Tensor grad, Tensor rois, SymInt[] heights, SymInt[] widths, SymInt images, float[] scales, "
      "int sampling_ratio, bool aligned, float canonical_size, int canonical_level, bool channels_last, "
      "bool deterministic) -> Tensor[]");
  m.def(
      "_roi_align_rois_backward(Tensor grad, Tensor[] features, Tensor rois, float[] scales, int sampling_ratio, "
      "bool aligned, float canonical_size, int canonical_level) -> Tensor");
  m.def(
      "roi_pool(Tensor input, Tensor rois, float spatial_scale, SymInt output_height, SymInt output_width, "
      "int argmax_bits) -> (Tensor, Tensor)");
  m.def(
      "_roi_pool_backward(Tensor grad, Tensor argmax, Tensor rois, float spatial_scale, SymInt images, SymInt height, "
      "SymInt width, bool channels_last, bool deterministic) -> Tensor");

  // heat maps
  m.def(
      "heatmap_peaks(Tensor heatmap, SymInt k, int kernel, bool sigmoid, float tolerance, bool per_class) -> "
      "(Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "decode_centers(Tensor ys, Tensor xs, Tensor size, Tensor offset, float stride, bool clamp_size, bool clip) -> "
      "Tensor");
  m.def(
      "match_keypoints(Tensor ys, Tensor xs, Tensor heatmap, Tensor regression, Tensor offset, Tensor? boxes, "
      "float stride, Tensor? image_sizes, int candidates, int kernel, bool sigmoid, float tolerance, int ranking, "
      "float distance_offset, float[] spreads, float score_threshold, float box_scale, float max_distance, "
      "float unmatched_score) -> (Tensor, Tensor)");
  m.def(
      "draw_gaussians(Tensor centers, Tensor sigmas, Tensor classes, Tensor? weights, SymInt channels, SymInt height, "
      "SymInt width, bool channels_last) -> Tensor");

  // TensorFlow's crops
  m.def(
      "crop_and_resize(Tensor features, Tensor boxes, Tensor box_indices, SymInt rows, SymInt columns, "
      "float extrapolation) -> Tensor");
  m.def(
      "_crop_and_resize_backward(Tensor grad, Tensor boxes, Tensor box_indices, SymInt images, SymInt height, "
      "SymInt width, bool channels_last) -> Tensor");

  // images
  m.def(
      "preprocess(Tensor[] images, SymInt[] heights, SymInt[] widths, SymInt height, SymInt width, float[] mean, "
      "float[] std, float shift, float white, bool legacy, bool bgr, bool pad_normalized, ScalarType dtype, "
      "bool channels_last) -> Tensor");
  m.def("_resize_as_pillow(Tensor image, SymInt height, SymInt width) -> Tensor");

  // the first operator of exported programs
  m.def(
      "_accept_pixels(Tensor pixels, Tensor sizes, SymInt[] shape, SymInt multiple, ScalarType dtype, bool "
      "channels_last, str device, str isa) -> (Tensor, Tensor)");
  m.def(
      "_accept_images(Tensor images, SymInt[] shape, str resize, SymInt shorter, SymInt longer, SymInt multiple, "
      "float[] mean, float[] std, float shift, float white, bool bgr, ScalarType dtype, bool channels_last, "
      "str device, str isa) -> (Tensor, Tensor, Tensor)");

  // convolutions of optimized networks
  m.def("_winograd_conv2d(Tensor input, Tensor weight, Tensor? bias, Tensor? other, float low, float high) -> Tensor");
  m.def("_conv_chains(Tensor[] inputs, Tensor[] weights, SymInt[] chains, float[] limits) -> Tensor[]");
}
