#include "pool.h"

#include "aten.h"

#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __linux__
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

namespace s2s::cpu::threads {

namespace {

using Clock = std::chrono::steady_clock;
std::atomic<Clock::rep> crowded_until{0};
std::atomic<int> crowded_times{0};
constexpr nanoseconds kLate{300'000};  // a thread that slept is there after 90 us
// Once may be chance, as the system's own work takes a core too: of some ten jobs, three, or one by a whole time slice.
// The suspicion stays, so that after a while the first that comes late is enough; how long that while is, is forgotten
// slowly, as beside other processes small jobs are often in time.
constexpr int kSuspicion = 8, kSure = 17, kCalm = 16;
std::atomic<int> suspicion{0}, calm{0};
std::atomic<bool> forked{false};  // this process is a child of fork

// How long a helper without work stays awake: an op follows an op, in Python, some tens of microseconds later.
constexpr nanoseconds kAwakeBetweenJobs{100'000};

// Linux 6.12 and later let a thread ask for short turns, and run it the sooner for it: beside other processes a thread
// that was woken had its core after 4 ms (99th percentile), with this after 0.07. Its share stays what it was.
void ask_for_short_turns() {
#if defined(__linux__) && defined(SYS_sched_setattr)
  struct {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
  } attributes{};
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0) != 0 || attributes.policy != 0) return;
  attributes.size = sizeof(attributes), attributes.runtime = 100'000;
  syscall(SYS_sched_setattr, 0, &attributes, 0);  // an older kernel ignores it
#endif
}

}  // namespace

bool crowded() { return Clock::now().time_since_epoch().count() < crowded_until.load(std::memory_order_relaxed); }

bool with_openmp() {
#ifdef _OPENMP
  return !crowded() && !forked.load(std::memory_order_relaxed);  // libgomp hangs in a child of fork
#else
  return false;
#endif
}

void use_own_threads(bool always) { forked.store(always); }
void pretend_crowded(bool always) {
  crowded_until.store(always ? Clock::time_point::max().time_since_epoch().count() : 0);
}

// While cores are scarce who waits awake takes one from who is waited for.
nanoseconds awake() { return crowded() ? kAwake / 3 : kAwake; }

namespace {

// By how much somebody was late; 0: nobody was.
void tell_lateness(nanoseconds late) {
  auto relaxed = std::memory_order_relaxed;
  int before = suspicion.load(relaxed), times = crowded_times.load(relaxed);
  if (late <= nanoseconds(0)) {
    if (before > 0) return suspicion.store(before - 1, relaxed);
    if (times > 0 && calm.fetch_add(1, relaxed) % kCalm == kCalm - 1) crowded_times.store(times - 1, relaxed);
    return;
  }
  suspicion.store(std::min(before + (late > 10 * kLate ? kSure : kSuspicion), kSure), relaxed);
  if (suspicion.load(relaxed) < kSure) return;
  crowded_times.store(std::min(times + 1, 3), relaxed);
  // So long that trying again costs little of it.
  auto until = Clock::now() + std::min<nanoseconds>(late * (8 << times), std::chrono::seconds(2));
  crowded_until.store(until.time_since_epoch().count(), relaxed);
}

}  // namespace

class Pool {
 public:
  // Never destroyed: helpers sleep in it until the process ends.
  static Pool& get() {
    Pool* pool = current_.load(std::memory_order_acquire);
    if (pool) return *pool;
    auto* made = new Pool;
    if (current_.compare_exchange_strong(pool, made)) return *made;
    delete made;
    return *pool;
  }

  void open(Job& job) {
    {
      std::lock_guard lock(mutex_);
      jobs_.push_back(&job);
      while (helpers_ < job.wanted_ && start()) helpers_++;
      turn_.store((turn_.load(std::memory_order_relaxed) + 1) & 0x3fffffff);
    }
    int32_t missing = std::min(job.wanted_ - waiting_.load(), asleep_.load());
    if (missing > 0) wake(&turn_, missing);
  }

  // Nobody finds it any more.
  void close(Job& job) {
    std::lock_guard lock(mutex_);
    jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
  }

 private:
  // A child of fork has none of the helpers, and perhaps a mutex that one of them holds: it begins anew.
  static bool start_again_in_children() {
#ifdef __linux__
    pthread_atfork(nullptr, nullptr, [] {
      current_.store(nullptr);
      forked.store(true);
    });
#endif
    return true;
  }

  // With no more threads to be had the work is done by those that there are.
  bool start() {
#ifdef __linux__
    sigset_t all, before;  // signals are for the threads of the program
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
#endif
    bool started = true;
    try {
      std::thread(&Pool::work, this).detach();
    } catch (const std::system_error&) {
      started = false;
    }
#ifdef __linux__
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
    return started;
  }

