#include <setjmp.h>
#include <ucontext.h>

#include <memory>
#include <stdexcept>
#include <vector>

#include "cuda.h"

namespace s2s::emulation {

thread_local Index thread_index, block_index;
thread_local cudaStream_t stream;

namespace {

constexpr size_t kStack = 256 << 10;
constexpr int kWarpSize = 32;

struct Barrier {
  int arrived = 0;
  int64_t turn = 0;
};

struct Warp {
  Barrier barrier;
  // Of this exchange and the one before: a lane may still read those when another already gives new ones.
  uint64_t values[2][kWarpSize];
};

struct Fiber {
  std::unique_ptr<char[]> stack{new char[kStack]};
  ucontext_t start;
  jmp_buf resume;
  bool started = false, done = true;
};

// Fibers are kept from launch to launch: only their first start costs a system call.
struct Machine {
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<Warp> warps;
  Barrier barrier;
  const std::function<void()>* body = nullptr;
  jmp_buf scheduler;
  int threads = 0, running = 0, current = 0, at = 0;
  bool progress = false;
};
thread_local Machine machine;

void to_scheduler() {
  if (_setjmp(machine.fibers[machine.current]->resume) == 0) _longjmp(machine.scheduler, 1);
}

void fiber_main() {
  for (;;) {
    (*machine.body)();
    machine.fibers[machine.current]->done = true;
    machine.running--;
    machine.progress = true;
    to_scheduler();
  }
}

// As on a GPU, threads that have returned are not waited for.
void wait(Barrier& barrier, const int& size) {
  int64_t turn = barrier.turn;
  barrier.arrived++;
  while (barrier.turn == turn) {
    if (barrier.arrived == size) {
      barrier.arrived = 0;
      barrier.turn++;
      machine.progress = true;
      return;
    }
    to_scheduler();
  }
}

void resume(int index) {
  Fiber& fiber = *machine.fibers[index];
  machine.current = index;
  thread_index.x = index;
  if (_setjmp(machine.scheduler) != 0) return;
  if (fiber.started) _longjmp(fiber.resume, 1);
  fiber.started = true;
  getcontext(&fiber.start);
  fiber.start.uc_stack.ss_sp = fiber.stack.get();
  fiber.start.uc_stack.ss_size = kStack;
  fiber.start.uc_link = nullptr;
  makecontext(&fiber.start, fiber_main, 0);
  setcontext(&fiber.start);
}

}  // namespace

void block_barrier() { wait(machine.barrier, machine.running); }

uint64_t exchange(uint64_t mine, int mask) {
  static const int size = kWarpSize;
  int lane = machine.current % kWarpSize;
  Warp& warp = machine.warps[machine.current / kWarpSize];
  uint64_t* values = warp.values[warp.barrier.turn % 2];
  values[lane] = mine;
  wait(warp.barrier, size);
  return values[lane ^ mask];
}

void run(int64_t blocks, int threads, const std::function<void()>& body) {
  if (threads % kWarpSize) throw std::runtime_error("a block that is no whole number of warps");
  while (machine.fibers.size() < static_cast<size_t>(threads)) machine.fibers.push_back(std::make_unique<Fiber>());
  machine.body = &body;
  machine.threads = threads;
  for (int64_t block = 0; block < blocks; block++) {
    block_index.x = static_cast<unsigned>(block);
    machine.warps.assign(threads / kWarpSize, Warp());
    machine.barrier = Barrier();
    machine.running = threads;
    for (int i = 0; i < threads; i++) machine.fibers[i]->done = false;
    while (machine.running > 0) {
      machine.progress = false;
      for (machine.at = 0; machine.at < threads; machine.at++) {
        int index = block % 2 ? threads - 1 - machine.at : machine.at;
        if (!machine.fibers[index]->done) resume(index);
      }
      if (!machine.progress) {
        machine.fibers.clear();  // they stand in the middle of a kernel
        throw std::runtime_error("deadlock: a barrier or shuffle that some threads of a block do not reach");
      }
    }
  }
}

}  // namespace s2s::emulation
