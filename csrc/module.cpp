// The Python module _C. Importing it registers the ops; it also tells what was built and what runs.
#include <pybind11/pybind11.h>

#include <cstdlib>
#include <string>

#include "common/cpu.h"
#if defined(PYRCNN_AMX)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

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

// What PYRCNN_CPU_CAPABILITY asks for, or null.
const char* wanted_isa() {
  const char* wanted = std::getenv("PYRCNN_CPU_CAPABILITY");
  return wanted == nullptr || *wanted == '\0' ? nullptr : wanted;
}

Isa choose_isa() {
  const Isa best = best_isa();
  const char* wanted = wanted_isa();
  if (wanted == nullptr) return best;
  for (Isa isa : {Isa::kDefault, Isa::kAvx2, Isa::kAvx512})
    if (isa_name(isa) == std::string(wanted)) {
      check(isa <= best, "PYRCNN_CPU_CAPABILITY must be one that this machine has (up to ", isa_name(best), "), got ",
            wanted);
      return isa;
    }
  check(false, "PYRCNN_CPU_CAPABILITY must be default, avx2 or avx512, got ", wanted);
  return best;
}

// AMX with bfloat16, its registers saved by the system, and their use permitted: Linux grants that on request, once.
bool permitted_tiles() {
#if defined(PYRCNN_AMX)
  constexpr unsigned kBFloat16 = 1u << 22, kTiles = 1u << 24, kSavedBySystem = 1u << 27, kRegisters = 3u << 17;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // of arch_prctl
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & kSavedBySystem)) return false;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & (kBFloat16 | kTiles)) != (kBFloat16 | kTiles)) return false;
  unsigned saved, high;
  asm("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  return (saved & kRegisters) == kRegisters && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

pybind11::dict build_info() {
  pybind11::dict info;
  info["compiler"] = __VERSION__;
  info["cpu_kernels"] = PYRCNN_ISA_SUMMARY;
  info["cpu_best"] = isa_name(best_isa());
  info["cpu_capability"] = isa_name(cpu_isa());
  info["cpu_tiles"] = cpu_tiles();
  info["cuda"] = PYRCNN_CUDA_SUMMARY;
  return info;
}

}  // namespace

const char* isa_name(Isa isa) { return isa == Isa::kAvx512 ? "avx512" : isa == Isa::kAvx2 ? "avx2" : "default"; }

Isa cpu_isa() {
  static const Isa isa = choose_isa();
  return isa;
}

bool cpu_tiles() {
  static const bool tiles = wanted_isa() == nullptr && cpu_isa() == Isa::kAvx512 && permitted_tiles();
  return tiles;
}

}  // namespace pyrcnn

PYBIND11_MODULE(_C, m) {
  m.doc() = "pyrcnn's native library: torch.ops.pyrcnn and what it was built with";
  m.def("build_info", &pyrcnn::build_info, "compilers, CUDA architectures and CPU capability");
  pyrcnn::cpu_isa();  // a bad PYRCNN_CPU_CAPABILITY is told at import, not at the first call
}
