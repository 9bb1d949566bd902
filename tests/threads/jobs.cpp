// csrc/cpu/threads without torch: what tests/test_threads.py builds and runs, plainly and under ThreadSanitizer.
#include "cpu/threads/jobs.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>

#include "cpu/threads/aten.h"

namespace s2s::cpu::threads {  // of ATen there is nothing here

int64_t wanted() { return 1; }
KeepAtenHere::KeepAtenHere(bool) : kept_(false) {}
KeepAtenHere::~KeepAtenHere() = default;

}  // namespace s2s::cpu::threads

using namespace s2s::cpu::threads;

namespace {

void check(bool right, const std::string& what) {
  if (right) return;
  std::fprintf(stderr, "wrong: %s\n", what.c_str());
  std::exit(1);
}

template <class F>
void run_parts(int64_t count, int64_t most, const F& f) {
  Parts<F>(count, most, f).run();
}

template <class F>
void run_crew(int64_t most, std::vector<Barrier>& barriers, const F& f) {
  Crew<F>(most, 1e9, barriers, f).run();
}

void each_part_once(int64_t count, int64_t most) {
  std::vector<int> done(count);  // not atomic: ThreadSanitizer sees two that do the same part, or an end before its end
  run_parts(count, most, [&](int64_t i) { done[i]++; });
  for (int64_t i = 0; i < count; i++) check(done[i] == 1, "part " + std::to_string(i) + " of " + std::to_string(count));
}

// Every stage reads what the others wrote in the one before.
void in_step(int64_t most, int64_t stages) {
  std::vector<Barrier> barriers(1);
  std::vector<int64_t> written(most);
  run_crew(most, barriers, [&](int64_t index, int64_t count) {
    check(count >= 1 && count <= most && index < count, "a member's number");
    for (int64_t stage = 1; stage <= stages; stage++) {
      written[index] = stage;
      barriers[0].wait(count);
      for (int64_t i = 0; i < count; i++) check(written[i] == stage, "a stage that began too early");
      barriers[0].wait(count);
    }
  });
}

template <class F>
void expect_failure(const F& f, const std::string& what) {
  try {
    f();
  } catch (const std::out_of_range& error) {
    return check(error.what() == what, "what was thrown: " + std::string(error.what()));
  }
  check(false, "nothing was thrown: " + what);
}

void failures(int64_t most) {
  for (int64_t which = 0; which < most; which++)
    expect_failure(
        [&] {
          run_parts(most, most, [&](int64_t i) {
            if (i == which) throw std::out_of_range("a part");
          });
        },
        "a part");
  // The others wait at a barrier, some of them asleep, for one that never comes.
  for (bool sleep : {false, true}) {
    std::vector<Barrier> barriers(2);
    expect_failure(
        [&] {
          run_crew(most, barriers, [&](int64_t index, int64_t count) {
            barriers[0].wait(count);
            if (index == count - 1) {
              if (sleep) std::this_thread::sleep_for(std::chrono::milliseconds(2));
              throw std::out_of_range("a member");
            }
            barriers[1].wait(count);
          });
        },
        "a member");
  }
}

// One that has lost its core: a member who lets the other wait at a barrier, or who does not come at all.
void noticed_when_late() {
  std::vector<Barrier> barriers(1);
  run_crew(2, barriers, [&](int64_t index, int64_t count) {
    for (int stage = 0; stage < 3; stage++) {
      if (index == stage % count) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      barriers[0].wait(count);
    }
  });
  check(crowded(), "a member who came late to the barriers was not noticed");
  pretend_crowded(false);
}

void nested(int64_t most) {
  std::atomic<int> outside{0};
  run_parts(most, most, [&](int64_t) { outside += !Job::inside(); });
  check(outside == 0 && !Job::inside(), "who is inside of a job");
}

void float_modes() {
  uint64_t before = float_mode();
#if defined(__x86_64__)
  set_float_mode(before | 0x8040);  // flush to zero, denormals are zeros
#endif
  uint64_t mode = float_mode();
  std::atomic<int> other{0};
  for (int i = 0; i < 100; i++)
    run_parts(4, 4, [&](int64_t) {
      std::this_thread::sleep_for(std::chrono::microseconds(50));  // so that helpers come
      other += float_mode() != mode;
    });
  set_float_mode(before);
  check(other == 0, "the float mode of a helper");
}

void in_a_child_of_fork() {
  each_part_once(8, 4);
  pid_t child = fork();
  if (child == 0) {
    alarm(20);
    for (int i = 0; i < 50; i++) each_part_once(8, 4), in_step(3, 10);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a child of fork");
}

void many_callers(int64_t callers, int64_t times) {
  std::vector<std::thread> all;
  for (int64_t c = 0; c < callers; c++)
    all.emplace_back([=] {
      for (int64_t i = 0; i < times; i++) {
        each_part_once(1 + (c + i) % 9, 1 + i % 5);
        if (i % 4 == 0) in_step(1 + (c + i) % 4, 8);
        if (i % 16 == 0) failures(1 + i % 3);
        if (i % 64 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));  // so that helpers sleep
      }
    });
  for (std::thread& thread : all) thread.join();
}

}  // namespace

int main(int argc, char** argv) {
  int64_t times = argc > 1 ? std::atoll(argv[1]) : 200;
  for (int64_t most = 1; most <= 8; most++) {
    for (int64_t count : {1, 2, 7, 8, 40}) each_part_once(count, most);
    in_step(most, 50), failures(most), nested(most);
  }
  float_modes(), noticed_when_late();
  if (argc < 3) in_a_child_of_fork();  // ThreadSanitizer refuses a child that starts threads
  many_callers(1, times), many_callers(6, times);
  std::puts("passed");
}
