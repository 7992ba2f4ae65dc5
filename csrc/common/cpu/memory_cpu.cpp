#include "memory.h"

#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "common/math/hd.h"

namespace pyrcnn {
namespace {

constexpr int64_t kHugePage = int64_t(2) << 20;

// `bytes` is a multiple of kHugePage. The address is one as well, so that every page can be huge.
void* map_aligned(int64_t bytes) {
  void* mapped = mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  char* from = static_cast<char*>(mapped);
  const int64_t before = (kHugePage - int64_t(uintptr_t(from) % kHugePage)) % kHugePage;
  if (before) munmap(from, before);
  munmap(from + before + bytes, kHugePage - before);
  ask_for_huge_pages(from + before, bytes);
  return from + before;
}

// Blocks that were given back, the oldest first. Never destroyed, because tensors may outlive static objects.
class KeptBlocks {
 public:
  // A kept block of `bytes`, or up to a quarter more; {nullptr, 0} if there is none.
  Block take(int64_t bytes) {
    if (!lock()) return {};
    int best = -1;
    for (int i = 0; i < count_; ++i) {
      const int64_t size = blocks_[i].bytes;
      if (size >= bytes && size - bytes <= bytes / 4 && (best < 0 || size <= blocks_[best].bytes)) best = i;
    }
    const Block block = best < 0 ? Block{} : remove(best);
    unlock();
    return block;
  }

  // Keeps `block`. Writes the blocks that must be released to `released` [kMost] and returns how many those are.
  int keep(const Block& block, Block* released) {
    if (block.bytes > kKept || !lock()) return released[0] = block, 1;
    int count = 0;
    while (count_ == kMost || bytes_ + block.bytes > kKept) released[count++] = remove(0);
    blocks_[count_++] = block;
    bytes_ += block.bytes;
    unlock();
    return count;
  }

  static constexpr int kMost = 32;

 private:
  // Gives up after a while, because the holder may not exist in the child of a fork. Then blocks are not kept.
  bool lock() {
    for (int i = 0; i < 10000; ++i)
      if (!locked_.test_and_set(std::memory_order_acquire)) return true;
    return false;
  }
  void unlock() { locked_.clear(std::memory_order_release); }
  Block remove(int at) {
    const Block block = blocks_[at];
    for (--count_; at < count_; ++at) blocks_[at] = blocks_[at + 1];
    bytes_ -= block.bytes;
    return block;
  }

  std::atomic_flag locked_ = ATOMIC_FLAG_INIT;
  Block blocks_[kMost] = {};
  int count_ = 0;
  int64_t bytes_ = 0;
};
constinit KeptBlocks kept_blocks;

}  // namespace

void ask_for_huge_pages(void* from, int64_t bytes) {
#if defined(MADV_HUGEPAGE)
  const uintptr_t first = (uintptr_t(from) + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t last = (uintptr_t(from) + uintptr_t(bytes)) / kHugePage * kHugePage;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
  (void)from, (void)bytes;
#endif
}

#if defined(__SANITIZE_ADDRESS__)
// The sanitizer finds what is read or written outside of a block of its own.
Block take_block(int64_t bytes) {
  constexpr int64_t kLine = 64;
  void* memory = std::aligned_alloc(kLine, ceil_div(bytes, kLine) * kLine);
  if (memory == nullptr) throw std::bad_alloc();
  return {memory, bytes};
}

void give_back(const Block& block) noexcept { std::free(block.memory); }
#else
Block take_block(int64_t bytes) {
  bytes = ceil_div(bytes, kHugePage) * kHugePage;
  const Block block = kept_blocks.take(bytes);
  return block.memory ? block : Block{map_aligned(bytes), bytes};
}

void give_back(const Block& block) noexcept {
#if defined(MADV_FREE)
  madvise(block.memory, block.bytes, MADV_FREE);
#endif
  Block released[KeptBlocks::kMost];
  for (int i = kept_blocks.keep(block, released) - 1; i >= 0; --i) munmap(released[i].memory, released[i].bytes);
}
#endif

}  // namespace pyrcnn
