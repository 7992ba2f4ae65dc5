// The Python module _C. Importing it registers the ops; it also tells what was built and what runs.
#include <pybind11/pybind11.h>

#include <cstdlib>
#include <string>

#include "common/cpu.h"

namespace pyrcnn {

namespace {

Isa best_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#if defined(PYRCNN_EMULATE_AVX512)
  const bool avx512 = avx2;
#else
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
  return avx512 ? Isa::kAvx512 : avx2 ? Isa::kAvx2 : Isa::kDefault;
#else
  return Isa::kDefault;
#endif
}

Isa choose_isa() {
  const Isa best = best_isa();
  const char* wanted = std::getenv("PYRCNN_CPU_CAPABILITY");
  if (wanted == nullptr || *wanted == '\0') return best;
  for (Isa isa : {Isa::kDefault, Isa::kAvx2, Isa::kAvx512})
    if (isa_name(isa) == std::string(wanted)) {
      check(isa <= best, "PYRCNN_CPU_CAPABILITY must be one that this machine has (up to ", isa_name(best), "), got ",
            wanted);
      return isa;
    }
  check(false, "PYRCNN_CPU_CAPABILITY must be default, avx2 or avx512, got ", wanted);
  return best;
}

pybind11::dict build_info() {
  pybind11::dict info;
  info["compiler"] = __VERSION__;
  info["cpu_kernels"] = PYRCNN_ISA_SUMMARY;
  info["cpu_best"] = isa_name(best_isa());
  info["cpu_capability"] = isa_name(cpu_isa());
  info["cuda"] = PYRCNN_CUDA_SUMMARY;
  return info;
}

}  // namespace

const char* isa_name(Isa isa) { return isa == Isa::kAvx512 ? "avx512" : isa == Isa::kAvx2 ? "avx2" : "default"; }

Isa cpu_isa() {
  static const Isa isa = choose_isa();
  return isa;
}

}  // namespace pyrcnn

PYBIND11_MODULE(_C, m) {
  m.doc() = "pyrcnn's native library: torch.ops.pyrcnn and what it was built with";
  m.def("build_info", &pyrcnn::build_info, "compilers, CUDA architectures and CPU capability");
  pyrcnn::cpu_isa();  // a bad PYRCNN_CPU_CAPABILITY is told at import, not at the first call
}
