// The typed way into the dispatcher.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <string>

namespace s2s {

// Op `name` of the package; keep what comes back, the search takes time.
template <class Signature>
auto find_op(const std::string& name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(("s2s_kernels::" + name).c_str(), "").typed<Signature>();
}

}  // namespace s2s
