// Waiting for another thread: for a bounded time awake, then asleep until it is woken.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace s2s::cpu::threads {

using std::chrono::nanoseconds;

// How long a thread that waits stays awake. A sleeper costs who wakes it 15 us, and begins 25 to 90 us later; nobody
// who has a core computes between two barriers for longer than this, but for a few stages of large models.
constexpr nanoseconds kAwake{50'000};
// That, or less while there are fewer cores than threads that want one.
nanoseconds awake();

// Sleeps while `word` is `value`, at most so long; may return early. std::atomic::wait would first call sched_yield,
// for which the scheduler of Linux makes a thread wait a whole time slice longer for its next turn.
void sleep_while(std::atomic<int32_t>& word, int32_t value, nanoseconds most = nanoseconds::max());
// Wakes so many that sleep; the address alone is used, so that what is there may be gone already.
void wake(std::atomic<int32_t>* word, int32_t count);

// Waits awake until `done()`, at most so long; returns whether it is.
template <class F>
bool stay_awake(const F& done, nanoseconds most);

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

template <class F>
bool stay_awake(const F& done, nanoseconds most) {
  if (done()) return true;
  // A look at the clock takes as long as some looks at the word. relax() takes 5 to 150 ns, by processor.
  auto end = std::chrono::steady_clock::now() + most;
  do {
    for (int i = 0; i < 8; i++) {
      if (done()) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() < end);
  return done();
}

}  // namespace s2s::cpu::threads
