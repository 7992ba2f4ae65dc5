#include "accept_check.h"
#include "common/cpu/isa_needed.h"

namespace pyrcnn::accept {
namespace {

// `isa` is the instruction set that the program was compiled for; empty: any.
void check_isa(const char* name, const std::string& isa) {
  const std::string problem = isa_problem(isa);
  check(problem.empty(), name, " ", problem);
}

std::tuple<Tensor, Tensor> pixels(const Tensor& pixels, const Tensor& sizes, Integers shape, int64_t multiple,
                                  ScalarType dtype, bool channels_last, std::string device, std::string isa) {
  check_isa("pixels", isa);
  return accept_pixels(pixels, sizes, {shape, multiple, device}, dtype, channels_last);
}

std::tuple<Tensor, Tensor, Tensor> images(const Tensor& images, Integers shape, std::string resize, int64_t shorter,
                                          int64_t longer, int64_t multiple, HeaderOnlyArrayRef<double> mean,
                                          HeaderOnlyArrayRef<double> deviation, double shift, double white, bool bgr,
                                          ScalarType dtype, bool channels_last, std::string device, std::string isa) {
  check_isa("images", isa);
  return accept_images(images, {shape, 1, device}, {resize, shorter, longer, multiple},
                       {{}, {}, 0, 0, mean, deviation, shift, white, false, bgr, false, dtype, channels_last},
                       preprocess::on_cpu, resize_as_pillow::on_cpu, [](int64_t count, const Fill& fill) {
                         for (int64_t i = 0; i < count; ++i) fill(i);
                       });
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) {
  m.impl("_accept_pixels", PYRCNN_BOX(&pixels));
  m.impl("_accept_images", PYRCNN_BOX(&images));
}
}  // namespace pyrcnn::accept
