// Declaring and calling a function that is compiled once per instruction set. No torch.
#pragma once
#include "isa.h"

namespace pyrcnn {

// PYRCNN_DECLARE_KERNEL(ret, name, (arguments)) declares, inside a namespace, what csrc/<op>/<op>_kernel.cpp defines in
// namespace PYRCNN_ISA. PYRCNN_KERNEL(name) is the function to call on this machine, and PYRCNN_KERNEL_OF(op, name)
// that of another op.
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

}  // namespace pyrcnn
