// Capturing launches for later, where any part of it may fail: what then is wrong first, and nothing after it.
#pragma once

#include <exception>
#include <string>

namespace s2s::cuda {

// Calls begin, step and end, the last whenever a capture has begun. Empty, or what the first of them that failed said:
// what `end` says after a step that failed is that the capture is of no use, which is known.
template <class Begin, class Step, class End>
std::string capture_error(const Begin& begin, const Step& step, const End& end) {
  std::string first;
  auto fails = [&](const auto& part) {
    try {
      part();
      return false;
    } catch (const std::exception& error) {
      if (first.empty()) first = error.what();
      if (first.empty()) first = "an error without a word";
      return true;
    }
  };
  if (fails(begin)) return first;
  fails(step);
  fails(end);
  return first;
}

}  // namespace s2s::cuda
