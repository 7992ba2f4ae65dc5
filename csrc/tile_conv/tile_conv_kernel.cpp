#include "common/tiles.h"
#include "tile_conv.h"

namespace pyrcnn::tile_conv::PYRCNN_ISA {
namespace {

using namespace pyrcnn::PYRCNN_ISA;
static_assert(kPanel == kTilePanel && kLine == kTileDepth && kGroup == kTileRows);

void zero(BFloat16* at, int64_t values) { memset(at, 0, sizeof(BFloat16) * size_t(values)); }

// The input under the task's results -> patch [rows][columns][pixel], zeros around the map and behind the channels.
void gather(const Layer& l, const Task& task, const Patch& p, BFloat16* patch) {
  const int64_t whole = l.inputs / kLine * kLine, rest = l.inputs - whole, row_values = p.columns * p.pixel;
  const int64_t first_y = task.row * l.stride - l.top, first_x = task.column * l.stride - l.left;
  const BFloat16* image = static_cast<const BFloat16*>(l.input) + task.image * l.height * l.width * l.inputs;
  for (int64_t i = 0; i < p.rows; ++i, patch += row_values) {
    const int64_t y = first_y + i * p.step;
    if (y < 0 || y >= l.height) {
      zero(patch, row_values);
      continue;
    }
    BFloat16* to = patch;
    for (int64_t j = 0; j < p.columns; ++j, to += p.pixel) {
      const int64_t x = first_x + j * p.step;
      if (x < 0 || x >= l.width) {
        zero(to, p.pixel);
        continue;
      }
      const BFloat16* from = image + (y * l.width + x) * l.inputs;
      for (int64_t c = 0; c < whole; c += kLine) memcpy(to + c, from + c, sizeof(BFloat16) * kLine);
      if (rest == 0) continue;
      memcpy(to + whole, from + whole, sizeof(BFloat16) * size_t(rest));
      zero(to + l.inputs, kLine - rest);
    }
  }
}

// The groups of pixels of a task: of each row by itself or, with stride 1, of the patch's rows as one long row, some of
// whose pixels then lie in the border and are dropped. Whichever is fewer.
struct Groups {
  int64_t wrap;     // pixels of a row, those that are dropped included
  int64_t per_row;  // groups of a row, or 0: of one long row
  int64_t count;

  Groups(const Task& task, const Patch& p) {
    const int64_t apart = ceil_div(task.columns, kGroup);
    const int64_t together = ceil_div((task.rows - 1) * p.columns + task.columns, kGroup);
    const bool flat = p.stride == 1 && together < task.rows * apart;
    wrap = flat ? p.columns : apart * kGroup;
    per_row = flat ? 0 : apart;
    count = flat ? together : task.rows * apart;
  }
  int64_t row(int64_t group) const { return per_row ? group / per_row : group * kGroup / wrap; }
  int64_t column(int64_t group) const { return group * kGroup - row(group) * wrap; }
};

// The sums of a group -> the result, row by row.
template <class Tiles>
void finish(const Layer& l, const Task& task, const Groups& groups, int64_t group, int64_t panel, const float* sums) {
  const TileFinish how{l.bias + panel * kPanel, l.low, l.high};
  const int64_t channels = l.outputs - panel * kPanel, outputs = l.outputs;
  int64_t column = groups.column(group), left = kGroup;
  for (int64_t row = groups.row(group); left > 0 && row < task.rows; ++row, column = 0) {
    const int64_t here = lower(left, groups.wrap - column), wanted = lower(here, task.columns - column);
    const int64_t pixel = (task.image * l.rows + task.row + row) * l.columns + task.column + column;
    int64_t at = pixel * outputs + panel * kPanel;
    for (int64_t i = 0; i < wanted; ++i, at += outputs) {
      const BFloat16* other = l.other ? static_cast<const BFloat16*>(l.other) + at : nullptr;
      finish_pixel<Tiles>(how, sums + i * kPanel, other, channels, static_cast<BFloat16*>(l.output) + at);
    }
    sums += here * kPanel, left -= here;
  }
}

template <class Tiles> void convolve_by(Tiles& tiles, const Layer& l, const Task& task, BFloat16* patch) {
  const Patch p = patch_of(l, task.rows, task.columns);
  gather(l, task, p, patch);
  const Groups groups(task, p);
  const int64_t depth = l.kernel * l.kernel * whole_lines(l.inputs);
  const auto at = [&](int64_t group) {
    return patch + (groups.row(group) * p.columns + groups.column(group)) * p.stride * p.pixel;
  };
  alignas(64) float sums[2][kBlockSums];
  for (int64_t panel = task.panel; panel < task.panel + task.panels; ++panel) {
    const BFloat16* weight = static_cast<const BFloat16*>(l.weight) + panel * depth * kPanel;
    const auto product = [&](int64_t group) {
      const TileSource source{at(group), p.stride * p.pixel, whole_lines(l.inputs),
                              p.pixel,   l.kernel,           p.columns * p.pixel};
      const BFloat16* second = group + 1 < groups.count ? at(group + 1) : nullptr;
      multiply_tiles<false>(tiles, source, second, depth, weight, l.outputs - panel * kPanel, sums[group / 2 % 2]);
    };
    product(0);
    for (int64_t group = 0; group < groups.count; group += 2) {
      if (group + 2 < groups.count) product(group + 2);  // meanwhile the processor can finish this one
      const float* made = sums[group / 2 % 2];
      finish<Tiles>(l, task, groups, group, panel, made);
      if (group + 1 < groups.count) finish<Tiles>(l, task, groups, group + 1, panel, made + kGroup * kPanel);
    }
  }
}

}  // namespace

void convolve(const Layer& layer, const Task& task, void* scratch) {
  with_tiles(layer.tiles, [&](auto& tiles) { convolve_by(tiles, layer, task, static_cast<BFloat16*>(scratch)); });
}

}  // namespace pyrcnn::tile_conv::PYRCNN_ISA
