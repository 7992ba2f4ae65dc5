// Up to 4096 anchors per image and level: everything in one launch, which is one node of a CUDA graph.
//
// The parts depend on each other, and a dependency between two nodes of a graph costs about as much as a barrier of the
// whole grid, 1 to 1.5 microseconds. One launch needs three barriers:
// (1) Guess a bar for each image and level, a score that a few more than the wanted anchors reach; zero the counters.
// Barrier. (2) List the anchors that reach their bar. Barrier. (3) Rank the listed anchors, decode the best. Barrier.
// (4) Compare all pairs of boxes. After that no block waits. The block that completes the matrix of an image and level
// finds which of its boxes are kept. Blocks without such work meanwhile rank the candidates among all levels. The block
// that completes an image writes its output. Two launches would need one barrier less and one dependency between nodes
// more.
#pragma once
#include "common/cuda/select_sorted.cuh"
#include "nms/cuda/pair_matrix.cuh"
#include "generate_proposals_batch.cuh"

namespace pyrcnn::generate_proposals {

using nms::kMatrixThreads, nms::kMatrixWarps;

static_assert(kDecodeThreads == kMatrixThreads);
constexpr int kListed = 8192;                                          // anchors of a segment that the list can hold
constexpr int64_t kMostAtOnce = 4096;                                  // anchors of a segment that may be wanted
constexpr int64_t kPart = 2048;                                        // anchors that a block looks at together
template <typename C> constexpr int kSample = 16384 / int(sizeof(C));  // anchors from which a bar is guessed
constexpr int kMostSeen = int(kMaxLevels * kMostAtOnce / 32);          // words of 32 candidates of an image

// Arrays of segments and images begin at b.first_image.
template <typename T> struct ProposalsAtOnce {
  using C = compute_t<T>;
  ProposalBatch<T> b;
  int64_t images, segments, words, parts, chunks;  // parts and chunks of one image
  int64_t first_part[kMaxLevels + 1];              // parts of an image before each level
  ScoredRow<C>* listed;                            // [segments, kListed], in any order
  int32_t* listed_counts;                          // [segments], more than kListed if the list was too short
  ScoredRow<C>* bars;                              // [segments]: anchors that go before the bar are listed
  bool* again;                                     // [segments]: must be listed again
  nms::AlignedBox<C>* boxes;                       // [segments, top], by rank; NaN if filtered out
  int32_t* places;                                 // [segments, top], rank among the candidates of the image
  uint32_t* squares;                               // [segments, squares_of(words), 32]
  uint32_t* stays;                                 // [segments, words], bits of those that are kept
  int32_t* squares_made;                           // [segments]
  int32_t* parts_done;                             // [images]: segments and chunks of places that are done
  int32_t* next_chunk;                             // [1]

  __device__ int64_t image(int64_t segment) const { return b.first_image + segment / b.levels; }
  __device__ const Level<T>& level(int64_t segment) const { return b.level[segment % b.levels]; }
  __device__ int64_t wanted(int64_t segment) const { return lower(level(segment).anchors(), b.top); }
  __device__ int candidates(int64_t segment) const {
    return int(lower(wanted(segment), int64_t(listed_counts[segment])));
  }
  // Greater than the number of every finite score.
  static __device__ ScoredRowNumber<C> last() { return ScoredRow<C>::of_key(not_finite<C>(), 0).number(); }
  __device__ ScoredRowNumber<C> number(int64_t segment, int64_t position) const {
    const LogitKey<C> key = finite_key(b.logit(image(segment), level(segment), position));
    return ScoredRow<C>::of_key(key, uint32_t(level(segment).index(position))).number();
  }
  __device__ bool list_fails(int64_t segment) const {
    const int64_t count = listed_counts[segment];
    return count > kListed || (count < wanted(segment) && bars[segment].number() != last());
  }
};

template <typename C> constexpr int kRankEntries = 16384 / int(sizeof(ScoredRow<C>));  // in shared memory at a time
template <typename C> union Shared {
  int sums[32];
  struct {
    ScoredRow<C> entries[kRankEntries<C>];
    int ranks[32];
  } rank;
  nms::WarpBoxes<C> warp_boxes[kMatrixWarps];
  nms::Survivors survivors;
  struct {
    uint32_t seen[kMostSeen];  // kept candidates of an image, a bit each, by place
    int before[kMostSeen];
    BlockScan::TempStorage scan;
  } gather;
};

// The parts are not inlined, so that each uses only the registers that it needs.

// A number that a little more than the wanted anchors go before, estimated from a sample. Numbers contain the anchor's
// index, so equal scores are cut like others. A wrong guess costs time, not exactness.
template <typename T>
[[gnu::noinline]] __device__ ScoredRowNumber<compute_t<T>> guess_bar(const ProposalsAtOnce<T>& a, int64_t segment,
                                                                     int* sums) {
  using Number = ScoredRowNumber<compute_t<T>>;
  constexpr int kAll = kSample<compute_t<T>>, kOwn = kAll / kMatrixThreads;
  const int64_t total = a.level(segment).anchors(), wanted = a.wanted(segment);
  if (total <= 2 * wanted) return a.last();
  Number sample[kOwn];
#pragma unroll
  for (int r = 0; r < kOwn; ++r) {  // multiples of the golden ratio modulo 1 are evenly spread
    const uint32_t at = (threadIdx.x + r * kMatrixThreads) * 2654435769u;
    sample[r] = a.number(segment, int64_t(uint64_t(at) * uint64_t(total) >> 32));
  }
  const float expected = float(wanted) * kAll / float(total);
  const int64_t rank = int64_t(expected + 4 * sqrtf(expected) + 2);
  return find_bound<Number>(0, a.last(), rank, rank + rank / 8, [&](Number bound) {
    int own = 0;
#pragma unroll
    for (int r = 0; r < kOwn; ++r) own += sample[r] < bound;
    return sum_over_block(own, sums);
  });
}

// A number that the wanted anchors go before, from all anchors: at most 64 steps (96 in float64), each of which reads
// the level once.
template <typename T>
[[gnu::noinline]] __device__ ScoredRowNumber<compute_t<T>> exact_bar(const ProposalsAtOnce<T>& a, int64_t segment,
                                                                     int* sums) {
  using Number = ScoredRowNumber<compute_t<T>>;
  const int64_t anchors = a.level(segment).anchors();
  return find_bound<Number>(0, a.last(), a.wanted(segment), kListed, [&](Number bound) {
    int own = 0;
    for (int64_t i = threadIdx.x; i < anchors; i += kMatrixThreads) own += a.number(segment, i) < bound;
    return sum_over_block(own, sums);
  });
}

// Lists the anchors that go before the bars, of all segments or of those that must be listed `again`. The whole grid
// calls this.
template <typename T> [[gnu::noinline]] __device__ void list_anchors(const ProposalsAtOnce<T>& a, bool again) {
  using C = compute_t<T>;
  const int lane = int(threadIdx.x % 32);
  for (int64_t item = blockIdx.x; item < a.images * a.parts; item += gridDim.x) {
    const int64_t image = quotient(item, a.parts), part = item - image * a.parts;
    int64_t l = 0;
    while (part >= a.first_part[l + 1]) ++l;
    const int64_t segment = image * a.b.levels + l;
    if (again && !a.again[segment]) continue;
    const Level<T>& level = a.b.level[l];
    const ScoredRowNumber<C> bar = a.bars[segment].number();
    const LogitKey<C> bar_key = a.bars[segment].key();
    const int64_t begin = (part - a.first_part[l]) * kPart, end = lower(begin + kPart, level.anchors());
    for (int64_t start = begin; start < end; start += kMatrixThreads) {
      const int64_t i = start + threadIdx.x;
      const LogitKey<C> key = i < end ? finite_key(a.b.logit(a.image(segment), level, i)) : not_finite<C>();
      ScoredRow<C> entry = ScoredRow<C>::of_key(key, 0);
      if (key <= bar_key && i < end) entry = ScoredRow<C>::of_key(key, uint32_t(level.index(i)));
      const bool listed = i < end && entry.number() < bar;
      const uint32_t all = __ballot_sync(kFullWarp, listed);
      int place = 0;
      if (lane == 0 && all != 0) place = atomicAdd(a.listed_counts + segment, __popc(all));
      place = __shfl_sync(kFullWarp, place, 0) + __popc(all & ((1u << lane) - 1));
      if (listed && place < kListed) a.listed[segment * kListed + place] = entry;
    }
  }
}

// Ranks 32 listed anchors among all of their segment and decodes those that are wanted. All threads of one block call
// this.
template <typename T>
[[gnu::noinline]] __device__ void rank_and_decode(const ProposalsAtOnce<T>& a, int64_t segment, int word,
                                                  Shared<compute_t<T>>& s) {
  using C = compute_t<T>;
  const ScoredRow<C>* listed = a.listed + segment * kListed;
  const int lane = int(threadIdx.x % 32), warp = int(threadIdx.x / 32), i = 32 * word + lane;
  const int count = a.listed_counts[segment];
  const ScoredRow<C> own = i < count ? listed[i] : ScoredRow<C>::last();
  int before = 0;
  for (int start = 0; start < count; start += kRankEntries<C>) {
    const int size = count - start < kRankEntries<C> ? (count - start + 31) / 32 * 32 : kRankEntries<C>;
    __syncthreads();  // all have read `s`
    for (int k = int(threadIdx.x); k < size; k += kMatrixThreads)
      s.rank.entries[k] = start + k < count ? listed[start + k] : ScoredRow<C>::last();
    if (start == 0 && threadIdx.x < 32) s.rank.ranks[threadIdx.x] = 0;
    __syncthreads();
    for (int strip = warp; strip < size / 32; strip += kMatrixWarps) {
#pragma unroll 4
      for (int k = 0; k < 32; ++k) before += s.rank.entries[32 * strip + k].number() < own.number();
    }
  }
  atomicAdd(s.rank.ranks + lane, before);
  __syncthreads();
  if (warp != 0 || i >= count || s.rank.ranks[lane] >= a.wanted(segment)) return;
  const int64_t image = a.image(segment), rank = s.rank.ranks[lane], at = segment * a.b.top + rank;
  const C logit = score_of(own.key());
  const AnchorDelta<C> one = anchor_delta(a.level(segment), a.b.rules, image, own.row());
  Box<C> box = decode(one.anchor, one.delta, a.b.rules.cap);
  const bool fits = clip_and_filter(box, a.b.limits(image));
  a.boxes[at] = fits ? box : Box<C>{C(NAN), C(NAN), C(NAN), C(NAN)};
  a.b.scores[at] = sigmoid(logit);
  a.places[at] = int32_t(rank);
}

// Adds up the places of candidates among those of all levels of their image: a candidate's rank in its own level, plus
// for every other level how many go before it; equal scores go by level. A thread has one candidate and one other
// level.
template <typename T>
[[gnu::noinline]] __device__ void find_places(const ProposalsAtOnce<T>& a, int64_t image, int64_t chunk) {
  using C = compute_t<T>;
  const int64_t pair = chunk * kMatrixThreads + threadIdx.x, row = quotient(pair, a.b.levels);
  const int64_t other = pair - row * a.b.levels, l = quotient(row, a.b.top), i = row - l * a.b.top;
  const int64_t segment = image * a.b.levels + l, rivals = image * a.b.levels + other;
  if (l >= a.b.levels || l == other || i >= a.candidates(segment)) return;
  const C score = a.b.scores[segment * a.b.top + i];
  int low = 0, high = a.candidates(rivals);
  while (low < high) {
    const int middle = (low + high) / 2;
    const C rival = a.b.scores[rivals * a.b.top + middle];
    if (other < l ? rival >= score : rival > score) low = middle + 1;
    else high = middle;
  }
  atomicAdd(a.places + segment * a.b.top + i, low);
}

// Writes the kept candidates of all levels of an image by place; what stays empty becomes zero. All threads of one
// block call this.
template <typename T>
[[gnu::noinline]] __device__ void gather_image(const ProposalsAtOnce<T>& a, int64_t image, Shared<compute_t<T>>& s) {
  using C = compute_t<T>;
  const int64_t rows = a.b.levels * a.b.top, out = (a.b.first_image + image) * a.b.most;
  const int words = int(ceil_div(rows, 32)), own_words = (words + kMatrixThreads - 1) / kMatrixThreads;
  const auto each_that_stays = [&](const auto& visit) {
    for (int64_t row = threadIdx.x; row < rows; row += kMatrixThreads) {
      const int64_t l = quotient(row, a.b.top), i = row - l * a.b.top, segment = image * a.b.levels + l;
      if ((a.stays[segment * a.words + i / 32] >> i % 32 & 1) != 0) visit(segment * a.b.top + i);
    }
  };
  for (int i = int(threadIdx.x); i < words; i += kMatrixThreads) s.gather.seen[i] = 0;
  __syncthreads();
  each_that_stays([&](int64_t at) { atomicOr(s.gather.seen + a.places[at] / 32, 1u << a.places[at] % 32); });
  __syncthreads();
  int own = 0, before = 0, sum = 0;
  const int first = own_words * int(threadIdx.x), end = lower(first + own_words, words);
  for (int i = first; i < end; ++i) own += __popc(s.gather.seen[i]);
  BlockScan(s.gather.scan).ExclusiveSum(own, before, sum);
  for (int i = first; i < end; ++i) s.gather.before[i] = before, before += __popc(s.gather.seen[i]);
  __syncthreads();
  each_that_stays([&](int64_t at) {
    const int word = a.places[at] / 32;
    const uint32_t lower_bits = (1u << a.places[at] % 32) - 1;
    const int64_t n = s.gather.before[word] + __popc(s.gather.seen[word] & lower_bits);
    if (n >= a.b.most) return;
    const nms::AlignedBox<C> box = a.boxes[at];
    C* to = a.b.out_boxes + 4 * (out + n);
    to[0] = box.x1, to[1] = box.y1, to[2] = box.x2, to[3] = box.y2;
    a.b.out_scores[out + n] = a.b.scores[at];
  });
  const int64_t kept = lower(int64_t(sum), a.b.most);
  for (int64_t n = kept + int64_t(threadIdx.x); n < a.b.most; n += kMatrixThreads) {
    for (int side = 0; side < 4; ++side) a.b.out_boxes[4 * (out + n) + side] = C{};
    a.b.out_scores[out + n] = C{};
  }
  if (threadIdx.x == 0) a.b.out_counts[a.b.first_image + image] = kept;
}

template <typename T>
__global__ void __launch_bounds__(kMatrixThreads, 1) at_once(const __grid_constant__ ProposalsAtOnce<T> a) {
  using C = compute_t<T>;
  __shared__ Shared<C> s;
  __shared__ int most_listed, chunk;
  // 1. The bars. Counters start at 0.
  for (int64_t i = blockIdx.x * int64_t(kMatrixThreads) + threadIdx.x; i < a.segments;
       i += gridDim.x * kMatrixThreads) {
    a.listed_counts[i] = a.squares_made[i] = 0;
    if (i < a.images) a.parts_done[i] = 0;
    if (i == 0) *a.next_chunk = 0;
  }
  for (int64_t segment = blockIdx.x; segment < a.segments; segment += gridDim.x) {
    const ScoredRowNumber<C> bar = guess_bar(a, segment, s.sums);
    if (threadIdx.x == 0) a.bars[segment] = ScoredRow<C>::of_number(bar);
  }
  meet_whole_grid();

  // 2. Lists.
  list_anchors(a, false);
  meet_whole_grid();
  bool fails = false;
  for (int64_t i = threadIdx.x; i < a.segments; i += kMatrixThreads) fails = fails || a.list_fails(i);
  if (__syncthreads_or(fails)) {  // the same in all blocks
    meet_whole_grid();            // all have looked
    for (int64_t segment = blockIdx.x; segment < a.segments; segment += gridDim.x) {
      const bool again = a.list_fails(segment);
      const ScoredRowNumber<C> bar = again ? exact_bar(a, segment, s.sums) : ScoredRowNumber<C>{};
      __syncthreads();  // all threads have looked
      if (threadIdx.x == 0) {
        a.again[segment] = again;
        if (again) a.bars[segment] = ScoredRow<C>::of_number(bar), a.listed_counts[segment] = 0;
      }
    }
    meet_whole_grid();
    list_anchors(a, true);
    meet_whole_grid();
  }

  // 3. Candidates, in order.
  if (threadIdx.x == 0) most_listed = 0;
  __syncthreads();
  int own_most = 0;
  for (int64_t i = threadIdx.x; i < a.segments; i += kMatrixThreads)
    own_most = higher(own_most, int(a.listed_counts[i]));
  atomicMax(&most_listed, own_most);
  __syncthreads();
  const int64_t items = ceil_div(most_listed, 32) * a.segments;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int64_t word = quotient(item, a.segments), segment = item - word * a.segments;
    if (32 * word < a.listed_counts[segment]) rank_and_decode(a, segment, int(word), s);
  }
  meet_whole_grid();

