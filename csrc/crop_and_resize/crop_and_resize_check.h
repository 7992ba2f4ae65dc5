// The arguments of crop_and_resize and its backward, checked once for both devices.
#pragma once
#include "common/allocate.h"
#include "crop_and_resize.h"

namespace pyrcnn::crop_and_resize {

inline void check_boxes(const Tensor& boxes, const Tensor& box_indices, const Tensor& like, const char* like_name) {
  check_tensors(like_name, like, "boxes", boxes, "box_indices", box_indices);
  check(boxes.dim() == 2 && boxes.size(1) == 4, "boxes must be [K, 4], got ", shape(boxes));
  const auto dtype = boxes.scalar_type();
  check(dtype == ScalarType::Float || dtype == like.scalar_type(), "boxes must be float32 or have the dtype of ",
        like_name, ", got ", torch::headeronly::toString(dtype));
  check(box_indices.dim() == 1 && box_indices.size(0) == boxes.size(0), "box_indices must be [", boxes.size(0),
        "], got ", shape(box_indices));
  check(box_indices.scalar_type() == ScalarType::Long, "box_indices must be int64, got ",
        torch::headeronly::toString(box_indices.scalar_type()));
}

inline void check_crops(const Tensor& features, const Tensor& boxes, const Tensor& box_indices, int64_t rows,
                        int64_t columns) {
  check(features.dim() == 4, "features must be [N, C, H, W], got ", shape(features));
  check_boxes(boxes, box_indices, features, "features");
  check(rows > 0 && columns > 0, "output_size must be positive, got (", rows, ", ", columns, ")");
}

// The gradient is summed in the compute type.
inline Tensor check_and_allocate_backward(const Tensor& grad, const Tensor& boxes, const Tensor& box_indices,
                                          int64_t images, int64_t height, int64_t width, bool channels_last) {
  check_boxes(boxes, box_indices, grad, "grad");
  check(grad.dim() == 4 && grad.size(0) == boxes.size(0), "grad must be [K, C, h, w], got ", shape(grad));
  const auto dtype = grad.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  return new_4d("height", grad, images, grad.size(1), height, width, channels_last, dtype);
}

inline Tensor in_layout(const Tensor& t, bool channels_last) {
  return channels_last ? as_channels_last(t) : as_contiguous(t);
}

template <typename T, typename B>
Crops<T, B> crops(const Tensor& features, const Tensor& crop, const Tensor& boxes, const Tensor& box_indices,
                  bool channels_last, double outside) {
  return {data<B>(boxes),       data<int64_t>(box_indices), boxes.size(0), features.size(0), features.size(1),
          features.size(2),     features.size(3),           crop.size(2),  crop.size(3),     channels_last,
          compute_t<T>(outside)};
}

// Calls f(Type<T>{}, Type<B>{}) with T the storage type of the maps and B that of the boxes.
template <typename F> void dispatch(const Tensor& maps, const char* name, const Tensor& boxes, F&& f) {
  dispatch_floating(maps, name, [&](auto type) {
    if (boxes.scalar_type() == ScalarType::Float) return f(type, Type<float>{});
    f(type, type);
  });
}

}  // namespace pyrcnn::crop_and_resize
