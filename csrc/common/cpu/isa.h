// The instruction set that the CPU kernels use. No torch.
#pragma once

namespace pyrcnn {

enum class Isa { kDefault, kAvx2, kAvx512 };

// The best instruction set of this machine for which kernels exist.
Isa best_isa();

// The one in use: PYRCNN_CPU_CAPABILITY=default|avx2|avx512, or the best where that is not set. Read once.
Isa cpu_isa();

const char* isa_name(Isa isa);

}  // namespace pyrcnn
