// The taps of all RoIs of a call, on the CPU. They are computed once, in parallel, for all channels and threads.
#pragma once
#include <algorithm>
#include <memory>
#include <tuple>
#include <vector>

#include "common/cpu/groups.h"
#include "common/cpu/parallel.h"
#include "roi_align_check.h"
#include "roi_align_taps.h"

namespace pyrcnn::roi_align {

// The position of a pixel along the Z-order curve, which interleaves the bits of both coordinates. All pixels of a
// square of 8x8 have the same position.
inline uint64_t z_order(uint32_t y, uint32_t x) {
  const auto spread = [](uint64_t bits) {
    bits = (bits | bits << 16) & 0x0000ffff0000ffff;
    bits = (bits | bits << 8) & 0x00ff00ff00ff00ff;
    bits = (bits | bits << 4) & 0x0f0f0f0f0f0f0f0f;
    bits = (bits | bits << 2) & 0x3333333333333333;
    return (bits | bits << 1) & 0x5555555555555555;
  };
  return spread(y / 8) << 1 | spread(x / 8);
}

template <typename C> class Tables {
 public:
  // Throws if a RoI's batch index is out of range. A plane is (level, image); planes are numbered level by level.
  // Nothing else is done unless `wanted`: a result without elements needs no taps.
  Tables(const Pyramid<C>& pyramid, const Options& options, const Tensor& rois, bool wanted)
      : taps(size_t(wanted ? rois.size(0) : 0)), plane(taps.size()), axes_(taps.size()), place_(taps.size()) {
    const int64_t count = rois.size(0), bins = options.bins_y + options.bins_x;
    const C* roi = data<C>(rois);
    std::vector<int64_t> offset(taps.size() + 1, 0);
    for (int64_t k = 0; k < count; ++k) {
      const Region<C> r = region(pyramid, options, roi + 5 * k);
      check(r.valid, "rois has batch index ", roi[5 * k], " at row ", k, ", out of range for ", pyramid.images,
            " images");
      if (!wanted) continue;
      plane[k] = r.level * pyramid.images + r.image;
      const int64_t y = max_taps(r.y, pyramid.height[r.level]), x = max_taps(r.x, pyramid.width[r.level]);
      axes_[k] = {r.y, r.x, y, x};
      offset[k + 1] = offset[k] + y * options.bins_y + x * options.bins_x;
    }
    if (!wanted) return;
    begins_.reset(new int32_t[count * (bins + 2)]);
    taps_.reset(new Tap<C>[offset[count]]);
    constexpr double kNanosecondsPerBin = 20;
    parallel(count, double(bins) * kNanosecondsPerBin, [&](int64_t first, int64_t last) {
      for (int64_t k = first; k < last; ++k) {
        const Axes& a = axes_[k];
        const int64_t level = plane[k] / pyramid.images;
        int32_t *y_begin = begins_.get() + k * (bins + 2), *x_begin = y_begin + options.bins_y + 1;
        Tap<C>*y = taps_.get() + offset[k], *x = y + a.max_y * options.bins_y;
        const int32_t rows = axis_taps(a.y, options.bins_y, pyramid.height[level], a.max_y, y_begin, y);
        const int32_t columns = axis_taps(a.x, options.bins_x, pyramid.width[level], a.max_x, x_begin, x);
        int32_t low = rows ? y[0].pixel : 0, high = low;
        for (int32_t i = 0; i < rows; ++i) low = std::min(low, y[i].pixel), high = std::max(high, y[i].pixel + 1);
        taps[k] = {options.bins_y, options.bins_x, {y_begin, y}, {x_begin, x}, low, high};
        place_[k] = z_order(middle(y, rows), middle(x, columns));
      }
    });
  }

  // The RoIs grouped by plane, in the order of their positions.
  Groups by_plane() const {
    return {plane, [this](int64_t a, int64_t b) { return std::tie(place_[a], a) < std::tie(place_[b], b); }};
  }

  std::vector<Taps<C>> taps;
  std::vector<int64_t> plane;

 private:
  struct Axes {
    Axis<C> y, x;
    int64_t max_y, max_x;
  };
  static uint32_t middle(const Tap<C>* taps, int32_t count) {
    return count ? uint32_t(taps[0].pixel / 2 + taps[count - 1].pixel / 2) : 0;
  }
  std::vector<Axes> axes_;
  std::vector<uint64_t> place_;  // of each RoI's centre along the Z-order curve
  std::unique_ptr<int32_t[]> begins_;
  std::unique_ptr<Tap<C>[]> taps_;
};

}  // namespace pyrcnn::roi_align
