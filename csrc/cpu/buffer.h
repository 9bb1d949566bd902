// Memory of a thread's own for what kernels read and write.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace s2s::cpu {

constexpr size_t kLineBytes = 64;

template <class T>
struct LineAllocator {
  using value_type = T;

  LineAllocator() = default;
  template <class U>
  LineAllocator(const LineAllocator<U>&) {}

  T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t{kLineBytes})); }
  void deallocate(T* p, size_t) { ::operator delete(p, std::align_val_t{kLineBytes}); }

  template <class U>
  bool operator==(const LineAllocator<U>&) const {
    return true;
  }
  template <class U>
  bool operator!=(const LineAllocator<U>&) const {
    return false;
  }
};

// Begins where a cache line does. malloc's large blocks begin 16 bytes later, where each load of a whole vector reads
// parts of two lines: products of packed panels take twice as long.
template <class T>
using Buffer = std::vector<T, LineAllocator<T>>;

}  // namespace s2s::cpu
