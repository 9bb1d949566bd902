#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "machine.h"
#include "memory.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

namespace s2s::emulation {

Index thread_index, block_index;
thread_local cudaStream_t stream;
unsigned seed = 0;
int64_t launches = 0, launches_together = 0;

namespace {

constexpr size_t kStack = 256 << 10;
constexpr int kWarpSize = 32;

struct Barrier {
  int arrived = 0;
  int64_t turn = 0;
};

// Of the lanes in one mask.
struct Meeting {
  Barrier barrier;
  // Of this meeting and the one before: a lane may still read those when another already gives new ones.
  Words words[2][kWarpSize];
};

struct Warp {
  std::map<unsigned, Meeting> meetings;
  unsigned returned = 0;  // its lanes
};

struct Block {
  int64_t index = 0;
  int first = 0, running = 0;  // of its threads' fibers; threads that have not returned
  Barrier barrier;
  std::vector<Warp> warps;
  std::unique_ptr<char[]> shared;
  std::map<const void*, std::unique_ptr<char[]>> memories;
  Clock known;
  int64_t phase = 0;     // how many of its barriers are behind it
  int64_t stuck_at = 0;  // what `progress` was when none of its threads could go on
};

struct Fiber {
  bool started = false, done = true;
  int block = 0, thread = 0;         // of those alive; within the block
  const Barrier* barrier = nullptr;  // it can do nothing as long as this one is in its `turn`
  int64_t turn = 0;
  const char* waits_for = "its beginning";
  Clock acquired;
  std::unique_ptr<char[]> stack{new char[kStack]};
  jmp_buf resume;
  ucontext_t start;