  // 4. Suppression, places, output.
  const auto finish_part = [&](int64_t image) {
    if (last_to_arrive(a.parts_done + image, 1, a.b.levels + a.chunks)) gather_image(a, image, s);
  };
  const auto ordered = [&](int64_t segment) {
    return nms::OrderedBoxes<C>{a.boxes + segment * a.b.top, nullptr, a.candidates(segment), true};
  };
  nms::compare_all(
      a.segments, a.words, a.b.iou_threshold, s.warp_boxes, a.squares, a.squares_made, ordered, [&](int64_t segment) {
        int kept = 0;
        const uint32_t* squares = a.squares + 32 * segment * nms::squares_of(a.words);
        const int words =
            nms::find_survivors<kMostAtOnce / 32>(squares, a.candidates(segment), a.b.most, s.survivors, kept);
        for (int64_t w = threadIdx.x; w < a.words; w += kMatrixThreads)
          a.stays[segment * a.words + w] = w < words ? s.survivors.stays[w] : 0;
        finish_part(segment / a.b.levels);
      });
  for (;;) {
    __syncthreads();
    if (threadIdx.x == 0) chunk = atomicAdd(a.next_chunk, 1);
    __syncthreads();
    const int64_t mine = chunk;
    if (mine >= a.images * a.chunks) break;
    const int64_t image = quotient(mine, a.chunks);
    find_places(a, image, mine - image * a.chunks);
    finish_part(image);
  }
}

