// Memory for large results and workspaces.
#pragma once
#include <cstdint>
#include <memory>

namespace pyrcnn {

// The C library hands large blocks back to the system when they are freed, so a large tensor is fresh memory every time
// and its first write faults page by page: 0.8 ms per MB, as much as computing a RoIAlign; worse on a virtual machine
// that returns free pages to its host. So blocks of at least kWorthKeeping bytes come from here: in huge pages, which
// fault at a fifth of the cost, and when they are freed they are kept for the next call that asks for their size. While
// kept they are marked as free to take (MADV_FREE): the system uses them before it swaps or kills. At most kKept bytes
// are kept, the latest ones.
constexpr int64_t kWorthKeeping = int64_t(4) << 20;
constexpr int64_t kKept = int64_t(256) << 20;

struct Block {
  void* memory;
  int64_t bytes;  // of the block; at least what was asked for
};

// Throws std::bad_alloc. Both may be called by any thread.
Block take_block(int64_t bytes);
void give_back(const Block& block) noexcept;

struct GiveBack {
  int64_t block_bytes = 0;  // 0: from new[]
  template <typename T> void operator()(T* memory) const {
    if (block_bytes) give_back({memory, block_bytes});
    else delete[] memory;
  }
};

// Uninitialized workspace.
template <typename T> std::unique_ptr<T[], GiveBack> workspace(int64_t count) {
  const int64_t bytes = count * int64_t(sizeof(T));
  if (bytes < kWorthKeeping) return {new T[count], {}};
  const Block block = take_block(bytes);
  return {static_cast<T*>(block.memory), {block.bytes}};
}

}  // namespace pyrcnn
