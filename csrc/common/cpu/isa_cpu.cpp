#include "isa.h"

#include <cstdlib>
#include <string>

#include "common/tensor.h"
#include "isa_needed.h"
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace pyrcnn {
namespace {

#if defined(__x86_64__)
// Clang 14 does not know "f16c" in __builtin_cpu_supports, so this asks the processor.
bool has_f16c() {
  constexpr unsigned kF16c = 1u << 29;
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & kF16c);
}
#endif

Isa chosen_isa() {
  const Isa best = best_isa();
  const char* wanted = std::getenv("PYRCNN_CPU_CAPABILITY");
  if (wanted == nullptr || *wanted == '\0') return best;
  for (Isa isa : {Isa::kDefault, Isa::kAvx2, Isa::kAvx512}) {
    if (isa_name(isa) != std::string(wanted)) continue;
    check(isa <= best, "PYRCNN_CPU_CAPABILITY must be one that this machine has (up to ", isa_name(best), "), got ",
          wanted);
    return isa;
  }
  check(false, "PYRCNN_CPU_CAPABILITY must be default, avx2 or avx512, got ", wanted);
  return best;
}

}  // namespace

const char* isa_name(Isa isa) { return isa == Isa::kAvx512 ? "avx512" : isa == Isa::kAvx2 ? "avx2" : "default"; }

Isa best_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
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

std::string isa_problem(const std::string& needed) {
  if (needed.empty()) return "";
  for (Isa isa : {Isa::kDefault, Isa::kAvx2, Isa::kAvx512}) {
    if (isa_name(isa) != needed) continue;
    if (isa <= best_isa()) return "";
    return "must be computed by a processor with " + needed + ", for which this program was compiled, got one with " +
           isa_name(best_isa());
  }
  return "must be computed with default, avx2 or avx512, got " + needed;
}

Isa cpu_isa() {
  static const Isa isa = chosen_isa();
  return isa;
}

}  // namespace pyrcnn
