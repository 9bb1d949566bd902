// Chooses the instruction set of the products in 8 bits, below that of all else (isa.cpp).
#include <c10/util/Exception.h>

#include <atomic>
#include <cstring>

#include "../isa.h"
#include "int8.h"

namespace s2s::cpu {

namespace int8_baseline {
extern const Int8Kernels int8;
}
#if defined(__x86_64__)
namespace int8_avx2 {
extern const Int8Kernels int8;
}
namespace int8_avx_vnni {
extern const Int8Kernels int8;
}
namespace int8_avx512_vnni {
extern const Int8Kernels int8;
}
#endif

namespace {

const std::vector<const Int8Kernels*>& lanes() {
  static const std::vector<const Int8Kernels*> found = [] {
    std::vector<const Int8Kernels*> lanes;
#if defined(__x86_64__)
    const char* level = cpu_capability();
    bool wide = std::strncmp(level, "avx512", 6) == 0, avx2 = wide || std::strcmp(level, "avx2") == 0;
    if (wide && __builtin_cpu_supports("avx512vnni")) lanes.push_back(&int8_avx512_vnni::int8);
    if (avx2 && __builtin_cpu_supports("avxvnni")) lanes.push_back(&int8_avx_vnni::int8);
    if (avx2) lanes.push_back(&int8_avx2::int8);
#endif
    lanes.push_back(&int8_baseline::int8);
    return lanes;
  }();
  return found;
}

std::atomic<const Int8Kernels*> pretended{nullptr};

}  // namespace

const Int8Kernels& int8_kernels() {
  const Int8Kernels* wish = pretended.load(std::memory_order_relaxed);
  return wish ? *wish : *lanes().front();
}

std::vector<std::string> int8_lanes() {
  std::vector<std::string> names;
  for (const Int8Kernels* lane : lanes()) names.emplace_back(lane->name);
  return names;
}

void pretend_int8_lane(const std::string& name) {
  const Int8Kernels* wish = nullptr;
  for (const Int8Kernels* lane : lanes())
    if (name == lane->name) wish = lane;
  TORCH_CHECK_VALUE(wish || name.empty(), "name is '", name, "', expected one of int8_lanes()");
  pretended = wish;
}

}  // namespace s2s::cpu
