// Suppression by pairs: what lies between the kernels of pairs.h. Uses std, so it is for *_cpu.cpp.
#pragma once
#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "common/cpu/team.h"
#include "nms_kernel.h"

namespace pyrcnn::nms {

template <typename T> std::unique_ptr<T[]> scratch(int64_t count) { return std::unique_ptr<T[]>(new T[count]); }

constexpr double kPairsCost = 40;      // nanoseconds for a box: to sort it and to find its pairs
constexpr int64_t kPairedBoxes = 160;  // from here on tiles along the curve repay the time to make them

// Are there so few pairs that finding all of them pays? From how many in a sample of the candidates suppress each
// other. What it competes with takes longer per box the more boxes there are.
template <typename T> bool few_pairs(const Candidates<T>& candidates, compute_t<T> threshold) {
  constexpr int64_t kMost = 512;
  const int64_t n = candidates.count, some = std::clamp<int64_t>(n / 12, 32, kMost), apart = n / some;
  uint32_t sample[kMost], kept[kMost];
  for (int64_t i = 0; i < some; ++i) {  // one of every `apart`, not always the same: boxes may lie in rows
    const int64_t at = i * n / some + (int64_t(uint32_t(i) * 2654435769u) * apart >> 32);
    sample[i] = candidates.rows == nullptr ? uint32_t(at) : candidates.rows[at];
  }
  const auto tiles = scratch<Tile<compute_t<T>>>(tiles_for(some));
  const int64_t gone =
      some - PYRCNN_KERNEL_OF(nms, greedy<T>)({candidates.boxes, sample, some}, threshold, some, tiles.get(), kept);
  const double pairs = double(gone) * double(n) / double(some) * double(n) / double(some);
  return pairs < std::min(1 + double(n) / 2500, 6.0) * double(n);
}

// Tiles [first, last) are to be held against each other and against those before `end`.
struct Stretch {
  int64_t first, last, end;
};
constexpr int64_t kStretch = 8;  // tiles, at most

// Which candidates go to which tiles. Their order does not matter here, so this can be found out while their scores are
// sorted.
template <typename C> struct Layout {
  std::unique_ptr<uint32_t[]> numbers;  // of the candidate in each place of a tile
  std::unique_ptr<Tile<C>[]> tiles;
  std::unique_ptr<C[]> extents;
  Strewn<C> all;
  std::vector<Stretch> stretches;
  int64_t candidates, groups;
};

// Candidate i is of the group group_of[i], and there are sizes[g] candidates of group g; null where there is one group.
template <typename T>
Layout<compute_t<T>> lay_out(const Candidates<T>& candidates, const uint32_t* group_of,
                             const std::vector<uint32_t>& sizes) {
  using C = compute_t<T>;
  const int64_t n = candidates.count;
  Layout<C> result;
  result.candidates = n, result.groups = int64_t(sizes.size());
  std::vector<int64_t> next;  // where the next candidate of each group goes
  int64_t count = 0;
  for (const uint32_t size : sizes) {
    const int64_t end = count + tiles_for(size);
    next.push_back(count * kTile);
    for (; count < end; count += kStretch) result.stretches.push_back({count, std::min(count + kStretch, end), end});
    count = end;
  }

  result.numbers = scratch<uint32_t>(count * kTile);
  {
    uint32_t* numbers = result.numbers.get();
    const auto keys = scratch<uint32_t>(tiles_for(n) * kTile), bins = scratch<uint32_t>(kBins);
    const auto line = scratch<uint32_t>(group_of == nullptr ? 0 : n);
    PYRCNN_KERNEL(strew<T>)(candidates, keys.get(), bins.get(), group_of == nullptr ? numbers : line.get());
    std::fill(numbers + (group_of == nullptr ? n : 0), numbers + count * kTile, kNobody);
    if (group_of != nullptr)
      for (int64_t i = 0; i < n; ++i) numbers[next[group_of[line[i]]]++] = line[i];
  }
  const int64_t nodes = ceil_div(count, kTile) * kTile;
  result.tiles = scratch<Tile<C>>(count);
  constexpr int64_t kLine = 64 / sizeof(C);  // of the cache: threads that fill neighbouring tiles share none
  result.extents = scratch<C>(kExtents * nodes + kLine);
  C* rows = result.extents.get() + (-reinterpret_cast<uintptr_t>(result.extents.get()) % 64) / sizeof(C);
  result.all = {count, result.numbers.get(), result.tiles.get(), {rows, nodes}};
  for (int e = 0; e < kExtents; ++e) std::fill(rows + e * nodes + count, rows + (e + 1) * nodes, C(NAN));
  return result;
}

// Memory of tiles that nobody needs any more, for the edges that are found: tasks are begun in order, and each is about
// its own tiles and later ones alone.
template <typename C> class Reused {
  std::mutex mutex_;
  Tile<C>* const tiles_;
  std::vector<int64_t> begins_;  // the first tile of each task, and the number of tiles
  std::vector<uint8_t> done_;
  size_t first_open_ = 0;  // task: those before it are done
  int64_t used_ = 0;       // bytes

 public:
  Reused(Tile<C>* tiles, std::vector<int64_t> begins)
      : tiles_(tiles), begins_(std::move(begins)), done_(begins_.size()) {}

  void add(int64_t task) {
    const std::lock_guard<std::mutex> lock(mutex_);
    done_[task] = 1;
    while (done_[first_open_]) ++first_open_;
  }
  // Null where there is too little.
  void* take(int64_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (used_ + bytes > begins_[first_open_] * int64_t(sizeof(Tile<C>))) return nullptr;
    return reinterpret_cast<char*>(tiles_) + (used_ += bytes) - bytes;
  }
};

// The edges of one stretch or a few, each a word whose upper half is `better`.
template <typename Word> struct Found {
  static constexpr int kHalf = 4 * sizeof(Word);
  Word* words = nullptr;
  int64_t count = 0;
  std::unique_ptr<Word[]> own;  // null where the words are in reused memory

  void take(const Edge* edges, int64_t n, void* room) {
    if (room == nullptr) own = scratch<Word>(n), room = own.get();
    words = new (room) Word[n], count = n;
    for (int64_t i = 0; i < n; ++i) words[i] = Word(edges[i].better) << kHalf | Word(edges[i].worse);
  }
};

// The search for the edges of all stretches, given up if they are more than kRoom for each tile. A thread searches with
// room for as many as a stretch mostly has, and again with more where that is too little: what is kept is as large as
// it must be.
template <typename Word, typename C> class Search {
  static constexpr int64_t kRoom = 8 * kTile, kUsual = kStretch * kRoom, kMost = 8 * kUsual;
  static constexpr int64_t kTasks = 64;  // at most: threads ask each other for the next, and later ones are shorter
  const Layout<C>& layout_;
  const C threshold_;
  const int64_t stretches_, together_;
  Reused<C> reused_;
  std::atomic<int64_t> total_{0};

  std::vector<int64_t> begins() const {
    std::vector<int64_t> result;
    for (int64_t i = 0; i < stretches_; i += together_) result.push_back(layout_.stretches[i].first);
    result.push_back(layout_.all.tile_count);
    return result;
  }

 public:
  std::vector<Found<Word>> found;

  Search(const Layout<C>& layout, C threshold)
      : layout_(layout),
        threshold_(threshold),
        stretches_(int64_t(layout.stretches.size())),
        together_(ceil_div(stretches_, kTasks)),
        reused_(layout.tiles.get(), begins()),
        found(stretches_) {}

  int64_t tasks() const { return ceil_div(stretches_, together_); }
  bool given_up() const { return total_ > layout_.all.tile_count * kRoom; }

  // One thread's.
  class Part {
    Search& all_;
    std::unique_ptr<uint32_t[]> near_;
    std::unique_ptr<Edge[]> edges_;
    int64_t room_ = kUsual, held_ = 0, last_ = 0;

    int64_t find(const Stretch& s) {
      return PYRCNN_KERNEL(find_edges<C>)(all_.layout_.all, s.first, s.last, s.end, all_.threshold_, near_.get(),
                                          edges_.get() + held_, room_ - held_);
    }
    void search_stretch(int64_t stretch) {
      const Stretch& s = all_.layout_.stretches[stretch];
      int64_t n = find(s);
      if (n < 0 && held_ > 0) put_down(), n = find(s);
      for (; n < 0 && room_ < kMost; n = find(s)) room_ *= 2, edges_.reset(), edges_ = scratch<Edge>(room_);
      all_.total_ += n >= 0 ? n : all_.layout_.all.tile_count * kRoom + 1;
      held_ += higher<int64_t>(n, 0), last_ = stretch;
      if (held_ > room_ / 2) put_down();
    }

   public:
    explicit Part(Search& all) : all_(all) {}

    void search(int64_t task) {
      if (!near_) near_ = scratch<uint32_t>(all_.layout_.all.tile_count + kSpare), edges_ = scratch<Edge>(room_);
      const int64_t begin = task * all_.together_, end = std::min(begin + all_.together_, all_.stretches_);
      for (int64_t i = begin; i < end && !all_.given_up(); ++i) search_stretch(i);
      all_.reused_.add(task);
    }
    void put_down() {
      if (held_ > 0) all_.found[last_].take(edges_.get(), held_, all_.reused_.take(held_ * int64_t(sizeof(Word))));
      held_ = 0;
    }
  };
};

// Which of n ranks are gone. The edges are sorted by `better`, through counting: when its turn comes, all that may
// suppress it has had its own. What is sorted is whole edges, which are walked without a branch, or where they are many
// the `worse` of each alone: half the memory, and long lists.
template <typename Word> class Walk {
  static constexpr int kHalf = Found<Word>::kHalf;
  using Half = std::conditional_t<sizeof(Word) == 4, uint16_t, uint32_t>;
  std::vector<Found<Word>> found_;
  std::vector<uint32_t> ends_;
  std::vector<uint8_t> gone_;

  template <typename Kept> std::unique_ptr<Kept[]> sorted() {
    auto result = scratch<Kept>(ends_.back());
    for (Found<Word>& part : found_) {
      for (int64_t i = 0; i < part.count; ++i) result[ends_[part.words[i] >> kHalf]++] = Kept(part.words[i]);
      part.own.reset();
    }
    return result;
  }

 public:
  Walk(std::vector<Found<Word>> found, int64_t n) : found_(std::move(found)), ends_(n + 1), gone_(n) {
    for (const Found<Word>& part : found_)
      for (int64_t i = 0; i < part.count; ++i) ++ends_[(part.words[i] >> kHalf) + 1];
    for (int64_t i = 0; i < n; ++i) ends_[i + 1] += ends_[i];
    const int64_t total = ends_[n];
    int64_t at = 0;
    if (total > 2 * n) {
      const auto worse = sorted<Half>();
      for (int64_t i = 0; i < n; ++i)
        for (const uint8_t stays = 1 ^ gone_[i]; at < ends_[i]; ++at) gone_[worse[at]] |= stays;
    } else {
      const auto edges = sorted<Word>();
      for (; at < total; ++at) gone_[Half(edges[at])] |= 1 ^ gone_[edges[at] >> kHalf];
    }
  }
  std::vector<uint8_t> gone() { return std::move(gone_); }
};

// Which candidates are suppressed, by way of their pairs. Word: of two ranks.
template <typename T, typename Word> class Pairs {
  using C = compute_t<T>;
  static constexpr int64_t kFilled = 32;  // tiles that are filled at a time
  const Candidates<T> candidates_;
  const C threshold_;
  std::optional<Search<Word, C>> search_;

 public:
  // To be set before find(). rank_of[i] is the rank of candidate i; null where the candidates are in order of rank.
  std::optional<Layout<C>> layout;
  std::unique_ptr<uint32_t[]> rank_of;

  Pairs(const Candidates<T>& candidates, C threshold) : candidates_(candidates), threshold_(threshold) {}

  void find(Team::Member& member) {
    const int64_t tiles = layout->all.tile_count;
    member.share(ceil_div(tiles, kFilled), [&](int64_t task) {
      const int64_t first = task * kFilled, last = std::min(first + kFilled, tiles);
      PYRCNN_KERNEL(fill_tiles<T>)(candidates_, threshold_, first, last, layout->all);
      if (rank_of == nullptr) return;
      uint32_t* numbers = layout->numbers.get();
      for (int64_t i = first * kTile; i < last * kTile; ++i)  // from here on the places hold ranks
        if (numbers[i] != kNobody) numbers[i] = rank_of[numbers[i]];
    });
    member.share(1, [&](int64_t) { rank_of.reset(), search_.emplace(*layout, threshold_); });
    if (member.failed()) return;
    typename Search<Word, C>::Part part(*search_);
    member.share(search_->tasks(), [&](int64_t i) { part.search(i); }, [&] { part.put_down(); });
  }

  // By rank, 1 or 0, after find(). Nothing at all if there are too many pairs to tell.
  std::vector<uint8_t> gone() {
    if (search_->given_up()) return {};
    layout->extents.reset(), layout->numbers.reset();  // before more is taken; edges lie where tiles were
    return Walk<Word>(std::move(search_->found), candidates_.count).gone();
  }
};

// take_word(Word) for the smallest Word that holds two ranks.
template <typename F> auto for_pairs_of(int64_t candidates, const F& take_word) {
  return candidates <= 1 << 16 ? take_word(uint32_t{}) : take_word(uint64_t{});
}

}  // namespace pyrcnn::nms
