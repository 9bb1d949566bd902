// The two kinds of work that threads share.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "barrier.h"
#include "pool.h"

namespace s2s::cpu::threads {

// Parts that need not run at the same time: each is done by who comes first. Everybody begins with the part of his
// number, of which he may have something in his cache.
template <class F>
class Parts final : public Job {
 public:
  Parts(int64_t count, int64_t most, const F& f)
      : Job(std::min(count, most) - 1), count_(count), f_(f), taken_(new std::atomic<bool>[count]()) {}

 private:
  void lead() override { help(0); }
  void help(int32_t index) override {
    for (int64_t i = 0; i < count_; i++) {
      int64_t part = (index + i) % count_;
      if (!taken_[part].load(std::memory_order_relaxed) && !taken_[part].exchange(true, std::memory_order_relaxed))
        f_(part);
    }
  }
  void failed() override {
    for (int64_t i = 0; i < count_; i++) taken_[i].store(true, std::memory_order_relaxed);
  }

  const int64_t count_;
  const F& f_;
  std::unique_ptr<std::atomic<bool>[]> taken_;
};

// f(index, count) in threads that run at the same time, those that come soon; `work` in floating-point operations.
template <class F>
class Crew final : public Job {
 public:
  Crew(int64_t most, double work, std::vector<Barrier>& barriers, const F& f)
      : Job(most - 1), most_(most), work_(work), barriers_(barriers), f_(f) {}

 private:
  nanoseconds lost(nanoseconds took) const override {
    if (count_.load() < most_) return took;  // one did not come, or found all done
    nanoseconds slept{0};
    for (const Barrier& barrier : barriers_) slept += barrier.slept();
    slept /= most_ - 1;
    return slept < took / 4 ? nanoseconds(0) : slept;
  }
  // Until when to wait for others to join, a fifth of what it takes one thread: helpers that are awake come in one
  // microsecond, others in a hundred.
  nanoseconds patience() const { return std::clamp(nanoseconds(int64_t(work_ / 100)), 3 * kAwake, 400 * kAwake); }

  void lead() override {
    wait_for_helpers(patience());
    count_.store(close() + 1);
    wake(&count_, 0x7fffffff);
    f_(int64_t{0}, int64_t{count_.load()});
  }
  void help(int32_t index) override {
    if (!stay_awake([this] { return count_.load(std::memory_order_acquire) != 0; }, awake()))
      while (count_.load() == 0) sleep_while(count_, 0);
    f_(int64_t{index}, int64_t{count_.load()});
  }
  void failed() override {
    for (Barrier& barrier : barriers_) barrier.break_up();
  }

  const int64_t most_;
  const double work_;
  std::atomic<int32_t> count_{0};
  std::vector<Barrier>& barriers_;
  const F& f_;
};

}  // namespace s2s::cpu::threads
