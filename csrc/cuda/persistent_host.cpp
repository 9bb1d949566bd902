#include "persistent_host.h"

#include <cstdlib>
#include <string_view>

namespace s2s::cuda {

bool persistent_wanted(bool measured_faster) {
  const char* value = std::getenv("S2S_CUDA_PERSISTENT");
  std::string_view asked = value ? value : "";
  return asked == "1" || (measured_faster && asked != "0");
}

std::optional<PersistentLaunch> persistent_launch(int64_t gates, const RecurrenceArguments& in, int64_t directions,
                                                  bool forward) {
  plan::Gpu gpu = gpu_of(in.x);
  plan::Sequence sequence{gates, in.batch, in.steps, in.hidden, type_of(in.x), in.resets.defined(), directions};
  if (!persistent_wanted(plan::measured_faster(sequence, gpu))) return {};
  plan::Plan plan = plan::make(sequence, gpu);
  if (!plan.refusal.empty()) return {};
  return PersistentLaunch(plan, forward ? plan.forward : plan.backward, in.x);
}

}  // namespace s2s::cuda
