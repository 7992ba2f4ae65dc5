// Compiled once per instruction set.
#include "common/simd/box_pack.h"
#include "match_boxes_loops.h"

namespace pyrcnn::match_boxes::PYRCNN_ISA {

using namespace pyrcnn::PYRCNN_ISA;

constexpr int kBlock = 64;  // anchors that are compared with one ground truth after the other

template <typename C> struct Block {
  static constexpr int packs = kBlock / lanes_of<C>;
  Box<Pack<C>> boxes[packs];
  Pack<C> areas[packs], best[packs];
  Mask<C> index[packs];
  Box<C> hull;
};

// Transposes the anchors and finds the box around all of them. Anchors come row by row, so a block covers a small part
// of the image, and this box rules out most of the ground truth. A NaN in it rules out nothing.
template <typename C, typename T> PYRCNN_HD void load_block(Block<C>& block, const T* anchors) {
  constexpr int lanes = lanes_of<C>;
  Box<Pack<C>> hull = load_boxes<C>(anchors);
  for (int p = 0; p < Block<C>::packs; ++p) {
    const Box<Pack<C>> b = load_boxes<C>(anchors + 4 * lanes * p);
    block.boxes[p] = b, block.areas[p] = area(b), block.best[p] = Pack<C>{}, block.index[p] = Mask<C>{};
    hull = {lower(b.x1, hull.x1), lower(b.y1, hull.y1), higher(b.x2, hull.x2), higher(b.y2, hull.y2)};
  }
  block.hull = {hull.x1[0], hull.y1[0], hull.x2[0], hull.y2[0]};
  for (int i = 1; i < lanes; ++i) {
    block.hull = {lower(hull.x1[i], block.hull.x1), lower(hull.y1[i], block.hull.y1), higher(hull.x2[i], block.hull.x2),
                  higher(hull.y2[i], block.hull.y2)};
  }
}

template <typename C> PYRCNN_HD bool apart(const Box<C>& a, const Box<C>& b) {
  return a.x2 <= b.x1 || b.x2 <= a.x1 || a.y2 <= b.y1 || b.y2 <= a.y1;
}

template <typename C> PYRCNN_HD Box<Pack<C>> broadcast_box(const Box<C>& b) {
  return {broadcast(b.x1), broadcast(b.y1), broadcast(b.x2), broadcast(b.y2)};
}

// Compares every anchor of the block with one ground truth; returns the greatest IoU.
template <typename C> PYRCNN_HD C compare(Block<C>& block, const Truth<C>& truth) {
  const Box<Pack<C>> box = broadcast_box(truth.box);
  const Pack<C> size = broadcast(truth.area);
  const Mask<C> index = Mask<C>{} + truth.index;
  Pack<C> greatest = Pack<C>{};
  for (int p = 0; p < Block<C>::packs; ++p) {
    const Pack<C> value = iou(box, block.boxes[p], size, block.areas[p]);
    const Mask<C> better = value > block.best[p];
    block.best[p] = better ? value : block.best[p];
    block.index[p] = better ? index : block.index[p];
    greatest = higher(value, greatest);
  }
  C result = greatest[0];
  for (int i = 1; i < lanes_of<C>; ++i) result = higher(greatest[i], result);
  return result;
}

template <int lanes> struct Results {
  typedef int64_t Longs __attribute__((vector_size(8 * lanes)));
  typedef int8_t Bytes __attribute__((vector_size(lanes)));
};

// Writes a whole block's results.
template <typename T, typename C = compute_t<T>>
PYRCNN_HD void store_block(const Image<T>& image, const Block<C>& block, int64_t* matches, int8_t* states, C* ious) {
  constexpr int lanes = lanes_of<C>;
  using Longs = typename Results<lanes>::Longs;
  using Bytes = typename Results<lanes>::Bytes;
  for (int p = 0; p < Block<C>::packs; ++p) {
    Mask<C> state = match_boxes::state<Mask<C>>(block.best[p], broadcast(image.high), broadcast(image.low));
    for (int64_t c = 0; c < image.crowd_count; ++c) {
      const Mask<C> crowded =
          in_crowd(block.boxes[p], block.areas[p], broadcast_box(image.crowds[c].box), broadcast(image.crowd_share));
      state = state == 0 ? crowded : state;  // a comparison's true is -1, as the state "ignored" is
    }
    const Longs index = __builtin_convertvector(box_order<C>(block.index[p]), Longs);
    const Bytes bytes = __builtin_convertvector(box_order<C>(state), Bytes);
    const Pack<C> best = box_order<C>(block.best[p]);
    memcpy(matches + lanes * p, &index, sizeof index);
    memcpy(states + lanes * p, &bytes, sizeof bytes);
    memcpy(ious + lanes * p, &best, sizeof best);
  }
}

// For the anchors [begin, end): matches, states and IoUs; best[g] is raised to the greatest IoU with truth g.
template <typename T> void best_truths(const Image<T>& image, int64_t begin, int64_t end, compute_t<T>* best) {
  using C = compute_t<T>;
  for (int64_t first = begin; first < end; first += kBlock) {
    const int64_t count = end - first < kBlock ? end - first : kBlock;
    const bool whole = count == kBlock;
    T rest[4 * kBlock];  // the last block, filled up with empty boxes
    if (!whole) {
      for (int i = 0; i < 4 * kBlock; ++i) rest[i] = T(0.0f);
      memcpy(rest, image.anchors + 4 * first, size_t(4 * count) * sizeof(T));
    }
    Block<C> block;
    load_block(block, whole ? image.anchors + 4 * first : rest);
    for (int64_t g = 0; g < image.truth_count; ++g) {
      if (!apart(block.hull, image.truths[g].box)) best[g] = higher(compare(block, image.truths[g]), best[g]);
    }
    if (whole) {
      store_block(image, block, image.matches + first, image.states + first, image.ious + first);
    } else {
      int64_t matches[kBlock];
      int8_t states[kBlock];
      C ious[kBlock];
      store_block(image, block, matches, states, ious);
      memcpy(image.matches + first, matches, size_t(count) * sizeof(int64_t));
      memcpy(image.states + first, states, size_t(count));
      memcpy(image.ious + first, ious, size_t(count) * sizeof(C));
    }
  }
}

template void best_truths(const Image<float>&, int64_t, int64_t, float*);
template void best_truths(const Image<double>&, int64_t, int64_t, double*);
template void best_truths(const Image<Half>&, int64_t, int64_t, float*);
template void best_truths(const Image<BFloat16>&, int64_t, int64_t, float*);

}  // namespace pyrcnn::match_boxes::PYRCNN_ISA
