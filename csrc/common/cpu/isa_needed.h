// Whether this machine can run a program that was compiled before. Uses std, so it is for *_cpu.cpp.
#pragma once
#include <string>

namespace pyrcnn {

// Why this machine cannot run what was compiled for the instruction set of this name, or "". "" needs none.
std::string isa_problem(const std::string& needed);

}  // namespace pyrcnn
