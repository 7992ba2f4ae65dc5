// What every operator needs from torch: checks that become ValueError, a switch over dtypes, and memory layouts.
#pragma once
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "common/math/hd.h"
#include "common/math/numbers.h"

namespace pyrcnn {

using torch::headeronly::HeaderOnlyArrayRef;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// check(ok, "rois must be [K, 5], got ", shape(rois)) throws the message, which starts with the argument's name, unless
// `ok`. kBadArgument at its end tells Python that an argument is bad, because the type of the exception that arrives
// there depends on torch's version.
constexpr const char* kBadArgument = "\n[pyrcnn: bad argument]";
template <typename... Parts> void check(bool ok, const Parts&... parts) {
  if (ok) return;
  std::ostringstream text;
  (text << ... << parts) << kBadArgument;
  throw std::invalid_argument(text.str());
}

// Registers a function as TORCH_BOX does. Without memory for a workspace it fails with a readable text.
template <auto boxed> void with_readable_errors(StableIValue* stack, uint64_t arguments, uint64_t results) {
  try {
    boxed(stack, arguments, results);
  } catch (const std::bad_alloc&) { throw std::runtime_error("out of memory for a workspace"); }
}
#define PYRCNN_BOX(function) &pyrcnn::with_readable_errors<&TORCH_BOX(function)>

// Prints a tensor's shape, as "[3, 4]". It is printed only if a check fails, because a stream takes longer than a small
// operator.
struct Shape {
  const Tensor& of;
};
inline Shape shape(const Tensor& t) { return {t}; }
inline std::ostream& operator<<(std::ostream& text, const Shape& shape) {
  const char* separator = "[";
  for (int64_t size : shape.of.sizes()) text << separator << size, separator = ", ";
  return text << (shape.of.dim() ? "]" : "[]");
}

inline const char* dtype(const Tensor& t) { return torch::headeronly::toString(t.scalar_type()); }

// Prints a tensor's device, as "cuda:0".
struct Device {
  const Tensor& of;
};
inline Device device(const Tensor& t) { return {t}; }
inline std::ostream& operator<<(std::ostream& text, const Device& device) {
  if (device.of.is_cpu()) return text << "cpu";
  return text << (device.of.is_cuda() ? "cuda:" : "device ") << device.of.get_device_index();
}

// Returns make(), which copies `t`. An expanded tensor may be larger than the memory.
template <typename Make> Tensor copied(const Tensor& t, const Make& make) {
  try {
    return make();
  } catch (const std::exception&) {
    std::ostringstream text;
    text << "out of memory for a dense copy of a tensor " << shape(t);
    throw std::runtime_error(text.str());
  }
}

// `t` itself if it is contiguous. This spares the dispatcher's look-up of the operator by its name.
inline Tensor as_contiguous(const Tensor& t) {
  return t.is_contiguous() ? t : copied(t, [&] { return torch::stable::contiguous(t); });
}
inline Tensor as_channels_last(const Tensor& t) {
  return copied(t, [&] { return torch::stable::contiguous(t, torch::headeronly::MemoryFormat::ChannelsLast); });
}
inline Tensor as_type(const Tensor& t, ScalarType type) {
  return t.scalar_type() == type ? t : copied(t, [&] { return torch::stable::to(t, type); });
}

inline void check_same_device(const char* name, const Tensor& t, const char* other_name, const Tensor& other) {
  check(t.is_cuda() == other.is_cuda() && t.get_device_index() == other.get_device_index(), name,
        " must be on the device of ", other_name, ", ", device(other), ", got ", device(t));
}

// Calls f(Type<T>{}) with T the storage type of `t`: float, double, Half or BFloat16.
template <typename T> struct Type {
  using type = T;
};
template <typename F> decltype(auto) dispatch_floating(const Tensor& t, const char* name, F&& f) {
  switch (t.scalar_type()) {
    case ScalarType::Float: return f(Type<float>{});
    case ScalarType::Double: return f(Type<double>{});
    case ScalarType::Half: return f(Type<Half>{});
    case ScalarType::BFloat16: return f(Type<BFloat16>{});
    default: break;
  }
  check(false, name, " must be float32, float64, float16 or bfloat16, got ",
        torch::headeronly::toString(t.scalar_type()));
  throw std::logic_error("unreachable");
}

// torch has no pointers to Half and BFloat16 of hd.h, hence the void*.
template <typename T> const T* data(const Tensor& t) { return static_cast<const T*>(t.const_data_ptr()); }
template <typename T> T* mutable_data(const Tensor& t) { return static_cast<T*>(t.mutable_data_ptr()); }

// A contiguous tensor of numbers, for kernels that read any dtype. The caller keeps `t` alive while they run.
inline Numbers numbers(const Tensor& t, const char* name) {
  const auto as = [&](NumberKind kind) { return Numbers{t.const_data_ptr(), kind}; };
  switch (t.scalar_type()) {
    case ScalarType::Float: return as(NumberKind::kFloat);
    case ScalarType::Double: return as(NumberKind::kDouble);
    case ScalarType::Half: return as(NumberKind::kHalf);
    case ScalarType::BFloat16: return as(NumberKind::kBFloat16);
    case ScalarType::Int: return as(NumberKind::kInt);
    case ScalarType::Long: return as(NumberKind::kLong);
    default: break;
  }
  check(false, name, " must be floating, int32 or int64, got ", torch::headeronly::toString(t.scalar_type()));
  throw std::logic_error("unreachable");
}

// Is [N, C, H, W] stored as NHWC? Tensors that are both (C = 1, or H = W = 1) count as NCHW.
inline bool is_channels_last(const Tensor& t) {
  if (t.dim() != 4 || t.is_contiguous()) return false;
  const int64_t c = t.size(1), h = t.size(2), w = t.size(3);
  const auto matches = [&](int64_t dim, int64_t stride) { return t.size(dim) == 1 || t.stride(dim) == stride; };
  return t.numel() > 0 && matches(1, 1) && matches(3, c) && matches(2, w * c) && matches(0, h * w * c);
}
// `t` itself if it is NCHW- or NHWC-contiguous, else an NCHW copy.
inline Tensor dense(const Tensor& t) { return is_channels_last(t) ? t : as_contiguous(t); }

// [N, H, W, C], contiguous; for channels_last the same memory.
inline Tensor nhwc(const Tensor& t) {
  return as_contiguous(torch::stable::transpose(torch::stable::transpose(t, 1, 2), 2, 3));
}

}  // namespace pyrcnn
