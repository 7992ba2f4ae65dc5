#include "accept_check.h"
#include "common/cuda/cuda.cuh"

namespace pyrcnn::accept {
namespace {

// Packages for CUDA are compiled for every processor, so the last argument, an instruction set, is not checked.
std::tuple<Tensor, Tensor> pixels_cuda(const Tensor& pixels, const Tensor& sizes, Integers shape, int64_t multiple,
                                       ScalarType dtype, bool channels_last, std::string device, std::string) {
  const OnDevice on(pixels);
  return accept_pixels(pixels, sizes, {shape, multiple, device}, dtype, channels_last);
}

std::tuple<Tensor, Tensor, Tensor> images_cuda(const Tensor& images, Integers shape, std::string resize,
                                               int64_t shorter, int64_t longer, int64_t multiple,
                                               HeaderOnlyArrayRef<double> mean, HeaderOnlyArrayRef<double> deviation,
                                               double shift, double white, bool bgr, ScalarType dtype,
                                               bool channels_last, std::string device, std::string) {
  const OnDevice on(images);
  return accept_images(images, {shape, 1, device}, {resize, shorter, longer, multiple},
                       {{}, {}, 0, 0, mean, deviation, shift, white, false, bgr, false, dtype, channels_last},
                       preprocess::on_cuda, resize_as_pillow::on_cuda,
                       [&](int64_t count, const Fill& fill) { each(on, count, fill); });
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) {
  m.impl("_accept_pixels", PYRCNN_BOX(&pixels_cuda));
  m.impl("_accept_images", PYRCNN_BOX(&images_cuda));
}
}  // namespace pyrcnn::accept
