// torchvision's operators on our kernels: a library of its own, libpyrcnn_torchvision.so, which needs the library that
// defines torch.ops.pyrcnn. Loading it defines every operator of torchvision, letter for letter, because TorchScript
// files, exported programs and torchvision's own Python code look them up by name. It must not be loaded beside
// torchvision's own library, which defines the same names: torch ends the process at a second definition.
//
// PYRCNN_TORCHVISION_OVERRIDE=cpu or cpu,cuda, read when the library is loaded: define nothing, and replace the kernels
// of torchvision's library, which must be loaded before.
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string_view>
#include <tuple>

#include "common/tensor.h"

extern "C" __attribute__((weak)) const char* torch_exception_get_what_without_backtrace();  // torch 2.13 and later

namespace pyrcnn::torchvision {
namespace {

// Throws the message unless `ok`. The texts are torchvision's, which callers match. They become RuntimeError.
template <typename... Parts> void expect(bool ok, const Parts&... parts) {
  if (ok) return;
  std::ostringstream text;
  (text << ... << parts);
  throw std::runtime_error(text.str());
}

// Why the last call of an operator failed, without the mark for our own Python wrappers.
std::string reason() {
  if (!torch_exception_get_what_without_backtrace) return " failed; torch has printed the reason to stderr";
  const std::string text = torch_exception_get_what_without_backtrace();
  return ": " + text.substr(0, text.find(kBadArgument));
}

// Calls the operator of torch.ops.pyrcnn on the device of its tensors; returns its results.
template <size_t results = 1, typename... Arguments> auto call(const char* name, const Arguments&... arguments) {
  static_assert(results <= sizeof...(Arguments));
  std::array<StableIValue, sizeof...(Arguments)> stack{torch::stable::detail::from(arguments)...};
  if (torch_call_dispatcher(name, "", stack.data(), TORCH_ABI_VERSION) != 0) throw std::runtime_error(name + reason());
  return stack;
}

// A result of call(), in torchvision's memory format: its fake kernels promise NCHW, and torch.compile relies on it.
Tensor contiguous(StableIValue result) { return as_contiguous(torch::stable::detail::to<Tensor>(result)); }

struct TypeOf {
  const Tensor& of;
};
std::ostream& operator<<(std::ostream& text, const TypeOf& type) {  // as "torch.cuda.FloatTensor"
  return text << "torch." << (type.of.is_cuda() ? "cuda." : "") << dtype(type.of) << "Tensor";
}

void check_floating(const Tensor& t, const char* kernel) {
  const ScalarType type = t.scalar_type();
  expect(type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::Half ||
             type == ScalarType::BFloat16,
         '"', kernel, "\" not implemented for '", dtype(t), "'");
}

void check_regions(const char* name, const Tensor& t, const Tensor& rois, const char* kernel) {
  expect(rois.dim() == 2 && rois.size(1) == 5, "rois must have shape as Tensor[K, 5]");
  expect(t.dim() == 4, name, " must have shape as Tensor[N, C, H, W], got ", shape(t));
  expect(t.is_cuda() == rois.is_cuda() && t.get_device_index() == rois.get_device_index(),
         "Expected tensor for argument #1 '", name, "' to have the same device as tensor for argument #2 'rois'; but ",
         device(t), " does not equal ", device(rois), " (while checking arguments for ", kernel, ")");
  expect(t.scalar_type() == rois.scalar_type(), "Expected tensor for argument #1 '", name,
         "' to have the same type as tensor for argument #2 'rois'; but type ", TypeOf{t}, " does not equal ",
         TypeOf{rois}, " (while checking arguments for ", kernel, ")");
  check_floating(t, kernel);
}

// torchvision's CPU kernel compares a float32 IoU with the threshold in double precision. pyrcnn::nms rounds the
// threshold to float32 first. Rounded down, it gives the same answer, also for an IoU that is exactly the nearest
// float32.
double as_float_below(double threshold) {
  const float nearest = float(threshold);
  return nearest > threshold ? std::nextafter(nearest, -std::numeric_limits<float>::infinity()) : nearest;
}

Tensor nms(const Tensor& dets, const Tensor& scores, double iou_threshold) {
  expect(dets.dim() == 2, "boxes should be a 2d tensor, got ", dets.dim(), "D");
  expect(dets.size(1) == 4, "boxes should have 4 elements in dimension 1, got ", dets.size(1));
  expect(scores.dim() == 1, "scores should be a 1d tensor, got ", scores.dim(), "D");
  expect(dets.size(0) == scores.size(0), "boxes and scores should have same number of elements in dimension 0, got ",
         dets.size(0), " and ", scores.size(0));
  expect(dets.is_cuda() == scores.is_cuda() && dets.get_device_index() == scores.get_device_index(),
         "dets and scores should be on the same device, got ", device(dets), " and ", device(scores));
  expect(dets.scalar_type() == scores.scalar_type(), "dets should have the same type as scores");
  check_floating(dets, "nms_kernel");
  if (!dets.is_cuda() && dets.scalar_type() == ScalarType::Float) iou_threshold = as_float_below(iou_threshold);
  return torch::stable::detail::to<Tensor>(call("pyrcnn::nms", dets, scores, iou_threshold)[0]);
}

// One level of a pyramid: canonical_size and canonical_level, 224 and 4, have no effect.
Tensor roi_align(const Tensor& input, const Tensor& rois, double scale, int64_t height, int64_t width,
                 int64_t sampling_ratio, bool aligned) {
  check_regions("input", input, rois, "roi_align_forward_kernel");
  return contiguous(call("pyrcnn::roi_align", std::vector<Tensor>{input}, rois, std::vector<double>{scale}, height,
                         width, sampling_ratio, aligned, 224.0, int64_t(4))[0]);
}

Tensor roi_align_backward(const Tensor& grad, const Tensor& rois, double scale, int64_t /*pooled_height*/,
                          int64_t /*pooled_width*/, int64_t images, int64_t /*channels*/, int64_t height, int64_t width,
                          int64_t sampling_ratio, bool aligned) {
  check_regions("grad", grad, rois, "roi_align_backward_kernel");
  const std::vector<int64_t> heights{height}, widths{width};
  const auto grads = torch::stable::detail::to<std::vector<Tensor>>(
      call("pyrcnn::_roi_align_backward", grad, rois, heights, widths, images, std::vector<double>{scale},
           sampling_ratio, aligned, 224.0, int64_t(4), /*channels_last=*/false, /*deterministic=*/true)[0]);
  return grads[0];
}

std::tuple<Tensor, Tensor> roi_pool(const Tensor& input, const Tensor& rois, double scale, int64_t height,
                                    int64_t width) {
  check_regions("input", input, rois, "roi_pool_forward_kernel");
  const auto results = call<2>("pyrcnn::roi_pool", input, rois, scale, height, width, /*argmax_bits=*/int64_t(32));
  return {contiguous(results[0]), contiguous(results[1])};
}

Tensor roi_pool_backward(const Tensor& grad, const Tensor& rois, const Tensor& argmax, double scale,
                         int64_t /*pooled_height*/, int64_t /*pooled_width*/, int64_t images, int64_t /*channels*/,
                         int64_t height, int64_t width) {
  check_regions("grad", grad, rois, "roi_pool_backward_kernel");
  return contiguous(call("pyrcnn::_roi_pool_backward", grad, argmax, rois, scale, images, height, width,
                         /*channels_last=*/false, /*deterministic=*/true)[0]);
}

int64_t cuda_version() { return -1; }  // as a build without CUDA: torchvision compares it with torch's at its import

using Library = torch::stable::detail::StableLibrary;

void define(Library& m) {
  m.def("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor");
  m.def(
      "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
      "int sampling_ratio, bool aligned) -> Tensor");
  m.def(
      "_roi_align_backward(Tensor grad, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
      "SymInt batch_size, SymInt channels, SymInt height, SymInt width, int sampling_ratio, bool aligned) -> Tensor");
  m.def(
      "roi_pool(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width) -> "
      "(Tensor, Tensor)");
  m.def(
      "_roi_pool_backward(Tensor grad, Tensor rois, Tensor argmax, float spatial_scale, SymInt pooled_height, "
      "SymInt pooled_width, SymInt batch_size, SymInt channels, SymInt height, SymInt width) -> Tensor");
  m.def("_cuda_version() -> int _0");
  // Without kernels here: torchvision's Python code registers fake kernels and gradients for them.
  m.def(
      "ps_roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
      "int sampling_ratio) -> (Tensor, Tensor)");
  m.def(
      "_ps_roi_align_backward(Tensor grad, Tensor rois, Tensor channel_mapping, float spatial_scale, "
      "SymInt pooled_height, SymInt pooled_width, int sampling_ratio, SymInt batch_size, SymInt channels, "
      "SymInt height, SymInt width) -> Tensor");
  m.def(
      "ps_roi_pool(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width) -> "
      "(Tensor, Tensor)");
  m.def(
      "_ps_roi_pool_backward(Tensor grad, Tensor rois, Tensor channel_mapping, float spatial_scale, "
      "SymInt pooled_height, SymInt pooled_width, SymInt batch_size, SymInt channels, SymInt height, SymInt width) -> "
      "Tensor");
  m.def(
      "deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h, "
      "SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, SymInt groups, "
      "SymInt offset_groups, bool use_mask) -> Tensor");
  m.def(
      "_deform_conv2d_backward(Tensor grad, Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, "
      "SymInt stride_h, SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, "
      "SymInt groups, SymInt offset_groups, bool use_mask) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor");
  m.def(
      "qroi_align(Tensor input, Tensor rois, float input_scale, int input_zero_point, float rois_scale, "
      "int rois_zero_point, float spatial_scale, SymInt pooled_height, SymInt pooled_width, int sampling_ratio, "
      "bool aligned) -> Tensor");
  m.def("box_iou_rotated(Tensor boxes1, Tensor boxes2) -> Tensor");
}

// The device is that of the tensors, so CPU and CUDA share the functions. The gradients on CUDA are deterministic;
// pyrcnn/torchvision_ops.py replaces them by ones that ask torch whether they must be.
void implement(Library& m) {
  m.impl("nms", PYRCNN_BOX(&nms));
  m.impl("roi_align", PYRCNN_BOX(&roi_align));
  m.impl("_roi_align_backward", PYRCNN_BOX(&roi_align_backward));
  m.impl("roi_pool", PYRCNN_BOX(&roi_pool));
  m.impl("_roi_pool_backward", PYRCNN_BOX(&roi_pool_backward));
}

// Torch forgets what a Library registered when it is destroyed: these live as long as this library is loaded.
struct Registrations {
  std::optional<Library> definitions, version, cpu, cuda;

  Registrations() {
    const char* variable = std::getenv("PYRCNN_TORCHVISION_OVERRIDE");
    const std::string_view override = variable ? variable : "";
    if (override.empty()) {
      define(definitions.emplace(Library::Kind::FRAGMENT, "torchvision", nullptr, __FILE__, __LINE__));
      version.emplace(Library::Kind::IMPL, "torchvision", "CompositeExplicitAutograd", __FILE__, __LINE__);
      version->impl("_cuda_version", TORCH_BOX(&cuda_version));
    }
    implement(cpu.emplace(Library::Kind::IMPL, "torchvision", "CPU", __FILE__, __LINE__));
    if (override.empty() || override == "cpu,cuda")
      implement(cuda.emplace(Library::Kind::IMPL, "torchvision", "CUDA", __FILE__, __LINE__));
  }
};
const Registrations registrations;

}  // namespace
}  // namespace pyrcnn::torchvision
