#pragma once
#include_next <torch/csrc/stable/macros.h>

#undef STD_CUDA_CHECK
#undef STD_CUDA_KERNEL_LAUNCH_CHECK
#define STD_CUDA_CHECK(call) (void)(call)
