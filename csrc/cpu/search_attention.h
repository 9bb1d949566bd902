// The attention of a search whose decoder has parts (docs/ops.md): that of the attention decoder, and by row of the
// search what its later steps know of where earlier ones looked.
#pragma once

#include <vector>

#include "decoder/attention.h"

namespace s2s::cpu {

template <class T>
class SearchAttention {
 public:
  SearchAttention(const decoder::Inputs& in, const Positions& positions, int64_t rows, int64_t threads)
      : in_(in), positions_(positions), attention_(in, positions), scratch_(threads), parts_(threads) {
    auto track = [&](bool kept) { return Buffer<T>(kept ? rows * in.source : 0); };
    tracks_[kPrevious] = track(in.kernel && in.location != decoder::Location::kCumulative);
    tracks_[kSum] = track(in.sums());
    tracks_[kMoving] = track(in.normalization == decoder::Normalization::kForward);
    for (int i = 0; i < kTracks; i++) made_[i] = tracks_[i];
  }

  // The row begins with a sentence.
  void start(int64_t row, int64_t sentence) {
    for (Track which : {kPrevious, kSum})
      if (T* to = at(tracks_, which, row)) {
        std::fill_n(to, in_.source, T(0));
        if (!in_.first_weights.defined()) continue;
        const T* from = data<T>(in_.first_weights) + sentence * in_.source;
        for (int64_t i = 0; i < positions_.count(sentence); i++) {
          int64_t s = positions_.begin(sentence)[i];
          to[s] = from[s];
        }
      }
    if (T* to = at(tracks_, kMoving, row))
      for (int64_t s = 0; s < in_.source; s++) to[s] = s == 0;
  }

  // query (A) of head n to weights (S) and context (D). counted: whether later steps know of it. With a history there
  // is one head.
  void forward(int64_t thread, int64_t row, int64_t sentence, int64_t n, const T* query, T* weights, T* context,
               bool counted) {
    parts_[thread].resize(in_.source);
    decoder::History<T> history{at(tracks_, kPrevious, row), at(tracks_, kSum, row), at(tracks_, kMoving, row)};
    attention_.forward(sentence, n, query, history, nullptr, weights, parts_[thread].data(), context, scratch_[thread]);
    for (Track which : {kPrevious, kSum, kMoving}) {
      const T* before = at(tracks_, which, row);
      T* made = at(made_, which, row);
      if (!made) continue;
      std::copy_n(counted && which != kSum ? weights : before, in_.source, made);
      if (counted && which == kSum) kernels<T>().add(made, weights, in_.source);
    }
  }

  // Row `to` goes on from what forward() made of row `from`.
  void advance(int64_t to, int64_t from) {
    for (Track which : {kPrevious, kSum, kMoving})
      if (T* old = at(tracks_, which, to)) std::copy_n(at(made_, which, from), in_.source, old);
  }

 private:
  enum Track { kPrevious, kSum, kMoving, kTracks };
  using Tracks = Buffer<T>[kTracks];

  T* at(Tracks& tracks, Track which, int64_t row) {
    return tracks[which].empty() ? nullptr : tracks[which].data() + row * in_.source;
  }

  const decoder::Inputs& in_;
  const Positions& positions_;
  decoder::Attention<T, T> attention_;
  std::vector<decoder::Scratch<T>> scratch_;  // by thread
  std::vector<Buffer<T>> parts_;              // by thread: what only a backward pass would read
  Tracks tracks_, made_;
};

}  // namespace s2s::cpu
