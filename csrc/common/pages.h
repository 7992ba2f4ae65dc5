// Memory for large results and workspaces.
#pragma once
#include <cstdint>
#include <memory>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace pyrcnn {

// The C library gives large blocks back to the system when they are freed, so a large tensor is fresh memory every
// time, and its first write faults once per 4 KiB: 0.8 ms per MB, for RoIAlign as much as computing it. Asked before
// that write, Linux hands out 2 MiB at a time, at a fifth of the cost. It is a hint: where it is refused nothing
// changes, and the memory stays the caller's in every respect.
inline void ask_for_huge_pages(void* memory, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t kHuge = uintptr_t(2) << 20;
  constexpr int64_t kWorthAsking = int64_t(4) << 20;
  if (bytes < kWorthAsking) return;
  const uintptr_t from = uintptr_t(memory), first = (from + kHuge - 1) / kHuge * kHuge;
  const uintptr_t last = (from + uintptr_t(bytes)) / kHuge * kHuge;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
  (void)memory, (void)bytes;
#endif
}

// Uninitialized workspace.
template <typename T> std::unique_ptr<T[]> workspace(int64_t count) {
  std::unique_ptr<T[]> memory(new T[count]);
  ask_for_huge_pages(memory.get(), count * int64_t(sizeof(T)));
  return memory;
}

}  // namespace pyrcnn
