// Preloaded by memory.py: counts the bytes that a process has allocated, and their maximum since begin_counting().
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void __libc_free(void*);

static _Atomic long allocated, most;

static void count(long bytes) {
  const long now = atomic_fetch_add(&allocated, bytes) + bytes;
  long before = most;
  while (now > before && !atomic_compare_exchange_weak(&most, &before, now)) {}
}
static void* counted(void* block) {
  count((long)malloc_usable_size(block));
  return block;
}

long begin_counting(void) { return most = allocated; }
long most_allocated(void) { return most; }

void* malloc(size_t bytes) { return counted(__libc_malloc(bytes)); }
void* calloc(size_t items, size_t bytes) { return counted(__libc_calloc(items, bytes)); }
void* memalign(size_t alignment, size_t bytes) { return counted(__libc_memalign(alignment, bytes)); }
void* aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }
int posix_memalign(void** block, size_t alignment, size_t bytes) {
  *block = memalign(alignment, bytes);
  return *block == NULL ? 12 : 0;  // ENOMEM
}
void* realloc(void* block, size_t bytes) {
  const long before = (long)malloc_usable_size(block);
  void* moved = __libc_realloc(block, bytes);
  if (moved != NULL || bytes == 0) count((long)malloc_usable_size(moved) - before);
  return moved;
}
void free(void* block) {
  count(-(long)malloc_usable_size(block));
  __libc_free(block);
}

// Large results and workspaces are mapped directly.
void* mmap(void* at, size_t bytes, int protection, int flags, int file, off_t offset) {
  static void* (*next)(void*, size_t, int, int, int, off_t);
  if (next == NULL) *(void**)&next = dlsym(RTLD_NEXT, "mmap");
  void* mapped = next(at, bytes, protection, flags, file, offset);
  if (mapped != MAP_FAILED && (flags & MAP_ANONYMOUS)) count((long)bytes);
  return mapped;
}
int munmap(void* at, size_t bytes) {
  static int (*next)(void*, size_t);
  if (next == NULL) *(void**)&next = dlsym(RTLD_NEXT, "munmap");
  const int failed = next(at, bytes);
  if (!failed) count(-(long)bytes);
  return failed;
}
