// Memory for large results and workspaces. No torch.
#pragma once
#include <cstdint>
#include <memory>

namespace pyrcnn {

// The C library returns large blocks to the system when they are freed. A large tensor is then new memory in every
// call, and its first write causes a page fault per page: 0.8 ms per MB, as much as computing a RoIAlign. A virtual
// machine that returns free pages to its host takes longer still. So blocks of at least kWorthKeeping bytes come from
// here. They use huge pages, whose page faults cost a fifth. Freed blocks are kept for the next call that asks for
// their size. Kept blocks are marked MADV_FREE, so that the system uses them before it swaps or kills. At most kKept
// bytes are kept; the oldest blocks are released first.
constexpr int64_t kWorthKeeping = int64_t(4) << 20;
constexpr int64_t kKept = int64_t(256) << 20;

struct Block {
  void* memory;
  int64_t bytes;  // of the block; at least what was asked for
};

// Throws std::bad_alloc. Any thread may call these two.
Block take_block(int64_t bytes);
void give_back(const Block& block) noexcept;

// Asks for huge pages in [from, from + bytes). Nothing changes where the system refuses.
void ask_for_huge_pages(void* from, int64_t bytes);

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
