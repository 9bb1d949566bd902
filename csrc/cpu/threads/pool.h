// Who helps the caller of an op. While the machine is idle libgomp's threads, which torch keeps awake for 16 ms after
// each of its own loops, so that others would have to share a core with them. Where those come late, as beside other
// processes or the threads of other runtimes, threads of our own: shared by all callers, asleep when there is nothing
// to do. A caller never waits for a helper of these that has not come: what nobody has taken it does itself.
#pragma once

#include <exception>
#include <mutex>

#include "float_mode.h"
#include "sleep.h"

namespace s2s::cpu::threads {

// Whether threads had to wait for others that had no core: then, and for a while after, which grows with the times that
// it was so in a row.
bool crowded();
// Whether helpers are libgomp's threads now.
bool with_openmp();

// For tests: threads of our own alone, as in a child of fork, where libgomp's hang.
void use_own_threads(bool always);
// For tests: crowded until told otherwise.
void pretend_crowded(bool always);

// A piece of work that helpers may join. What they throw reaches the caller.
class Job {
 public:
  explicit Job(int64_t helpers) : wanted_(static_cast<int32_t>(helpers)) {}
  virtual ~Job() = default;
  Job(const Job&) = delete;

  // Does all of it; helpers begin while the calling thread leads.
  void run();

  // Whether this thread is in the work of a job: what it calls runs in this thread alone.
  static bool inside() { return inside_; }

 protected:
  // What the calling thread does, and helper `index`, from 1 on.
  virtual void lead() = 0;
  virtual void help(int32_t index) = 0;
  // One has thrown: others must not wait for it.
  virtual void failed() {}

  // How much of that time was lost as some waited for others that had no core.
  virtual nanoseconds lost(nanoseconds) const { return nanoseconds(0); }

  // Waits for all helpers, so long at most.
  void wait_for_helpers(nanoseconds most);
  // Nobody joins any more; returns how many have.
  int32_t close();

 private:
  friend class Pool;
  static constexpr int32_t kCallerSleeps = 1 << 30;

  int32_t join();
  void run_helper(int32_t index);
  void run_leader();
  void wait_for_end();
  nanoseconds run_with_openmp();
  template <class F>
  void take_part(const F& f);

  const int32_t wanted_;
  const uint64_t mode_ = float_mode();  // the caller's, for the helpers
  std::mutex mutex_;
  bool closed_ = false;
  std::exception_ptr error_;
  std::atomic<bool> caller_waits_{false};  // for helpers to join
  std::atomic<int32_t> joined_{0}, busy_{0};
  static thread_local bool inside_;
};

}  // namespace s2s::cpu::threads