  bool able() const { return !done && !(barrier && barrier->turn == turn); }
};

// Fibers are kept from launch to launch: only their first start costs a system call.
struct Machine {
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<Block> blocks;
  const std::function<void()>* body = nullptr;
  jmp_buf scheduler;
  int threads = 0, current = 0;
  int64_t progress = 1;
  std::exception_ptr error;
};
// One for all threads, which take turns: in a library, a variable of a thread costs a call.
Machine machine;
std::mutex turn;

Fiber& fiber() { return *machine.fibers[machine.current]; }
Block& block() { return machine.blocks[fiber().block]; }

// AddressSanitizer wants to know whose stack it looks at.
struct Stacks {
#ifdef __SANITIZE_ADDRESS__
  void* scheduler_frames = nullptr;
  const void* scheduler_stack = nullptr;
  size_t scheduler_size = 0;
  void leave_scheduler(const Fiber& to) { __sanitizer_start_switch_fiber(&scheduler_frames, to.stack.get(), kStack); }
  void enter_scheduler() { __sanitizer_finish_switch_fiber(scheduler_frames, nullptr, nullptr); }
  void leave_fiber(void** frames) { __sanitizer_start_switch_fiber(frames, scheduler_stack, scheduler_size); }
  void enter_fiber(void* frames) { __sanitizer_finish_switch_fiber(frames, &scheduler_stack, &scheduler_size); }
#else
  void leave_scheduler(const Fiber&) {}
  void enter_scheduler() {}
  void leave_fiber(void**) {}
  void enter_fiber(void*) {}
#endif
};
Stacks stacks;

void to_scheduler() {
  void* frames = nullptr;
  stacks.leave_fiber(&frames);
  if (_setjmp(fiber().resume) == 0) _longjmp(machine.scheduler, 1);
  stacks.enter_fiber(frames);
}

void fiber_main() {
  stacks.enter_fiber(nullptr);
  for (;;) {
    try {
      (*machine.body)();
    } catch (...) {
      if (!machine.error) machine.error = std::current_exception();
    }
    Fiber& f = fiber();
    f.done = true;
    f.waits_for = "nothing, as it has returned";
    block().running--;
    block().warps[f.thread / kWarpSize].returned |= 1u << f.thread % kWarpSize;
    progress();
    to_scheduler();
  }
}

void resume(int index) {
  Fiber& next = *machine.fibers[index];
  machine.current = index;
  thread_index.x = next.thread;
  block_index.x = static_cast<unsigned>(machine.blocks[next.block].index);
  if (_setjmp(machine.scheduler) == 0) {
    stacks.leave_scheduler(next);
    if (next.started) _longjmp(next.resume, 1);
    next.started = true;
    getcontext(&next.start);
    next.start.uc_stack.ss_sp = next.stack.get();
    next.start.uc_stack.ss_size = kStack;
    next.start.uc_link = nullptr;
    makecontext(&next.start, fiber_main, 0);
    setcontext(&next.start);
  }
  stacks.enter_scheduler();
}

void stop(const std::string& why) { throw std::runtime_error(why); }

void wait(Barrier& barrier, int64_t turn, const char* waits_for) {
  Fiber& f = fiber();
  f.waits_for = waits_for, f.barrier = &barrier, f.turn = turn;
  while (barrier.turn == turn) to_scheduler();
  f.barrier = nullptr;
}

void open(Barrier& barrier) {
  barrier.arrived = 0;
  barrier.turn++;
}

// The barrier of a block, for those of its threads that have not returned: as on a GPU, others are not waited for.
void open_if_complete(Block& b) {
  if (b.barrier.arrived == 0 || b.barrier.arrived < b.running) return;
  for (int i = 0; i < machine.threads; i++) {
    Clock& acquired = machine.fibers[b.first + i]->acquired;
    if (b.known.size() < acquired.size()) b.known.resize(acquired.size());
    for (size_t j = 0; j < acquired.size(); j++) b.known[j] = std::max(b.known[j], acquired[j]);
    acquired.clear();
  }
  b.phase++;
  open(b.barrier);
  progress();
}

// Each thread of a block, once.
void round(Block& b, bool backward, int from = 0) {
  for (int i = 0; i < machine.threads && !machine.error; i++) {
    int index = (backward ? machine.threads - 1 - i : i) + from;
    index = b.first + index % machine.threads;
    if (machine.fibers[index]->able()) resume(index);
    open_if_complete(b);  // some may have returned
  }
  if (machine.error) {
    std::exception_ptr error = std::exchange(machine.error, nullptr);
    machine.fibers.clear();  // they stand in the middle of a kernel
    std::rethrow_exception(error);
  }
}

[[noreturn]] void deadlock() {
  std::string what = "deadlock:";
  for (size_t i = 0; i < machine.blocks.size(); i++) {
    const Block& b = machine.blocks[i];
    std::map<std::string, int> places;
    for (int j = 0; b.running > 0 && j < machine.threads; j++) places[machine.fibers[b.first + j]->waits_for]++;
    for (const auto& [place, count] : places)
      what += " of block " + std::to_string(i) + ", " + std::to_string(count) + " wait for " + place + ";";
  }
  machine.fibers.clear();
  throw std::runtime_error(what.substr(0, 2000));
}

// Block `index` of the launch as the one in `place` of those alive.
Block& begin(int place, int64_t index) {
  Block& b = machine.blocks[place];
  b = Block();
  b.index = index, b.first = place * machine.threads, b.running = machine.threads;
  b.warps.resize(machine.threads / kWarpSize);
  for (int i = 0; i < machine.threads; i++) {
    Fiber& f = *machine.fibers[b.first + i];
    f.done = false, f.block = place, f.thread = i, f.waits_for = "its beginning", f.barrier = nullptr;
    f.acquired.clear();
  }
  return b;
}

std::unique_ptr<char[]> poisoned(size_t size) {
  std::unique_ptr<char[]> memory(new char[size]);
  std::memset(memory.get(), 0xff, size);  // NaN in every type
  return memory;
}

void prepare(int64_t alive, int threads, const std::function<void()>& body) {
  if (threads % kWarpSize) stop("a block that is no whole number of warps");
  while (machine.fibers.size() < static_cast<size_t>(alive * threads))
    machine.fibers.push_back(std::make_unique<Fiber>());
  machine.body = &body;
  machine.threads = threads;
  machine.blocks.clear();
  machine.blocks.resize(alive);
}

}  // namespace

void progress() { machine.progress++; }

void pause(const char* waits_for) {
  fiber().waits_for = waits_for;
  to_scheduler();
}

char* shared_memory() { return block().shared.get(); }

char* block_memory(const void* key, size_t size) {
  auto& memory = block().memories[key];
  if (!memory) memory = poisoned(size);
  return memory.get();
}

void block_barrier() {
  Block& b = block();
  int64_t turn = b.barrier.turn;
  b.barrier.arrived++;
  progress();
  open_if_complete(b);
  wait(b.barrier, turn, "__syncthreads");
}

void meet(unsigned mask, Words& mine, void (*together)(unsigned mask, Words* all), const char* name) {
  int lane = fiber().thread % kWarpSize;
  auto missing = [&](int i) { return std::string(name) + ": lane " + std::to_string(i) + " is not there: "; };
  if (!(mask >> lane & 1)) stop(missing(lane) + "it calls with a mask without itself");
  Warp& warp = block().warps[fiber().thread / kWarpSize];
  if (unsigned gone = mask & warp.returned) stop(missing(__builtin_ctz(gone)) + "it has returned, but is in the mask");
  Meeting& meeting = warp.meetings[mask];
  int64_t turn = meeting.barrier.turn;
  Words* words = meeting.words[turn % 2];
  std::memcpy(words[lane], mine, sizeof(mine));
  progress();
  if (++meeting.barrier.arrived == __builtin_popcount(mask)) {
    together(mask, words);
    open(meeting.barrier);
  }
  wait(meeting.barrier, turn, name);
  std::memcpy(mine, words[lane], sizeof(mine));
}

Self self() {
  Fiber& f = fiber();
  Block& b = block();
  return {static_cast<int>(b.index), f.thread, b.phase, &b.known, &f.acquired};
}

void learn(const Clock& clock) {
  Clock& mine = fiber().acquired;
  if (mine.size() < clock.size()) mine.resize(clock.size());
  for (size_t i = 0; i < clock.size(); i++) mine[i] = std::max(mine[i], clock[i]);
}

void run(int64_t blocks, int threads, const std::function<void()>& body) {
  std::lock_guard<std::mutex> mine(turn);
  launches++;
  forget_memory();
  prepare(1, threads, body);
  for (int64_t index = 0; index < blocks; index++) {
    Block& b = begin(0, index);
    while (b.running > 0) {
      int64_t before = machine.progress;
      round(b, index % 2);
      if (machine.progress == before) deadlock();
    }
  }
}

void run_together(int64_t blocks, int threads, size_t shared_bytes, const std::function<void()>& body) {
  std::lock_guard<std::mutex> mine(turn);
  launches_together++;
  forget_memory();
  prepare(blocks, threads, body);
  for (int64_t i = 0; i < blocks; i++) {
    Block& b = begin(static_cast<int>(i), i);
    b.shared = poisoned(shared_bytes);
  }
  std::mt19937 random(seed);
  auto draw = [&](size_t count) { return static_cast<int>(random() % count); };
  for (;;) {
    std::vector<Block*> able;
    bool alive = false;
    for (Block& b : machine.blocks) {
      alive |= b.running > 0;
      if (b.running > 0 && b.stuck_at != machine.progress) able.push_back(&b);
    }
    if (!alive) return;
    if (able.empty()) deadlock();
    Block& b = *able[draw(able.size())];
    for (int rounds = 1 << draw(7); rounds > 0 && b.running > 0; rounds--) {
      int64_t before = machine.progress;
      bool backward = draw(2);
      round(b, backward, draw(machine.threads));
      if (machine.progress == before) {  // no thread of it can go on before another block does something
        b.stuck_at = before;
        break;
      }
    }
  }
}

}  // namespace s2s::emulation
