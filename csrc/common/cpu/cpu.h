// Running a CPU kernel: which instruction set, and over how many threads.
#pragma once
#include <algorithm>
#include <atomic>

#include "memory.h"
#include "common/tensor.h"
#include "common/tile_kind.h"

namespace pyrcnn {

enum class Isa { kDefault, kAvx2, kAvx512 };

// The best instruction set of this machine, or what PYRCNN_CPU_CAPABILITY=default|avx2|avx512 asks for; read once.
Isa cpu_isa();
const char* isa_name(Isa isa);

// What multiplies bfloat16 in tiles here: the best that the machine has and the system permits, plain loops where
// PYRCNN_CPU_CAPABILITY asks for one of the instruction sets above. Asked once.
TileKind cpu_tiles();

// PYRCNN_DECLARE_KERNEL(ret, name, (arguments)) declares, inside a namespace, what csrc/<op>/<op>_kernel.cpp defines in
// namespace PYRCNN_ISA; PYRCNN_KERNEL(name) is the function to call on this machine, PYRCNN_KERNEL_OF(op, name) that of
// another op.
#if defined(__x86_64__)
#define PYRCNN_DECLARE_KERNEL(ret, name, arguments) \
  namespace isa_default {                           \
  ret name arguments;                               \
  }                                                 \
  namespace isa_avx2 {                              \
  ret name arguments;                               \
  }                                                 \
  namespace isa_avx512 {                            \
  ret name arguments;                               \
  }
#define PYRCNN_KERNEL(...) (::pyrcnn::pick(&isa_default::__VA_ARGS__, &isa_avx2::__VA_ARGS__, &isa_avx512::__VA_ARGS__))
#define PYRCNN_KERNEL_OF(op, ...) \
  (::pyrcnn::pick(&op::isa_default::__VA_ARGS__, &op::isa_avx2::__VA_ARGS__, &op::isa_avx512::__VA_ARGS__))
#else
#define PYRCNN_DECLARE_KERNEL(ret, name, arguments) \
  namespace isa_default {                           \
  ret name arguments;                               \
  }
#define PYRCNN_KERNEL(...) (&isa_default::__VA_ARGS__)
#define PYRCNN_KERNEL_OF(op, ...) (&op::isa_default::__VA_ARGS__)
#endif

template <typename F> F pick(F base, F avx2, F avx512) {
  switch (cpu_isa()) {
    case Isa::kAvx512: return avx512;
    case Isa::kAvx2: return avx2;
    default: return base;
  }
}

// An uninitialized result on the CPU, of the dtype of `like` unless said; a large one in kept memory (memory.h).
Tensor empty_result(const Tensor& like, int64_t n, int64_t c, int64_t h, int64_t w, bool channels_last,
                    std::optional<ScalarType> dtype = std::nullopt);
// ... of any shape.
Tensor empty_result(const Tensor& like, HeaderOnlyArrayRef<int64_t> sizes, ScalarType dtype);

constexpr double kWorthAThread = 20e3;  // nanoseconds

// body(i) for every i in [0, count), each when a thread comes for it: for steps of unequal length. `cost` is the
// estimated nanoseconds of all of them.
template <typename F> void parallel_tasks(int64_t count, double cost, const F& body) {
  std::atomic<int64_t> next{0};
  const auto work = [&](int64_t, int64_t) {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) body(i);
  };
  const int64_t threads = std::min<int64_t>(count, torch::stable::get_num_threads());
  if (threads < 2 || cost < 2 * kWorthAThread) work(0, 1);
  else torch::stable::parallel_for(0, threads, 1, work);
}

// body(begin, end) over parts of [0, count), in parallel once a thread has at least ~20 us of work; `cost` is the
// estimated nanoseconds of one step. Small work runs inline, without waking the pool. A thread comes for several parts,
// so that one whose core is busy with something else gets fewer.
template <typename F> void parallel(int64_t count, double cost, const F& body) {
  constexpr int64_t kPartsOfAThread = 4;
  if (count <= 0) return;
  const double all = double(count) * cost;
  const int64_t threads = torch::stable::get_num_threads();
  if (all < 2 * kWorthAThread || threads == 1) return body(int64_t{0}, count);
  const int64_t parts = std::min({count, int64_t(all / kWorthAThread), threads * kPartsOfAThread});
  parallel_tasks(parts, all, [&](int64_t i) { body(count * i / parts, count * (i + 1) / parts); });
}

}  // namespace pyrcnn
