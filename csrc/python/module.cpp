// The Python module _C: operators on NumPy arrays. It needs libtorch_cpu.so in the process, and nothing of torch's
// Python package. pyrcnn/numpy.py holds the public functions.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "kernels.h"

namespace py = pybind11;

namespace pyrcnn {
namespace {

ScalarType type_of(const char* name, const py::dtype& dtype) {
  const auto item = dtype.itemsize();
  const bool native = dtype.byteorder() == '=' || dtype.byteorder() == '|';
  if (native && dtype.kind() == 'f' && item == 4) return ScalarType::Float;
  if (native && dtype.kind() == 'f' && item == 8) return ScalarType::Double;
  if (native && dtype.kind() == 'f' && item == 2) return ScalarType::Half;
  if (native && dtype.kind() == 'i' && item == 8) return ScalarType::Long;
  if (native && dtype.kind() == 'i' && item == 4) return ScalarType::Int;
  const std::string text = py::str(dtype);
  if (text == "bfloat16") return ScalarType::BFloat16;  // of the package ml_dtypes
  check(false, name, " must be an array of float32, float64, float16, bfloat16, int64 or int32, got ", text);
  throw std::logic_error("unreachable");
}

// An array, and a tensor over its memory; over a copy if a tensor cannot have the array's strides. Operators do not
// keep or write to their arguments.
class Argument {
 public:
  Argument(const char* name, const py::array& given) : array_(given) {
    const ScalarType type = type_of(name, array_.dtype());
    const py::ssize_t item = array_.itemsize();
    const auto as_tensors = [&](py::ssize_t stride) { return stride >= 0 && stride % item == 0; };
    const bool aligned = reinterpret_cast<uintptr_t>(array_.data()) % size_t(item) == 0;
    if (!aligned || !std::all_of(array_.strides(), array_.strides() + array_.ndim(), as_tensors))
      array_ = array_.attr("copy")("C");
    std::vector<int64_t> sizes, strides;
    for (py::ssize_t d = 0; d < array_.ndim(); ++d) {
      sizes.push_back(array_.shape(d));
      strides.push_back(array_.strides(d) / item);
    }
    const torch::stable::Device cpu(torch::headeronly::DeviceType::CPU);
    tensor_ = torch::stable::from_blob(const_cast<void*>(array_.data()), sizes, strides, cpu, type);
  }
  operator const Tensor&() const { return tensor_; }

 private:
  py::array array_;
  Tensor tensor_;
};

// An array over the tensor's memory, which it keeps.
py::array result(const Tensor& t) {
  const char* type = t.scalar_type() == ScalarType::Long     ? "int64"
                     : t.scalar_type() == ScalarType::Double ? "float64"
                                                             : "float32";
  std::vector<py::ssize_t> sizes, strides;
  const py::dtype dtype(type);
  for (int64_t d = 0; d < t.dim(); ++d) {
    sizes.push_back(t.size(d));
    strides.push_back(t.stride(d) * dtype.itemsize());
  }
  const py::capsule owner(new Tensor(t), [](void* kept) { delete static_cast<Tensor*>(kept); });
  return py::array(dtype, sizes, strides, t.const_data_ptr(), owner);
}
template <typename... Tensors> py::tuple result(const std::tuple<Tensors...>& all) {
  return std::apply([](const auto&... t) { return py::make_tuple(result(t)...); }, all);
}

// Calls a kernel while other Python threads run.
template <typename F> auto run(const F& kernel) {
  const auto found = [&] {
    const py::gil_scoped_release others;
    return kernel();
  }();
  return result(found);
}

auto nms_of(const py::array& boxes, const py::array& scores, double iou_threshold) {
  const Argument b("boxes", boxes), s("scores", scores);
  return run([&] { return nms::nms(b, s, iou_threshold); });
}

auto batched_nms_of(const py::array& boxes, const py::array& scores, const py::array& idxs, double iou_threshold) {
  const Argument b("boxes", boxes), s("scores", scores), i("idxs", idxs);
  return run([&] { return nms::batched_nms(b, s, i, iou_threshold); });
}

auto nms_padded_of(const py::array& boxes, const py::array& scores, double iou_threshold, int64_t max_output,
                   const std::optional<py::array>& groups, double score_threshold,
                   const std::optional<py::array>& valid) {
  const Argument b("boxes", boxes), s("scores", scores);
  std::optional<Tensor> g, v;
  std::optional<Argument> group_array, valid_array;
  if (groups) g = group_array.emplace("groups", *groups);
  if (valid) v = valid_array.emplace("valid", *valid);
  return run([&] { return nms::nms_padded(b, s, iou_threshold, max_output, g, score_threshold, v); });
}

auto box_iou_of(const py::array& boxes1, const py::array& boxes2) {
  const Argument first("boxes1", boxes1), second("boxes2", boxes2);
  return run([&] { return box_iou::cpu(first, second); });
}

auto heatmap_peaks_of(const py::array& heatmap, int64_t k, int64_t kernel, bool sigmoid, double tolerance,
                      bool per_class) {
  const Argument map("heatmap", heatmap);
  return run([&] { return heatmap_peaks::cpu(map, k, kernel, sigmoid, tolerance, per_class); });
}

auto decode_centers_of(const py::array& ys, const py::array& xs, const py::array& size, const py::array& offset,
                       double stride, bool clamp_size, bool clip) {
  const Argument y("ys", ys), x("xs", xs), s("size", size), o("offset", offset);
  return run([&] { return decode_centers::cpu(y, x, s, o, stride, clamp_size, clip); });
}

auto roi_detections_of(const py::array& class_logits, const py::array& box_deltas, const py::array& proposals,
                       const py::array& counts, const py::array& image_sizes, double score_threshold,
                       double nms_threshold, int64_t max_detections, const std::vector<double>& weights, double clip,
                       double min_size, bool background_first, int64_t max_per_class) {
  const Argument c("class_logits", class_logits), d("box_deltas", box_deltas), p("proposals", proposals),
      n("counts", counts), sizes("image_sizes", image_sizes);
  return run([&] {
    return roi_detections::cpu(c, d, p, n, sizes, score_threshold, nms_threshold, max_detections, weights, clip,
                               min_size, background_first, max_per_class);
  });
}

}  // namespace
}  // namespace pyrcnn

PYBIND11_MODULE(_C, m, py::mod_gil_not_used()) {
  m.doc() = "pyrcnn's operators on NumPy arrays; use pyrcnn.numpy";
  m.def("nms", &pyrcnn::nms_of);
  m.def("batched_nms", &pyrcnn::batched_nms_of);
  m.def("nms_padded", &pyrcnn::nms_padded_of);
  m.def("box_iou", &pyrcnn::box_iou_of);
  m.def("heatmap_peaks", &pyrcnn::heatmap_peaks_of);
  m.def("decode_centers", &pyrcnn::decode_centers_of);
  m.def("roi_detections", &pyrcnn::roi_detections_of);
}
