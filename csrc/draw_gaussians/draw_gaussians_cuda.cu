// One launch. A block computes a tile of one map: it finds the objects that reach the tile, and every thread takes the
// maximum over them for its cells. No atomic touches the maps.
#include "common/cuda/cuda.cuh"
#include "draw_gaussians_check.h"

namespace pyrcnn::draw_gaussians {
namespace {

constexpr int kTileHeight = 16, kTileWidth = 64;
constexpr int kRowsAtOnce = kThreads / kTileWidth, kCellsPerThread = kTileHeight / kRowsAtOnce;

template <typename T> struct Tiles {
  Objects<T> objects;
  T* maps;
  int64_t across, down, count;  // tiles of a map in both directions, and of all maps
  int64_t step_n, step_c, step_y, step_x;
};

template <typename T> __global__ void __launch_bounds__(kThreads, 1) draw(const __grid_constant__ Tiles<T> tiles) {
  using C = compute_t<T>;
  __shared__ Gaussian<C> found[kThreads];
  __shared__ int found_count;
  const Objects<T>& objects = tiles.objects;
  const int column = int(threadIdx.x) % kTileWidth, first_row = int(threadIdx.x) / kTileWidth;
  for (int64_t tile = blockIdx.x; tile < tiles.count; tile += gridDim.x) {
    const int64_t row = quotient(tile, tiles.across), map = quotient(row, tiles.down),
                  n = quotient(map, objects.channels);
    const int64_t c = map - n * objects.channels, left = (tile - row * tiles.across) * kTileWidth;
    const int64_t top = (row - map * tiles.down) * kTileHeight;
    const int64_t x = left + column;
    C values[kCellsPerThread] = {};
    for (int64_t base = 0; base < objects.count; base += kThreads) {  // equally often in all threads, for the barriers
      if (threadIdx.x == 0) found_count = 0;
      __syncthreads();
      const int64_t i = base + threadIdx.x;
      if (i < objects.count && objects.classes[n * objects.count + i] == c) {
        const Gaussian<C> g = objects(n * objects.count + i);
        const bool reaches =
            !g.empty() && g.top < top + kTileHeight && g.bottom > top && g.left < left + kTileWidth && g.right > left;
        if (reaches) found[atomicAdd(&found_count, 1)] = g;  // the order does not change a maximum
      }
      __syncthreads();
      for (int k = 0; k < found_count; ++k) {
        const Gaussian<C>& g = found[k];
        if (x < g.left || x >= g.right) continue;
        const C across = g.along_x(x);
#pragma unroll
        for (int r = 0; r < kCellsPerThread; ++r) {
          const int64_t y = top + first_row + r * kRowsAtOnce;
          if (y >= g.top && y < g.bottom) values[r] = higher(across * (g.weight * g.along_y(y)), values[r]);
        }
      }
      __syncthreads();  // before thread 0 empties the list
    }
#pragma unroll
    for (int r = 0; r < kCellsPerThread; ++r) {
      const int64_t y = top + first_row + r * kRowsAtOnce;
      if (y < objects.height && x < objects.width)
        tiles.maps[n * tiles.step_n + c * tiles.step_c + y * tiles.step_y + x * tiles.step_x] = T(values[r]);
    }
  }
}

Tensor cuda(const Tensor& centers, const Tensor& sigmas, const Tensor& classes, const std::optional<Tensor>& weights,
            int64_t channels, int64_t height, int64_t width, bool channels_last) {
  const Inputs inputs{centers, sigmas, classes, weights};
  Tensor maps = check_and_allocate(inputs, channels, height, width, channels_last);
  const OnDevice on(centers);
  dispatch_floating(centers, "centers", [&](auto type) {
    using T = typename decltype(type)::type;
    if (maps.numel() == 0) return;
    const Inputs dense = contiguous(inputs);
    const int64_t across = ceil_div(width, kTileWidth), down = ceil_div(height, kTileHeight);
    const Tiles<T> tiles{objects<T>(dense, maps),
                         mutable_data<T>(maps),
                         across,
                         down,
                         maps.size(0) * channels * across * down,
                         maps.stride(0),
                         maps.stride(1),
                         maps.stride(2),
                         maps.stride(3)};
    launch(on, &draw<T>, unsigned(lower(tiles.count, kMaxBlocks)), kThreads, tiles);
  });
  return maps;
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) { m.impl("draw_gaussians", PYRCNN_BOX(&cuda)); }
}  // namespace pyrcnn::draw_gaussians
