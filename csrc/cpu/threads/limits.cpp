#include "limits.h"

#ifdef __linux__
#include <sched.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <thread>

namespace s2s::cpu::threads {

namespace {

constexpr double kNone = std::numeric_limits<double>::infinity();

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Both versions, of one group: "max 100000" or "150000 100000"; -1 or 150000, and 100000 in a file of its own.
double of_group(const std::string& folder, bool second) {
  std::istringstream line(second ? first_line(folder + "/cpu.max")
                                 : first_line(folder + "/cpu.cfs_quota_us") + " " +
                                       first_line(folder + "/cpu.cfs_period_us"));
  double time = 0, period = 0;
  return line >> time >> period && time > 0 && period > 0 ? time / period : kNone;
}

// The least of a group and those that it lies in. In a container the path may be the host's, of which there is
// nothing here: then the root is the container's own group.
double of_path(const std::string& mount, std::string path, bool second) {
  double least = of_group(mount, second);
  for (; path.size() > 1; path.resize(path.rfind('/')))
    if (path.find("/..") == std::string::npos) least = std::min(least, of_group(mount + path, second));
  return least;
}

int64_t affinity() {
#ifdef __linux__
  for (int size = 1024; size <= 1 << 20; size *= 2) {  // more than the kernel's own size is asked of it in vain
    cpu_set_t* mask = CPU_ALLOC(size);
    if (!mask) break;
    bool told = sched_getaffinity(0, CPU_ALLOC_SIZE(size), mask) == 0;
    int64_t count = told ? CPU_COUNT_S(CPU_ALLOC_SIZE(size), mask) : 0;
    CPU_FREE(mask);
    if (told) return std::max<int64_t>(count, 1);
  }
#endif
  return std::max<int64_t>(std::thread::hardware_concurrency(), 1);
}

std::atomic<int64_t> pretended{0}, known{0}, known_until{0}, known_quota{0}, quota_until{0};

}  // namespace

int64_t quota(const std::string& process, const std::string& root) {
  std::ifstream file(process);
  double least = kNone;
  for (std::string line; std::getline(file, line);) {  // "0::/path" or "4:cpu,cpuacct:/path"
    size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
    if (controllers.empty()) least = std::min(least, of_path(root, path, true));
    std::istringstream names(controllers);
    for (std::string name; std::getline(names, name, ',');)
      if (name == "cpu")
        least = std::min({least, of_path(root + "/" + controllers, path, false), of_path(root + "/cpu", path, false)});
  }
  return least == kNone ? 0 : std::max<int64_t>(std::llround(std::ceil(least - 1e-9)), 1);
}

int64_t cores() {
  if (int64_t count = pretended.load(std::memory_order_relaxed)) return count;
  // A system call and some files: not in every call of an op.
  int64_t now = std::chrono::steady_clock::now().time_since_epoch() / std::chrono::milliseconds(1);
  if (now >= known_until.load(std::memory_order_relaxed)) {
    if (now >= quota_until.load(std::memory_order_relaxed)) {
      known_quota = quota("/proc/self/cgroup", "/sys/fs/cgroup");
      quota_until = now + 10'000;
    }
    int64_t count = affinity(), most = known_quota;
    known = most ? std::min(count, most) : count;
    known_until.store(now + 200, std::memory_order_release);
  }
  return known.load(std::memory_order_relaxed);
}

void pretend_cores(int64_t count) { pretended = count; }

}  // namespace s2s::cpu::threads
