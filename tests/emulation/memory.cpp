#include "memory.h"

#include <algorithm>
#include <map>
#include <stdexcept>
#include <string>
#include <unordered_map>

namespace s2s::emulation {

namespace {

struct Access {
  int block = -1, thread = 0;
  int64_t phase = 0;
};

struct Element {
  Access write;
  std::vector<Access> reads;  // since that write; of each block the last
};

std::unordered_map<uintptr_t, Element> elements;
std::map<const void*, Clock> flags;

int64_t known(const Clock& clock, int block) { return static_cast<size_t>(block) < clock.size() ? clock[block] : 0; }

bool ordered(const Access& before, const Self& now) {
  if (before.block == now.block) return before.thread == now.thread || before.phase < now.phase;
  return before.phase < std::max(known(*now.of_block, before.block), known(*now.of_thread, before.block));
}

std::string name(int block, int thread) {
  return "block " + std::to_string(block) + " (thread " + std::to_string(thread) + ")";
}

[[noreturn]] void race(const char* does, int64_t at, const Self& now, const char* did, const Access& before) {
  bool inside = before.block == now.block;
  throw std::runtime_error(
      "race: " + name(now.block, now.thread) + " " + does + " exchanged element " + std::to_string(at) + ", which " +
      name(before.block, before.thread) + " " + did +
      (inside ? " with no barrier of the block in between" : " with no release and acquire in between"));
}

Element& element(const void* base, int64_t at, size_t size) {
  return elements[reinterpret_cast<uintptr_t>(base) + at * size];
}

void join(Clock& into, const Clock& from) {
  if (into.size() < from.size()) into.resize(from.size());
  for (size_t i = 0; i < from.size(); i++) into[i] = std::max(into[i], from[i]);
}

}  // namespace

void forget_memory() { elements.clear(), flags.clear(); }

void writes(const void* base, int64_t at, size_t size, int count) {
  Self now = self();
  for (int i = 0; i < count; i++) {
    Element& e = element(base, at + i, size);
    if (e.write.block >= 0 && !ordered(e.write, now)) race("writes", at + i, now, "wrote", e.write);
    for (const Access& read : e.reads)
      if (!ordered(read, now)) race("writes", at + i, now, "read", read);
    e.write = {now.block, now.thread, now.phase};
    e.reads.clear();
  }
}

void reads(const void* base, int64_t at, size_t size, int count) {
  Self now = self();
  for (int i = 0; i < count; i++) {
    Element& e = element(base, at + i, size);
    if (e.write.block < 0)
      throw std::runtime_error("race: " + name(now.block, now.thread) + " reads exchanged element " +
                               std::to_string(at + i) + ", which nobody wrote in this launch");
    if (!ordered(e.write, now)) race("reads", at + i, now, "wrote", e.write);
    auto mine = std::find_if(e.reads.begin(), e.reads.end(), [&](const Access& a) { return a.block == now.block; });
    if (mine == e.reads.end()) mine = e.reads.insert(mine, Access());
    *mine = {now.block, mine->block >= 0 && mine->phase == now.phase && mine->thread != now.thread ? -1 : now.thread,
             now.phase};  // -1: several threads, so none that could write with no barrier
  }
}

void releases(const void* flag) {
  Self now = self();
  Clock& clock = flags[flag];
  join(clock, *now.of_block);
  join(clock, *now.of_thread);
  if (clock.size() <= static_cast<size_t>(now.block)) clock.resize(now.block + 1);
  clock[now.block] = std::max(clock[now.block], now.phase);
}

void acquires(const void* flag) {
  auto found = flags.find(flag);
  if (found != flags.end()) learn(found->second);
}

}  // namespace s2s::emulation
