// Sizes are multiplied and results are allocated here, so that no product overflows, and a result that is too large is
// an error that names the argument which makes it so.
#pragma once
#include <initializer_list>

#include "tensor.h"

namespace pyrcnn {

using Extents = HeaderOnlyArrayRef<int64_t>;

// A result or argument must have fewer elements. Their bytes, and small multiples of their number, fit 64 bits.
constexpr int64_t kMostElements = int64_t(1) << 56;

// Prints sizes, as "[3, 4]".
struct Printed {
  Extents sizes;
};
inline std::ostream& operator<<(std::ostream& text, const Printed& printed) {
  const char* separator = "[";
  for (int64_t size : printed.sizes) text << separator << size, separator = ", ";
  return text << (printed.sizes.empty() ? "[]" : "]");
}

// Do sizes have fewer than kMostElements elements? A size of 0 counts as 1, so that no part of the product overflows.
inline bool can_multiply(Extents sizes) {
  int64_t product = 1;
  for (const int64_t size : sizes)
    if (size < 0 || __builtin_mul_overflow(product, size > 1 ? size : 1, &product) || product >= kMostElements)
      return false;
  return true;
}

// The product of `sizes`. `name` is the argument that an error names.
inline int64_t checked_product(const char* name, std::initializer_list<int64_t> sizes) {
  check(can_multiply(sizes), name, " must give sizes of at least 0 whose product is below 2^56, got ", Printed{sizes});
  int64_t product = 1;
  for (const int64_t size : sizes) product *= size;
  return product;
}

// Checks an argument by itself. Even one without elements may have sizes whose product overflows.
inline void check_sizes(const char* name, const Tensor& t) {
  check(t.defined(), name, " must be a tensor, got None");
  check(can_multiply(t.sizes()), name, " must have fewer than 2^56 elements, got ", shape(t));
}

// Checks the sizes of the tensors of a call, and that they are on the device of the first one. Names and tensors
// alternate. A tensor may be optional, or a list.
inline void check_beside(const char* first_name, const Tensor& first, const char* name, const Tensor& t) {
  check_sizes(name, t);
  check_same_device(name, t, first_name, first);
}
inline void check_beside(const char* first_name, const Tensor& first, const char* name,
                         const std::optional<Tensor>& t) {
  if (t) check_beside(first_name, first, name, *t);
}
inline void check_beside(const char* first_name, const Tensor& first, const char* name,
                         const std::vector<Tensor>& tensors) {
  for (const Tensor& t : tensors) check_beside(first_name, first, name, t);
}
inline void check_all_beside(const char*, const Tensor&) {}
template <typename T, typename... Rest>
void check_all_beside(const char* first_name, const Tensor& first, const char* name, const T& t, const Rest&... rest) {
  check_beside(first_name, first, name, t);
  check_all_beside(first_name, first, rest...);
}
template <typename... Rest> void check_tensors(const char* name, const Tensor& t, const Rest&... rest) {
  check_sizes(name, t);
  check_all_beside(name, t, rest...);
}

// Returns make(), which allocates a result of `sizes`. If there is no memory, torch and the C++ library do not say for
// what; this does. `name` is the argument that determines the size.
template <typename Make> Tensor allocated(const char* name, Extents sizes, const Make& make) {
  check(can_multiply(sizes), name, " must give a result of fewer than 2^56 elements, got ", Printed{sizes});
  try {
    return make();
  } catch (const std::exception&) {
    check(false, name, " must give a result that fits into memory, got ", Printed{sizes}, " (out of memory)");
    throw;
  }
}

// An uninitialized result on the device of `like`.
inline Tensor new_result(const char* name, const Tensor& like, Extents sizes,
                         std::optional<ScalarType> dtype = std::nullopt) {
  return allocated(name, sizes, [&] { return torch::stable::new_empty(like, sizes, dtype); });
}
inline Tensor new_result(const char* name, const Tensor& like, std::initializer_list<int64_t> sizes,
                         std::optional<ScalarType> dtype = std::nullopt) {
  return new_result(name, like, Extents(sizes.begin(), sizes.size()), dtype);
}

// The same for [n, c, h, w] in either memory format.
inline Tensor new_4d(const char* name, const Tensor& like, int64_t n, int64_t c, int64_t h, int64_t w,
                     bool channels_last, std::optional<ScalarType> dtype = std::nullopt) {
  if (!channels_last) return new_result(name, like, {n, c, h, w}, dtype);
  const Tensor nhwc = new_result(name, like, {n, h, w, c}, dtype);
  return torch::stable::transpose(torch::stable::transpose(nhwc, 1, 3), 2, 3);  // [n, c, w, h] -> [n, c, h, w]
}

}  // namespace pyrcnn