  Job* join(int32_t& index) {
    std::lock_guard lock(mutex_);  // which keeps the jobs where they are
    for (Job* job : jobs_)
      if ((index = job->join())) return job;
    return nullptr;
  }

  void work() {
    ask_for_short_turns();
    std::optional<KeepAtenHere> always;
    {
      // One after the other: a thread's first question makes ATen look at a pool of its own, which in a child of fork
      // it replaces then, and two at once find none.
      std::lock_guard lock(mutex_);
      always.emplace();
    }
    for (;;) {
      int32_t turn = turn_.load(), index = 0;
      while (Job* job = join(index)) {
        job->run_helper(index);
        turn = turn_.load();
      }
      waiting_.fetch_add(1);
      auto called = [&] { return turn_.load(std::memory_order_acquire) != turn; };
      bool more = stay_awake(called, crowded() ? awake() : kAwakeBetweenJobs);
      waiting_.fetch_sub(1);
      if (more) continue;
      asleep_.fetch_add(1);
      while (turn_.load() == turn) sleep_while(turn_, turn);
      asleep_.fetch_sub(1);
    }
  }

  static std::atomic<Pool*> current_;
  static const bool watches_forks_;

  std::mutex mutex_;
  std::vector<Job*> jobs_;
  int32_t helpers_ = 0;
  std::atomic<int32_t> waiting_{0}, asleep_{0};  // helpers without a job, by whether they are awake
  alignas(64) std::atomic<int32_t> turn_{0};
};

std::atomic<Pool*> Pool::current_{nullptr};
const bool Pool::watches_forks_ = start_again_in_children();
thread_local bool Job::inside_ = false;

int32_t Job::join() {
  std::lock_guard lock(mutex_);
  int32_t index = joined_.load(std::memory_order_relaxed) + 1;
  if (closed_ || index > wanted_) return 0;
  busy_.fetch_add(1);
  joined_.store(index);
  if (index == wanted_ && caller_waits_.load()) wake(&joined_, 1);
  return index;
}

int32_t Job::close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
  return joined_.load(std::memory_order_relaxed);
}

void Job::wait_for_helpers(nanoseconds most) {
  auto all = [&] { return joined_.load(std::memory_order_acquire) == wanted_; };
  auto begin = Clock::now();
  if (stay_awake(all, std::min(most, awake()))) return;
  caller_waits_.store(true);
  while (!all()) {
    nanoseconds left = most - (Clock::now() - begin);
    if (left <= nanoseconds(0)) return;
    int32_t have = joined_.load();
    if (have != wanted_) sleep_while(joined_, have, left);
  }
}

template <class F>
void Job::take_part(const F& f) {
  bool before = inside_;
  inside_ = true;
  try {
    f();
  } catch (...) {
    {
      std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
    failed();
  }
  inside_ = before;
}

void Job::run_helper(int32_t index) {
  uint64_t before = float_mode();
  if (before != mode_) set_float_mode(mode_);
  take_part([&] { help(index); });
  if (before != mode_) set_float_mode(before);
  // After this the job may be gone, if its caller has nothing more to wait for.
  if (busy_.fetch_sub(1) == (kCallerSleeps | 1)) wake(&busy_, 1);
}

void Job::run_leader() {
  take_part([&] { lead(); });
  close();
}

void Job::wait_for_end() {
  auto done = [&] { return busy_.load(std::memory_order_acquire) == 0; };
  if (stay_awake(done, awake())) return;
  busy_.fetch_or(kCallerSleeps);
  for (int32_t busy; (busy = busy_.load()) != kCallerSleeps;) sleep_while(busy_, busy);
}

void Job::run() {
  Clock::time_point begin = Clock::now();
  bool was_crowded = crowded();
  nanoseconds late{0};
  if (wanted_ == 0) {
    run_leader();
#ifdef _OPENMP
  } else if (with_openmp()) {
    late = run_with_openmp();
#endif
  } else {
    Pool& pool = Pool::get();
    pool.open(*this);
    run_leader();
    pool.close(*this);
    wait_for_end();
  }
  if (wanted_ > 0 && !was_crowded) tell_lateness(std::max(late, lost(Clock::now() - begin)));
  if (error_) std::rethrow_exception(error_);
}

#ifdef _OPENMP
// Returns by how much libgomp's threads came or ended too late.
nanoseconds Job::run_with_openmp() {
  Clock::time_point begin = Clock::now(), led;
#pragma omp parallel num_threads(wanted_ + 1)
  {
    if (omp_get_thread_num() == 0) {
      run_leader();
      led = Clock::now();
    } else if (int32_t index = join()) {
      run_helper(index);
    }
  }
  // What has been shared out evenly takes everybody about the same time.
  return std::max(Clock::now() - led - kLate - (led - begin), nanoseconds(0));
}
#endif

}  // namespace s2s::cpu::threads
