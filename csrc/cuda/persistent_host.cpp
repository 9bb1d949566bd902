#include "persistent_host.h"

#include <cstdlib>
#include <string_view>

namespace s2s::cuda {

bool persistent_wanted(bool measured_faster) {
  const char* value = std::getenv("S2S_CUDA_PERSISTENT");
  std::string_view asked = value ? value : "";
  return asked == "1" || (measured_faster && asked != "0");
}

std::optional<PersistentLaunch> persistent_launch(int64_t gates, const RecurrenceArguments& in, bool forward) {
  plan::Gpu gpu = gpu_of(in.x);
  plan::Sequence sequence{gates, in.batch, in.steps, in.hidden, type_of(in.x), in.resets.defined()};
  if (!persistent_wanted(plan::measured_faster(sequence, gpu))) return {};
  plan::Plan plan = plan::make(sequence, gpu);
  if (!plan.refusal.empty()) return {};
  const plan::Launch& launch = forward ? plan.forward : plan.backward;
  PersistentLaunch made{at::empty({launch.exchange_bytes}, in.x.options().dtype(at::kByte)),
                        at::zeros({plan.groups}, in.x.options().dtype(at::kInt))};
  made.division = {static_cast<int>(plan.groups), static_cast<int>(plan.slices),
                   static_cast<int>(plan.tiles),  launch.shared_bytes,
                   data(made.exchange),           static_cast<unsigned*>(data(made.arrived))};
  return made;
}

}  // namespace s2s::cuda
