#pragma once
#include_next <torch/csrc/stable/library.h>

// In place of the CPU's kernels, so that CPU tensors get here.
#undef STABLE_TORCH_LIBRARY_IMPL
#define STABLE_TORCH_LIBRARY_IMPL(library, key, m) _STABLE_TORCH_LIBRARY_IMPL(library, CPU, m, C10_UID)
