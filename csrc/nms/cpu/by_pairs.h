// The method "by pairs": finds all pairs of boxes of which one would suppress the other, then resolves them in score
// order. Uses std, so it is for *_cpu.cpp.
//
// 1. lay_out() puts the candidates into bundles of boxes that are near each other and similar in size.
// 2. fill_bundles() copies them there; find_pairs() compares bundles. Most are too far apart, or too different in size,
//    for any of their pairs to suppress. Pairs are independent, so they are found in parallel; comparing a candidate
//    with the boxes kept before it is sequential.
// 3. PairResolver goes through the pairs from the best box down.
//
// This is faster where most boxes are kept, and slower where most are suppressed.
#pragma once
#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "common/cpu/team.h"
#include "choose.h"

namespace pyrcnn::nms {

// Bundles [first, last), at most kRangeBundles, are compared with each other and with the later ones before `end`.
struct BundleRange {
  int64_t first, last, end;
};
constexpr int64_t kRangeBundles = 8;

// Which candidates go to which bundles. This does not depend on the scores, so that one thread can lay out the bundles
// while another sorts the scores.
template <typename C> struct BundleLayout {
  std::unique_ptr<uint32_t[]> numbers;  // BundledBoxes::numbers
  std::unique_ptr<BoxBundle<C>[]> bundles;
  std::unique_ptr<C[]> bounds;
  BundledBoxes<C> all;
  std::vector<BundleRange> ranges;
  int64_t candidates, groups;
};

// Candidate i belongs to group group_of[i], and group g has sizes[g] candidates. group_of is null if there is one
// group.
template <typename T>
BundleLayout<compute_t<T>> lay_out(const Candidates<T>& candidates, const uint32_t* group_of,
                                   const std::vector<uint32_t>& sizes) {
  using C = compute_t<T>;
  const int64_t n = candidates.count;
  BundleLayout<C> result;
  result.candidates = n, result.groups = int64_t(sizes.size());
  std::vector<int64_t> next;  // slot of the next candidate of each group
  int64_t count = 0;
  for (const uint32_t size : sizes) {
    const int64_t end = count + bundles_for(size);
    next.push_back(count * kBundle);
    for (; count < end; count += kRangeBundles)
      result.ranges.push_back({count, std::min(count + kRangeBundles, end), end});
    count = end;
  }

  result.numbers = scratch<uint32_t>(count * kBundle);
  {
    uint32_t* numbers = result.numbers.get();
    const auto keys = scratch<uint32_t>(bundles_for(n) * kBundle), bins = scratch<uint32_t>(kBins);
    const auto sorted = scratch<uint32_t>(group_of == nullptr ? 0 : n);
    PYRCNN_KERNEL(sort_along_curve<T>)(candidates, keys.get(), bins.get(),
                                       group_of == nullptr ? numbers : sorted.get());
    std::fill(numbers + (group_of == nullptr ? n : 0), numbers + count * kBundle, kNoBox);
    if (group_of != nullptr)
      for (int64_t i = 0; i < n; ++i) numbers[next[group_of[sorted[i]]]++] = sorted[i];
  }
  const int64_t nodes = ceil_div(count, kBundle) * kBundle;
  result.bundles = scratch<BoxBundle<C>>(count);
  // Each row begins at a cache line, so that threads that fill neighbouring bundles do not share one.
  constexpr int64_t kLine = 64 / sizeof(C);
  result.bounds = scratch<C>(kBoundRows * nodes + kLine);
  C* rows = result.bounds.get() + (-reinterpret_cast<uintptr_t>(result.bounds.get()) % 64) / sizeof(C);
  result.all = {count, result.numbers.get(), result.bundles.get(), {rows, nodes}};
  for (int e = 0; e < kBoundRows; ++e) std::fill(rows + e * nodes + count, rows + (e + 1) * nodes, C(NAN));
  return result;
}

// Hands out the memory of bundles that are not read any more, to hold the pairs that were found. Threads take tasks in
// order, and a task reads only its own bundles and later ones.
template <typename C> class ReusedMemory {
  std::mutex mutex_;
  BoxBundle<C>* const bundles_;
  std::vector<int64_t> begins_;  // the first bundle of each task, then the number of bundles
  std::vector<uint8_t> done_;
  size_t first_open_ = 0;  // the tasks before it are done
  int64_t used_ = 0;       // bytes

 public:
  ReusedMemory(BoxBundle<C>* bundles, std::vector<int64_t> begins)
      : bundles_(bundles), begins_(std::move(begins)), done_(begins_.size()) {}

  void finish(int64_t task) {
    const std::lock_guard<std::mutex> lock(mutex_);
    done_[task] = 1;
    while (done_[first_open_]) ++first_open_;
  }
  // Returns null if not enough memory is free.
  void* take(int64_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (used_ + bytes > begins_[first_open_] * int64_t(sizeof(BoxBundle<C>))) return nullptr;
    return reinterpret_cast<char*>(bundles_) + (used_ += bytes) - bytes;
  }
};

// The pairs of one or several ranges, each a word whose upper half is `better`.
template <typename Word> struct FoundPairs {
  static constexpr int kHalf = 4 * sizeof(Word);
  Word* words = nullptr;
  int64_t count = 0;
  std::unique_ptr<Word[]> own;  // null if the words are in reused memory

  void take(const SuppressingPair* pairs, int64_t n, void* room) {
    if (room == nullptr) own = scratch<Word>(n), room = own.get();
    words = new (room) Word[n], count = n;
    for (int64_t i = 0; i < n; ++i) words[i] = Word(pairs[i].better) << kHalf | Word(pairs[i].worse);
  }
};

// Finds the pairs of all ranges. Gives up if there are more than kRoom per bundle. A thread searches a range with room
// for kUsual pairs, and again with more room if there are more. The pairs that were found are then stored without spare
// room.
template <typename Word, typename C> class PairSearch {
  static constexpr int64_t kRoom = 8 * kBundle, kUsual = kRangeBundles * kRoom, kMost = 8 * kUsual;
  static constexpr int64_t kTasks = 64;  // at most, because taking a task costs time
  const BundleLayout<C>& layout_;
  const C threshold_;
  const int64_t ranges_, together_;
  ReusedMemory<C> reused_;
  std::atomic<int64_t> total_{0};

  std::vector<int64_t> begins() const {
    std::vector<int64_t> result;
    for (int64_t i = 0; i < ranges_; i += together_) result.push_back(layout_.ranges[i].first);
    result.push_back(layout_.all.bundle_count);
    return result;
  }

 public:
  std::vector<FoundPairs<Word>> found;

  PairSearch(const BundleLayout<C>& layout, C threshold)
      : layout_(layout),
        threshold_(threshold),
        ranges_(int64_t(layout.ranges.size())),
        together_(ceil_div(ranges_, kTasks)),
        reused_(layout.bundles.get(), begins()),
        found(ranges_) {}

  int64_t tasks() const { return ceil_div(ranges_, together_); }
  bool given_up() const { return total_ > layout_.all.bundle_count * kRoom; }

  // One thread's part.
  class Worker {
    PairSearch& all_;
    std::unique_ptr<uint32_t[]> near_;
    std::unique_ptr<SuppressingPair[]> pairs_;
    int64_t room_ = kUsual, held_ = 0, last_ = 0;

    int64_t find(const BundleRange& s) {
      return PYRCNN_KERNEL(find_pairs<C>)(all_.layout_.all, s.first, s.last, s.end, all_.threshold_, near_.get(),
                                          pairs_.get() + held_, room_ - held_);
    }
    void search_range(int64_t range) {
      const BundleRange& s = all_.layout_.ranges[range];
      int64_t n = find(s);
      if (n < 0 && held_ > 0) store_held(), n = find(s);
      for (; n < 0 && room_ < kMost; n = find(s)) room_ *= 2, pairs_.reset(), pairs_ = scratch<SuppressingPair>(room_);
      all_.total_ += n >= 0 ? n : all_.layout_.all.bundle_count * kRoom + 1;
      held_ += higher<int64_t>(n, 0), last_ = range;
      if (held_ > room_ / 2) store_held();
    }

   public:
    explicit Worker(PairSearch& all) : all_(all) {}

    void search(int64_t task) {
      if (!near_)
        near_ = scratch<uint32_t>(all_.layout_.all.bundle_count + kSpare), pairs_ = scratch<SuppressingPair>(room_);
      const int64_t begin = task * all_.together_, end = std::min(begin + all_.together_, all_.ranges_);
      for (int64_t i = begin; i < end && !all_.given_up(); ++i) search_range(i);
      all_.reused_.finish(task);
    }
    void store_held() {
      if (held_ > 0) all_.found[last_].take(pairs_.get(), held_, all_.reused_.take(held_ * int64_t(sizeof(Word))));
      held_ = 0;
    }
  };
};

// Which of n ranks are suppressed. Counting sorts the pairs by `better`: when the turn of a box comes, every box that
// may suppress it has had its turn. Up to 2 n pairs are sorted whole and resolved without a branch. Of more pairs only
// `worse` is sorted, into a list per box, in half the memory; for few pairs that is 2 to 5 % slower.
template <typename Word> class PairResolver {
  static constexpr int kHalf = FoundPairs<Word>::kHalf;
  using Rank = std::conditional_t<sizeof(Word) == 4, uint16_t, uint32_t>;
  std::vector<FoundPairs<Word>> found_;
  std::vector<uint32_t> ends_;
  std::vector<uint8_t> suppressed_;

  // The lower parts of all pairs, as much of them as a Kept holds, by `better`.
  template <typename Kept> std::unique_ptr<Kept[]> sorted() {
    auto result = scratch<Kept>(ends_.back());
    for (FoundPairs<Word>& part : found_) {
      for (int64_t i = 0; i < part.count; ++i) result[ends_[part.words[i] >> kHalf]++] = Kept(part.words[i]);
      part.own.reset();
    }
    return result;
  }

 public:
  PairResolver(std::vector<FoundPairs<Word>> found, int64_t n)
      : found_(std::move(found)), ends_(n + 1), suppressed_(n) {
    for (const FoundPairs<Word>& part : found_)
      for (int64_t i = 0; i < part.count; ++i) ++ends_[(part.words[i] >> kHalf) + 1];
    for (int64_t i = 0; i < n; ++i) ends_[i + 1] += ends_[i];
    const int64_t total = ends_[n];
    int64_t at = 0;
    if (total > 2 * n) {
      const auto worse = sorted<Rank>();
      for (int64_t i = 0; i < n; ++i)
        for (const uint8_t stays = 1 ^ suppressed_[i]; at < ends_[i]; ++at) suppressed_[worse[at]] |= stays;
    } else {
      const auto pairs = sorted<Word>();
      for (; at < total; ++at) suppressed_[Rank(pairs[at])] |= 1 ^ suppressed_[pairs[at] >> kHalf];
    }
  }
  std::vector<uint8_t> suppressed() { return std::move(suppressed_); }
};

// The whole method. A Word holds two ranks.
template <typename T, typename Word> class ByPairs {
  using C = compute_t<T>;
  static constexpr int64_t kFilled = 32;  // bundles that a task fills
  const Candidates<T> candidates_;
  const C threshold_;
  std::optional<PairSearch<Word, C>> search_;

 public:
  // The caller sets these before find(). rank_of[i] is the rank of candidate i, or null if candidates come by rank.
  std::optional<BundleLayout<C>> layout;
  std::unique_ptr<uint32_t[]> rank_of;

  ByPairs(const Candidates<T>& candidates, C threshold) : candidates_(candidates), threshold_(threshold) {}

  // Every thread of a team calls this.
  void find(Team::Member& member) {
    const int64_t bundles = layout->all.bundle_count;
    member.share(ceil_div(bundles, kFilled), [&](int64_t task) {
      const int64_t first = task * kFilled, last = std::min(first + kFilled, bundles);
      PYRCNN_KERNEL(fill_bundles<T>)(candidates_, threshold_, first, last, layout->all);
      if (rank_of == nullptr) return;
      uint32_t* numbers = layout->numbers.get();
      for (int64_t i = first * kBundle; i < last * kBundle; ++i)  // candidates become ranks
        if (numbers[i] != kNoBox) numbers[i] = rank_of[numbers[i]];
    });
    member.share(1, [&](int64_t) { rank_of.reset(), search_.emplace(*layout, threshold_); });
    if (member.failed()) return;
    typename PairSearch<Word, C>::Worker worker(*search_);
    member.share(search_->tasks(), [&](int64_t i) { worker.search(i); }, [&] { worker.store_held(); });
  }

  // After find(): 1 or 0 for each rank, or an empty vector if find() gave up.
  std::vector<uint8_t> suppressed() {
    if (search_->given_up()) return {};
    layout->bounds.reset(), layout->numbers.reset();  // not needed any more; the pairs may lie in the bundles
    return PairResolver<Word>(std::move(search_->found), candidates_.count).suppressed();
  }
};

// Calls take_word(Word{}) with the smallest Word that holds two ranks.
template <typename F> auto with_word_for(int64_t candidates, const F& take_word) {
  return candidates <= 1 << 16 ? take_word(uint32_t{}) : take_word(uint64_t{});
}

// For one group of candidates in score order: 1 or 0 for each, or an empty vector if there are too many pairs.
template <typename T>
std::vector<uint8_t> suppressed_by_pairs(const Candidates<T>& candidates, compute_t<T> threshold) {
  return with_word_for(candidates.count, [&](auto word) {
    ByPairs<T, decltype(word)> method(candidates, threshold);
    method.layout = lay_out(candidates, nullptr, {uint32_t(candidates.count)});
    Team::run(kPairsCost * double(candidates.count), [&](Team::Member& member) { method.find(member); });
    return method.suppressed();
  });
}

}  // namespace pyrcnn::nms
