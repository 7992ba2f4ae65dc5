// What the library was built with and what runs, for every language: C++, ctypes, Rust.
#include "pyrcnn/build_info.h"

#include <exception>
#include <string>

#include "common/cpu/isa.h"
#include "common/cpu/isa_needed.h"

namespace {

std::string entry(const char* before, const char* name, const char* value) {
  return std::string(before).append("\"").append(name).append("\": \"").append(value).append("\"");
}

}  // namespace

const char* pyrcnn_build_info() {
  static const std::string text = [] {
    using namespace pyrcnn;
    std::string all = entry("{", "compiler", __VERSION__);
    all += entry(", ", "cpu_kernels", PYRCNN_ISA_SUMMARY);
    all += entry(", ", "cpu_best", isa_name(best_isa()));
    all += entry(", ", "cpu_capability", *pyrcnn_error() ? "" : isa_name(cpu_isa()));
    all += entry(", ", "cuda", PYRCNN_CUDA_SUMMARY);
    return all += "}";
  }();
  return text.c_str();
}

const char* pyrcnn_instruction_set_error(const char* needed) {
  thread_local std::string text;
  text = pyrcnn::isa_problem(needed == nullptr ? "" : needed);
  return text.c_str();
}

const char* pyrcnn_error() {
  static const std::string text = []() -> std::string {
    try {
      pyrcnn::cpu_isa();
      return "";
    } catch (const std::exception& error) { return error.what(); }
  }();
  return text.c_str();
}
