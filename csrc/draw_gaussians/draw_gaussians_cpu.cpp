#include <cstring>

#include "common/cpu/parallel.h"
#include "draw_gaussians_check.h"
#include "draw_gaussians_kernel.h"

namespace pyrcnn::draw_gaussians {
namespace {

constexpr double kNanosecondsPerCell = 0.3;
constexpr int64_t kBand = 32;  // rows of a channels_last map that one step draws

// Each step sets one part of the maps to zero and then draws into it while it is in the cache.
template <typename T> void run(const Inputs& in, Tensor& maps, bool channels_last) {
  using C = compute_t<T>;
  const Objects<T> objects = pyrcnn::draw_gaussians::objects<T>(in, maps);
  const int64_t images = maps.size(0), channels = maps.size(1), height = maps.size(2), width = maps.size(3);
  std::vector<Gaussian<C>> gaussians(images * objects.count);
  for (size_t i = 0; i < gaussians.size(); ++i) gaussians[i] = objects(int64_t(i));
  const auto raise = PYRCNN_KERNEL(raise<T>);

  const int64_t bands = channels_last ? ceil_div(height, kBand) : channels;
  const int64_t rows = channels_last ? kBand : height, step = channels_last ? channels : 1;
  T* values = mutable_data<T>(maps);
  parallel(images * bands, double(rows * width * step) * kNanosecondsPerCell, [&](int64_t begin, int64_t end) {
    std::vector<C> scratch(width);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t n = i / bands, band = i % bands;
      const int64_t top = channels_last ? band * kBand : 0, bottom = lower(top + rows, height);
      T* image = values + n * channels * height * width;
      T* plane = channels_last ? image : image + band * height * width;
      memset(plane + top * width * step, 0, sizeof(T) * (bottom - top) * width * step);
      for (int64_t g = n * objects.count; g < (n + 1) * objects.count; ++g) {
        const int64_t c = objects.classes[g];
        if (gaussians[g].empty() || (channels_last ? c < 0 || c >= channels : c != band)) continue;
        raise(gaussians[g], channels_last ? plane + c : plane, width, step, top, bottom, scratch.data());
      }
    }
  });
}

Tensor cpu(const Tensor& centers, const Tensor& sigmas, const Tensor& classes, const std::optional<Tensor>& weights,
           int64_t channels, int64_t height, int64_t width, bool channels_last) {
  const Inputs inputs{centers, sigmas, classes, weights};
  Tensor maps = check_and_allocate(inputs, channels, height, width, channels_last);
  dispatch_floating(centers, "centers", [&](auto type) {
    if (maps.numel() > 0) run<typename decltype(type)::type>(contiguous(inputs), maps, channels_last);
  });
  return maps;
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) { m.impl("draw_gaussians", PYRCNN_BOX(&cpu)); }
}  // namespace pyrcnn::draw_gaussians
