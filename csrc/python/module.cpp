// The Python module _C. Importing it registers the operators. build_info() returns what was built and what is in use.
#include <pybind11/pybind11.h>

#include "common/cpu/isa.h"

namespace pyrcnn {
namespace {

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
}  // namespace pyrcnn

PYBIND11_MODULE(_C, m) {
  m.doc() = "pyrcnn's native library: torch.ops.pyrcnn and what it was built with";
  m.def("build_info", &pyrcnn::build_info, "compilers, CUDA architectures and CPU capability");
  pyrcnn::cpu_isa();  // so that a bad PYRCNN_CPU_CAPABILITY fails at import
}
