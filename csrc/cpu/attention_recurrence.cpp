// The attention decoder without parts: the general one, of which less is returned.
#include "attention_recurrence.h"

#include "../arguments.h"
#include "decoder/inputs.h"

namespace s2s::cpu {

namespace {

using namespace decoder;

std::array<int64_t, 8> form(int64_t gates) { return {gates}; }

// Of the general decoder's inputs these are the ones; a GRU has no c0.
constexpr int64_t kGiven = kFirstFeed + 1;

void check_count(int64_t gates, const char* what, int64_t count) {
  int64_t expected = gates == kLstm ? kGiven : kGiven - 1;
  TORCH_CHECK_VALUE(count == expected, what, " has ", count, " values, expected ", expected);
}

// The general decoder's inputs, or what there is one of for each, from those of this one.
template <class T>
std::vector<T> general(int64_t gates, std::vector<T> list) {
  if (gates == kGru) list.insert(list.begin() + kC0, T());
  list.resize(kUpperLayers);
  return list;
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
  Inputs in(general(gates, tensors_of(inputs)), lengths, mask, form(gates));
  Tensors out = forward(in, lengths, mask, save), result;
  for (int which : returned(gates)) {
    if (!out[which].defined())
      result.push_back(nothing(which < kPublic ? in.handed[kX] : in.x));
    else
      result.push_back(of_layers(which) ? out[which].squeeze(0) : out[which]);
  }
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
  Inputs in(general(gates, tensors_of(inputs)), lengths, mask, form(gates));
  Tensors all(kOutputs);
  for (size_t i = 0; i < order.size(); i++)
    if (in.applies(order[i], true)) all[order[i]] = of_layers(order[i]) ? outputs[i].unsqueeze(0) : outputs[i];
  OptionalTensors all_grads = grads.copy();
  if (gates == kGru) all_grads.push_back(OptionalTensor());
  auto needed = general(gates, std::vector<bool>(needs.begin(), needs.end()));
  Tensors made = backward(in, all_grads, lengths, mask, all, needed), result;
  for (int64_t i = 0; i < kGiven; i++)
    if (i != kC0 || gates == kLstm) result.push_back(made[i].defined() ? made[i] : nothing(in.handed[kX]));
  return result;
}

}  // namespace s2s::cpu
