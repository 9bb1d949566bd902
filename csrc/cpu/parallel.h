// Threads for recurrences: groups of threads own rows of the batch through all steps and meet nowhere else.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "threads/aten.h"
#include "threads/jobs.h"
#include "threads/limits.h"

namespace s2s::cpu {

using threads::Barrier;

// begin and end of part `index` of `parts` near-equal parts of 0..n.
inline std::pair<int64_t, int64_t> split(int64_t n, int64_t parts, int64_t index) {
  return {n * index / parts, n * (index + 1) / parts};
}

// How many threads an op uses: as many as torch would, but no more than there are cores for this process. One inside
// of work that is already shared out, ours or torch's.
inline int64_t num_threads() {
  if (threads::Job::inside() || at::in_parallel_region()) return 1;
  return std::max<int64_t>(std::min<int64_t>(threads::wanted(), threads::cores()), 1);
}

// A thread that waits for libgomp's waits awake, on a busy machine for tens of milliseconds, and those stay awake for
// 16 ms after the last: there ATen uses the calling thread alone, and num_threads() is what it was.
using threads::KeepAtenHere;
using threads::ReleaseAten;

// While cores are scarce less work than this, in floating-point operations, stays in the calling thread, since a helper
// that lost its core is waited for: at the end, of parts, and of a crew at every barrier. More of it gains by threads,
// for each has a share of the machine: beside four busy processes on two cores two have 4/6 of a core, one has 2/5.
constexpr double kWorthParts = 1e7, kWorthCrew = 1e8;

// How many parts to cut work into for so many threads. Beside other processes one of them may have a third of a core
// and the next a whole one: who is done early then takes more of the parts. In more of them what parts share, as packed
// weights, would be made too often.
inline int64_t parts_for(int64_t threads) { return threads > 1 && threads::crowded() ? 2 * threads : threads; }

// f(i) for every i of 0..count, each once, in whatever threads there are.
template <class F>
void run_parts(int64_t count, double work, const F& f) {
  int64_t most = count > 1 ? num_threads() : 1;
  if (most > 1 && (work >= kWorthParts || !threads::crowded())) return threads::Parts<F>(count, most, f).run();
  for (int64_t i = 0; i < count; i++) f(i);
}

// f(begin, end) in as many threads as parts of at least `grain` of first..last are worth.
template <class F>
void parallel_for(int64_t first, int64_t last, int64_t grain, const F& f, double work = 0) {
  int64_t n = last - first;
  if (n <= 0) return;
  int64_t count = n > grain ? std::min<int64_t>(parts_for(num_threads()), (n + grain - 1) / grain) : 1;
  if (count == 1) return f(first, last);
  run_parts(count, work, [&](int64_t part) {
    auto [begin, end] = split(n, count, part);
    f(first + begin, first + end);
  });
}

// Rows a group must have before threads get groups of their own: with fewer, a product reads the weights for too
// little work, and threads that split the columns read each weight once.
constexpr int64_t kRowsOfAGroup = 8;

// How many threads so much work, in floating-point operations, is worth.
inline int64_t threads_for(double work) { return work < 2e5 ? 1 : num_threads(); }

// Calls f(index, count) in every one of `count` threads, at most `most`, that wait for each other at `barriers` alone.
template <class F>
void run_threads(int64_t most, double work, std::vector<Barrier>& barriers, const F& f) {
  if (most == 1 || (work < kWorthCrew && threads::crowded())) return f(int64_t{0}, int64_t{1});
  threads::Crew<F>(most, work, barriers, f).run();
}

// The threads that share one group of rows: they split columns, and wait for each other between stages.
struct Team {
  int64_t index, size;
  Barrier* barrier;

  void sync() const { barrier->wait(size); }
  std::pair<int64_t, int64_t> part(int64_t n) const { return split(n, size, index); }
};

// How many groups `count` threads form over so many rows.
inline int64_t groups_of(int64_t rows, int64_t count) {
  return std::min(std::max<int64_t>(rows / kRowsOfAGroup, 1), count);
}

// Calls f(group, groups, team) in every thread.
template <class F>
void run_teams(int64_t rows, double work, const F& f) {
  int64_t most = threads_for(work), alone = groups_of(rows, most);
  if (alone == most) {  // nobody waits for anybody
    alone = std::max(alone, std::min(parts_for(most), rows / (2 * kRowsOfAGroup)));
    Barrier none;
    return run_parts(alone, work, [&](int64_t group) { f(group, alone, Team{0, 1, &none}); });
  }
  std::vector<Barrier> barriers(most);
  run_threads(most, work, barriers, [&](int64_t index, int64_t count) {
    int64_t groups = groups_of(rows, count), size = count / groups, group = index / size;
    if (group < groups) f(group, groups, Team{index % size, size, &barriers[group]});
  });
}

}  // namespace s2s::cpu
