#include "sleep.h"

#include <algorithm>
#include <thread>

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#endif

namespace s2s::cpu::threads {

#ifdef __linux__

static_assert(sizeof(std::atomic<int32_t>) == sizeof(int32_t) && std::atomic<int32_t>::is_always_lock_free);

void sleep_while(std::atomic<int32_t>& word, int32_t value, nanoseconds most) {
  timespec time{}, *limit = nullptr;
  if (most != nanoseconds::max()) {
    time.tv_sec = most.count() / 1'000'000'000, time.tv_nsec = most.count() % 1'000'000'000;
    limit = &time;
  }
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, limit, nullptr, 0);
}

void wake(std::atomic<int32_t>* word, int32_t count) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

#else  // short sleeps, which nobody need end

void sleep_while(std::atomic<int32_t>&, int32_t, nanoseconds most) {
  std::this_thread::sleep_for(std::min<nanoseconds>(most, kAwake));
}

void wake(std::atomic<int32_t>*, int32_t) {}

#endif

}  // namespace s2s::cpu::threads
