// The attention decoder without parts: the general one, of which less is returned.
#include "attention_recurrence.h"

#include <ATen/ops/empty.h>

#include "../arguments.h"
#include "decoder/inputs.h"

namespace s2s::cpu {

namespace {

using namespace decoder;

std::array<int64_t, 7> form(int64_t gates) { return {gates, 0, 0, 0, 0, 0, 0}; }

// Of the general decoder's inputs these are the ones; a GRU has no c0.
constexpr int64_t kGiven = kFirstFeed + 1;

void check_count(int64_t gates, const char* what, int64_t count) {
  int64_t expected = gates == kLstm ? kGiven : kGiven - 1;
  TORCH_CHECK_VALUE(count == expected, what, " has ", count, " values, expected ", expected);
}

// The list of the general decoder from that of this one.
template <class List, class Value>
List general(int64_t gates, const List& list, const Value& none) {
  List all;
  for (size_t i = 0; i < list.size(); i++) {
    if (i == kC0 && gates == kGru) all.push_back(none);
    all.push_back(list.get(i));
  }
  while (all.size() < kUpperLayers) all.push_back(none);
  return all;
}

// What forward returns, in its order: the outputs of the general decoder.
std::vector<int> returned(int64_t gates) {
  if (gates == kGru)
    return {kStates,  kContexts,    kWeights,       kFeeds,        kHN,        kGates,
            kQueries, kExactStates, kExactContexts, kExactWeights, kExactFeeds};
  return {kStates, kContexts, kWeights,     kFeeds,         kHN,           kCN,        kGates,
          kCells,  kQueries,  kExactStates, kExactContexts, kExactWeights, kExactFeeds};
}

// Of one layer, whose dimension this decoder leaves out.
bool of_layers(int which) { return which == kGates || which == kCells; }

}  // namespace

Tensors attention_recurrence_forward(int64_t gates, const OptionalTensors& inputs, const OptionalTensor& lengths,
                                     const OptionalTensor& mask, bool save) {
  check_count(gates, "inputs", inputs.size());
  Tensors out = attention_decoder_forward(general(gates, inputs, OptionalTensor()), lengths, mask, form(gates), save);
  Tensors result;
  for (int which : returned(gates)) result.push_back(save && of_layers(which) ? out[which].squeeze(0) : out[which]);
  return result;
}

Tensors attention_recurrence_backward(int64_t gates, const OptionalTensors& grads, const OptionalTensors& inputs,
                                      const OptionalTensor& lengths, const OptionalTensor& mask, at::TensorList outputs,
                                      const c10::List<bool>& needs) {
  check_count(gates, "inputs", inputs.size());
  check_count(gates, "needs", needs.size());
  auto order = returned(gates);
  TORCH_CHECK_VALUE(outputs.size() == order.size(), "outputs has ", outputs.size(), " tensors, expected ",
                    order.size());
  Tensors all(kOutputs, outputs[0].new_empty({0}));
  for (int which = kPublic; which < kOutputs; which++)
    all[which] = at::empty({0}, outputs[0].options().dtype(compute_type(outputs[0])));
  for (size_t i = 0; i < order.size(); i++) all[order[i]] = of_layers(order[i]) ? outputs[i].unsqueeze(0) : outputs[i];
  OptionalTensors all_grads;
  for (size_t i = 0; i < grads.size(); i++) all_grads.push_back(grads.get(i));
  if (gates == kGru) all_grads.push_back(OptionalTensor());
  Tensors made = attention_decoder_backward(all_grads, general(gates, inputs, OptionalTensor()), lengths, mask,
                                            form(gates), all, general(gates, needs, false));
  Tensors result;
  for (int64_t i = 0; i < kGiven; i++)
    if (i != kC0 || gates == kLstm) result.push_back(made[i]);
  return result;
}

}  // namespace s2s::cpu
