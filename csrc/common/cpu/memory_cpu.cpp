#include "memory.h"

#include <dlfcn.h>
#include <sys/mman.h>

#include <atomic>
#include <new>

#include "cpu.h"

namespace pyrcnn {
namespace {

constexpr int64_t kHuge = int64_t(2) << 20;

int64_t whole_pages(int64_t bytes) { return ceil_div(bytes, kHuge) * kHuge; }

// Of [from, from + bytes) what can be huge pages; a hint: where it is refused nothing changes.
void ask_for_huge_pages(void* from, int64_t bytes) {
#if defined(MADV_HUGEPAGE)
  const uintptr_t first = (uintptr_t(from) + kHuge - 1) / kHuge * kHuge;
  const uintptr_t last = (uintptr_t(from) + uintptr_t(bytes)) / kHuge * kHuge;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
  (void)from, (void)bytes;
#endif
}

// `bytes` is a multiple of kHuge, and so is the address: then every page can be huge.
void* map(int64_t bytes) {
  void* mapped = mmap(nullptr, bytes + kHuge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  char* from = static_cast<char*>(mapped);
  const int64_t before = (kHuge - int64_t(uintptr_t(from) % kHuge)) % kHuge;
  if (before) munmap(from, before);
  munmap(from + before + bytes, kHuge - before);
  ask_for_huge_pages(from + before, bytes);
  return from + before;
}

// What was given back, the oldest first. Never destroyed: tensors may outlive static objects.
class Kept {
 public:
  // A kept block of `bytes`, or up to a quarter more; none: {nullptr, 0}.
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

  // Keeps `block`, and writes those that must go for it to `gone` [kMost]; returns how many.
  int keep(const Block& block, Block* gone) {
    if (block.bytes > kKept || !lock()) return gone[0] = block, 1;
    int dropped = 0;
    while (count_ == kMost || bytes_ + block.bytes > kKept) gone[dropped++] = remove(0);
    blocks_[count_++] = block;
    bytes_ += block.bytes;
    unlock();
    return dropped;
  }

  static constexpr int kMost = 32;

 private:
  // Gives up after a while: in the child of a fork the holder may not exist. Then blocks are not kept, that is all.
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
constinit Kept kept;

// torch_from_blob of torch's stable C interface, from torch 2.11 on; looked up because this library runs on 2.10 too.
using FromBlob = AOTITorchError (*)(void* memory, int64_t dims, const int64_t* sizes, const int64_t* strides,
                                    int64_t offset, int32_t dtype, int32_t device_type, int32_t device_index,
                                    AtenTensorHandle* result, int32_t layout, const uint8_t* metadata,
                                    int64_t metadata_size, void (*deleter)(void* memory, void* context), void* context);
FromBlob from_blob() {
  static const FromBlob found = [] {
    void* torch = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
    return reinterpret_cast<FromBlob>(torch ? dlsym(torch, "torch_from_blob") : nullptr);
  }();
  return found;
}

// Of what results are made of; 0: another type.
int64_t element_bytes(ScalarType type) {
  switch (type) {
    case ScalarType::Double: return 8;
    case ScalarType::Float:
    case ScalarType::Int: return 4;
    case ScalarType::Half:
    case ScalarType::BFloat16:
    case ScalarType::Short: return 2;
    default: return 0;
  }
}

}  // namespace

Block take_block(int64_t bytes) {
  bytes = whole_pages(bytes);
  const Block block = kept.take(bytes);
  return block.memory ? block : Block{map(bytes), bytes};
}

void give_back(const Block& block) noexcept {
#if defined(MADV_FREE)
  madvise(block.memory, block.bytes, MADV_FREE);
#endif
  Block gone[Kept::kMost];
  for (int i = kept.keep(block, gone) - 1; i >= 0; --i) munmap(gone[i].memory, gone[i].bytes);
}

Tensor empty_result(const Tensor& like, int64_t n, int64_t c, int64_t h, int64_t w, bool channels_last,
                    std::optional<ScalarType> dtype) {
  const ScalarType type = dtype.value_or(like.scalar_type());
  const FromBlob make = from_blob();
  int64_t bytes = element_bytes(type);
  bool counted = true;
  for (const int64_t extent : {n, c, h, w}) counted = counted && !__builtin_mul_overflow(bytes, extent, &bytes);
  if (make == nullptr || !counted || bytes < kWorthKeeping) {
    Tensor fresh = empty_4d(like, n, c, h, w, channels_last, dtype);
    if (counted && bytes >= kWorthKeeping) ask_for_huge_pages(fresh.mutable_data_ptr(), bytes);
    return fresh;
  }
  constexpr int32_t kNoIndex = -1;  // the CPU is one device
  const Block block = take_block(bytes);
  const int64_t sizes[] = {n, c, h, w}, nchw[] = {c * h * w, h * w, w, 1}, nhwc[] = {h * w * c, 1, w * c, c};
  const auto number = [](auto value) { return torch::stable::detail::to<int32_t>(torch::stable::detail::from(value)); };
  const int64_t* strides = channels_last ? nhwc : nchw;
  const auto release = [](void* memory, void* block_bytes) { give_back({memory, int64_t(uintptr_t(block_bytes))}); };
  AtenTensorHandle handle;
  if (make(block.memory, 4, sizes, strides, 0, number(type), aoti_torch_device_type_cpu(), kNoIndex, &handle,
           aoti_torch_layout_strided(), nullptr, 0, release,
           reinterpret_cast<void*>(uintptr_t(block.bytes))) == AOTI_TORCH_SUCCESS)
    return Tensor(handle);
  give_back(block);
  return empty_4d(like, n, c, h, w, channels_last, dtype);
}

Tensor empty_result(const Tensor& like, HeaderOnlyArrayRef<int64_t> sizes, ScalarType dtype) {
  int64_t count = 1;
  bool counted = true;
  for (const int64_t size : sizes) counted = counted && !__builtin_mul_overflow(count, size, &count);
  // a small result is made without the detour over four dimensions
  if (!counted || count < kWorthKeeping / 8) return torch::stable::new_empty(like, sizes, dtype);
  return torch::stable::view(empty_result(like, 1, 1, 1, count, false, dtype), sizes);
}

}  // namespace pyrcnn
