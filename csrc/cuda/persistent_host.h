// Whether a sequence runs as one launch, and the memory of that.
#pragma once

#include <optional>

#include "../plan.h"
#include "glue.h"
#include "persistent.cuh"

namespace s2s::cuda {

// The device of x. In stream.cpp.
plan::Gpu gpu_of(const Tensor& x);

struct PersistentLaunch {
  Tensor exchange, arrived;
  Division division;

  // Of a plan, and of one of its halves; memory where `like` is.
  template <class Plan>
  PersistentLaunch(const Plan& plan, const plan::Launch& half, const Tensor& like)
      : exchange(at::empty({half.exchange_bytes}, like.options().dtype(at::kByte))),
        arrived(at::zeros({plan.directions * plan.groups}, like.options().dtype(at::kInt))),
        division{static_cast<int>(plan.directions),
                 static_cast<int>(plan.groups),
                 static_cast<int>(plan.slices),
                 static_cast<int>(plan.tiles),
                 half.shared_bytes,
                 data(exchange),
                 static_cast<unsigned*>(data(arrived))} {}
};

// Whether a plan is to be taken: S2S_CUDA_PERSISTENT=1 takes every plan there is, 0 none; unset, those that a
// measurement says are faster.
bool persistent_wanted(bool measured_faster);

// None where no plan is (../plan.h says why), or none is wanted. in: of one of the directions.
std::optional<PersistentLaunch> persistent_launch(int64_t gates, const RecurrenceArguments& in, int64_t directions,
                                                  bool forward);

}  // namespace s2s::cuda