// Sets the outputs. One launch per batch of images whose matrices and lists fit into 64 MiB.
template <typename T> void run_at_once(const OnDevice& on, const Tensor& like, const ProposalBatch<T>& b) {
  using C = compute_t<T>;
  ProposalsAtOnce<T> a{};
  a.b = b, a.words = ceil_div(b.top, 32);
  for (int64_t l = 0; l < b.levels; ++l) a.first_part[l + 1] = a.first_part[l] + ceil_div(b.level[l].anchors(), kPart);
  a.parts = a.first_part[b.levels], a.chunks = b.levels > 1 ? ceil_div(b.levels * b.levels * b.top, kMatrixThreads) : 0;
  const int64_t each = nms::squares_of(a.words);
  const int64_t bytes = b.levels * (128 * each + kListed * int64_t(sizeof(ScoredRow<C>)));
  const int64_t batch = lower(b.images, higher<int64_t>(2 * nms::kMatrixBytes / bytes, 1));
  const int64_t segments = batch * b.levels, rows = segments * b.top;
  const Tensor listed = scratch_bytes(like, int64_t(sizeof(ScoredRow<C>)) * kListed * segments);
  const Tensor bars = scratch_bytes(like, int64_t(sizeof(ScoredRow<C>)) * segments),
               again = scratch_bytes(like, segments);
  const Tensor boxes = scratch_bytes(like, int64_t(sizeof(nms::AlignedBox<C>)) * rows),
               places = scratch_bytes(like, 4 * rows);
  const Tensor scores = scratch_bytes(like, int64_t(sizeof(C)) * rows);
  const Tensor squares = scratch_bytes(like, 128 * each * segments),
               stays = scratch_bytes(like, 4 * segments * a.words);
  const Tensor counters = scratch_bytes(like, 4 * (2 * segments + batch + 1));
  a.listed = mutable_data<ScoredRow<C>>(listed), a.bars = mutable_data<ScoredRow<C>>(bars),
  a.again = mutable_data<bool>(again);
  a.boxes = mutable_data<nms::AlignedBox<C>>(boxes), a.places = mutable_data<int32_t>(places);
  a.b.scores = mutable_data<C>(scores);
  a.squares = mutable_data<uint32_t>(squares), a.stays = mutable_data<uint32_t>(stays);
  a.listed_counts = mutable_data<int32_t>(counters), a.squares_made = a.listed_counts + segments;
  a.parts_done = a.squares_made + segments, a.next_chunk = a.parts_done + batch;
  for (a.b.first_image = 0; a.b.first_image < b.images; a.b.first_image += batch) {
    a.images = lower(batch, b.images - a.b.first_image), a.segments = a.images * b.levels;
    launch_together(on, &at_once<T>, higher(a.images * a.parts, a.segments * ceil_div(each, 4)), kMatrixThreads, a);
  }
}

}  // namespace pyrcnn::generate_proposals
