// A barrier whose waiters sleep when it takes long, and which breaks when one of its threads fails.
#pragma once

#include <exception>

#include "sleep.h"

namespace s2s::cpu::threads {

// What the others of a team end with when one has thrown; the caller gets what that one threw.
struct Broken : std::exception {
  const char* what() const noexcept override { return "another thread of the team failed"; }
};

class Barrier {
 public:
  // Waits until `size` threads do.
  void wait(int64_t size) {
    if (size == 1) return;
    int32_t turn = turn_.load(std::memory_order_acquire);
    if (turn == kBroken) throw Broken();
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size) {
      arrived_.store(0, std::memory_order_relaxed);
      int32_t expected = turn;
      if (!turn_.compare_exchange_strong(expected, (turn + 1) & kTurns)) throw Broken();
      if (sleepers_.load() > 0) wake(&turn_, kEverybody);
      return;
    }
    auto over = [&] { return turn_.load(std::memory_order_acquire) != turn; };
    if (!over() && !stay_awake(over, awake())) {
      auto begin = std::chrono::steady_clock::now();
      sleepers_.fetch_add(1);  // before the next look at turn_, as the last thread writes turn_ before it looks here
      while (turn_.load() == turn) sleep_while(turn_, turn);
      sleepers_.fetch_sub(1);
      slept_.fetch_add((std::chrono::steady_clock::now() - begin) / nanoseconds(1), std::memory_order_relaxed);
    }
    if (turn_.load(std::memory_order_acquire) == kBroken) throw Broken();
  }

  // How long all that waited slept.
  nanoseconds slept() const { return nanoseconds(slept_.load(std::memory_order_relaxed)); }

  void break_up() {
    turn_.store(kBroken);
    wake(&turn_, kEverybody);
  }

 private:
  static constexpr int32_t kBroken = -1, kTurns = 0x3fffffff, kEverybody = 0x7fffffff;

  alignas(64) std::atomic<int32_t> arrived_{0};
  alignas(64) std::atomic<int32_t> turn_{0};
  std::atomic<int32_t> sleepers_{0};
  std::atomic<int64_t> slept_{0};
};

}  // namespace s2s::cpu::threads
