// How many cores this process may use.
#pragma once

#include <cstdint>
#include <string>

namespace s2s::cpu::threads {

// The cores in the affinity mask, or as many as the control group's quota is worth, rounded up, if that is less.
// Asked again after a while: both may change.
int64_t cores();

// Cores of the quota of a process whose /proc/self/cgroup is that, with its /sys/fs/cgroup there; 0: no quota.
int64_t quota(const std::string& process, const std::string& root);

// For tests: as if there were so many cores; 0 as there are.
void pretend_cores(int64_t count);

}  // namespace s2s::cpu::threads
