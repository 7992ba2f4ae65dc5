// The Python module _C. Importing it registers the ops; it also tells what was built and what runs.
#include <pybind11/pybind11.h>

#include <array>
#include <cstdlib>
#include <string>

#include "common/cpu/cpu.h"
#if defined(PYRCNN_TILES)
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

#if defined(PYRCNN_TILES)
// The processor's word on a feature: registers a, b, c, d of a leaf of cpuid, zeros where there is none.
std::array<unsigned, 4> cpuid(unsigned leaf, unsigned part) {
  std::array<unsigned, 4> r{};
  __get_cpuid_count(leaf, part, &r[0], &r[1], &r[2], &r[3]);
  return r;
}
#endif

TileKind best_tiles() {
#if defined(PYRCNN_TILES)
  constexpr unsigned kPairs = 1u << 5, kAmx = 1u << 22 | 1u << 24;      // AVX512_BF16; AMX-BF16 and AMX-TILE
  constexpr unsigned kSavedBySystem = 1u << 27, kRegisters = 3u << 17;  // which of its registers the system saves
  constexpr long kRequestPermission = 0x1023, kTileData = 18;           // of arch_prctl: Linux grants it on request
  if (!(cpuid(7, 1)[0] & kPairs)) return TileKind::kPlain;              // AMX is not without it, and rounds by it
  if ((cpuid(7, 0)[3] & kAmx) == kAmx && cpuid(1, 0)[2] & kSavedBySystem) {
    unsigned saved, high;
    asm("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    const bool usable = (saved & kRegisters) == kRegisters;
    if (usable && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0) return TileKind::kAmx;
  }
  return TileKind::kPairs;
#else
  return TileKind::kPlain;
#endif
}

const char* tiles_name(TileKind tiles) {
  return tiles == TileKind::kAmx ? "amx" : tiles == TileKind::kPairs ? "avx512_bf16" : "";
}

pybind11::dict build_info() {
  pybind11::dict info;
  info["compiler"] = __VERSION__;
  info["cpu_kernels"] = PYRCNN_ISA_SUMMARY;
  info["cpu_best"] = isa_name(best_isa());
  info["cpu_capability"] = isa_name(cpu_isa());
  info["cpu_tiles"] = tiles_name(cpu_tiles());
  info["cuda"] = PYRCNN_CUDA_SUMMARY;
  return info;
}

}  // namespace

const char* isa_name(Isa isa) { return isa == Isa::kAvx512 ? "avx512" : isa == Isa::kAvx2 ? "avx2" : "default"; }

Isa cpu_isa() {
  static const Isa isa = choose_isa();
  return isa;
}

TileKind cpu_tiles() {
  static const bool asked = wanted_isa() == nullptr && cpu_isa() == Isa::kAvx512;
  static const TileKind tiles = asked ? best_tiles() : TileKind::kPlain;
  return tiles;
}

}  // namespace pyrcnn

PYBIND11_MODULE(_C, m) {
  m.doc() = "pyrcnn's native library: torch.ops.pyrcnn and what it was built with";
  m.def("build_info", &pyrcnn::build_info, "compilers, CUDA architectures and CPU capability");
  pyrcnn::cpu_isa();  // a bad PYRCNN_CPU_CAPABILITY is told at import, not at the first call
}
