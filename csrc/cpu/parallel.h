// Threads for recurrences: groups of threads own rows of the batch through all steps and meet nowhere else.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "threads/limits.h"

namespace s2s::cpu {

// begin and end of part `index` of `parts` near-equal parts of 0..n.
inline std::pair<int64_t, int64_t> split(int64_t n, int64_t parts, int64_t index) {
  return {n * index / parts, n * (index + 1) / parts};
}

// For ThreadSanitizer (make sanitize), which sees how these threads begin and end, but not how libgomp's do.
#ifdef S2S_STD_THREADS
template <class F>
void std_threads(int64_t count, const F& f) {
  std::vector<std::thread> threads;
  for (int64_t i = 1; i < count; i++) threads.emplace_back([&f, i, count] { f(i, count); });
  f(int64_t{0}, count);
  for (std::thread& thread : threads) thread.join();
}

template <class F>
void parallel_for(int64_t first, int64_t last, int64_t grain, const F& f) {
  int64_t n = last - first, count = std::min<int64_t>(at::get_num_threads(), (n + grain - 1) / grain);
  if (n > 0)
    std_threads(count, [&](int64_t index, int64_t all) {
      auto [begin, end] = split(n, all, index);
      if (begin < end) f(first + begin, first + end);
    });
}
#endif

class Barrier {
 public:
  void wait(int64_t size) {
    if (size == 1) return;
    int64_t turn = turn_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size) {
      arrived_.store(0, std::memory_order_relaxed);
      turn_.store(turn + 1, std::memory_order_release);
      return;
    }
    for (int64_t spins = 0; turn_.load(std::memory_order_acquire) == turn; spins++)
      if (spins > 20000) std::this_thread::yield();  // fewer free cores than threads
  }

 private:
  alignas(64) std::atomic<int64_t> arrived_{0};
  alignas(64) std::atomic<int64_t> turn_{0};
};

// The threads that share one group of rows: they split columns, and wait for each other between stages.
struct Team {
  int64_t index, size;
  Barrier* barrier;

  void sync() const { barrier->wait(size); }
  std::pair<int64_t, int64_t> part(int64_t n) const { return split(n, size, index); }
};

// f(begin, end) in as many threads as parts of at least `grain` of 0..n are worth.
#ifndef S2S_STD_THREADS
using at::parallel_for;
#endif

// Rows a group must have before threads get groups of their own: with fewer, a product reads the weights for too
// little work, and threads that split the columns read each weight once.
constexpr int64_t kRowsOfAGroup = 8;

// As many threads as torch would use, but no more than there are cores for this process: threads that meet wait for one
// that has none. In a container torch counts the cores of the machine, whatever the quota.
inline int64_t num_threads() { return std::min<int64_t>(at::get_num_threads(), threads::cores()); }

// Calls f(index, count) in every one of `count` threads. `work`, in floating-point operations, decides how many.
template <class F>
void run_threads(double work, const F& f) {
  int64_t threads = at::in_parallel_region() ? 1 : num_threads();
  if (work < 2e5) threads = 1;
#ifdef S2S_STD_THREADS
  return std_threads(threads, f);
#elif defined(_OPENMP)
  if (threads > 1) {
#pragma omp parallel num_threads(threads)
    f(int64_t{omp_get_thread_num()}, int64_t{omp_get_num_threads()});
    return;
  }
#endif
  f(int64_t{0}, int64_t{1});
}

// How many groups `count` threads form over so many rows.
inline int64_t groups_of(int64_t rows, int64_t count) {
  return std::min(std::max<int64_t>(rows / kRowsOfAGroup, 1), count);
}

// Calls f(group, groups, team) in every thread.
template <class F>
void run_teams(int64_t rows, double work, const F& f) {
  std::vector<Barrier> barriers(at::get_num_threads());  // enough, whatever num_threads() is by then
  run_threads(work, [&](int64_t index, int64_t count) {
    int64_t groups = groups_of(rows, count), size = count / groups, group = index / size;
    if (group < groups) f(group, groups, Team{index % size, size, &barriers[group]});
  });
}

}  // namespace s2s::cpu
