#include "inputs.h"

#include <ATen/ops/zeros.h>

#include "../../checks.h"

namespace s2s::cpu::decoder {

namespace {

template <class E>
E choice(at::IntArrayRef form, size_t i, const char* name, int64_t count) {
  TORCH_CHECK_VALUE(form[i] >= 0 && form[i] < count, "form has ", form[i], " as ", name, ", expected 0 to ", count - 1);
  return static_cast<E>(form[i]);
}

}  // namespace

Tensors tensors_of(const OptionalTensors& list) {
  Tensors all;
  all.reserve(list.size());
  for (const OptionalTensor& x : list) all.push_back(given(x) ? *x : Tensor());
  return all;
}

Inputs::Inputs(Tensors handed_, const OptionalTensor& lengths, const OptionalTensor& mask, at::IntArrayRef form,
               Prepare matrices, bool fed)
    : handed(std::move(handed_)) {
  const Tensors& all = handed;
  TORCH_CHECK_VALUE(form.size() == 8, "form has ", form.size(), " numbers, expected 8");
  TORCH_CHECK_VALUE(all.size() >= kUpperLayers && (all.size() - kUpperLayers) % 4 == 0, "inputs has ", all.size(),
                    " tensors, expected ", int(kUpperLayers), " and 4 a further layer");
  TORCH_CHECK_VALUE(form[0] == kGru || form[0] == kLstm, "form has ", form[0], " gates, expected 3 or 4");
  gates = form[0];
  query = choice<Query>(form, 1, "query", 2);
  score = choice<Score>(form, 2, "score", 2);
  normalization = choice<Normalization>(form, 3, "normalization", 3);
  location = choice<Location>(form, 4, "location", 3);
  detach = form[5] != 0;
  feed_form = choice<Feed>(form, 6, "feed", 3);
  transition = choice<int64_t>(form, 7, "transition", 2);

  static const char* names[] = {"x",          "h0",           "c0",
                                "keys",       "values",       "v",
                                "w_query",    "b_query",      "weight_ih",
                                "weight_hh",  "bias_ih",      "bias_hh",
                                "w_feed",     "b_feed",       "first_feed",
                                "b_score",    "w_location",   "first_weights",
                                "drop_query", "drop_weights", "drop_attended",
                                "drop_fed",   "drop_layers",  "drop_h",
                                "drop_c",     "zone_h",       "zone_c",
                                "w_dense"};
  auto required = [&](int i, int64_t least, int64_t most) -> const Tensor& {
    TORCH_CHECK_VALUE(all[i].defined(), "inputs[", i - (i > kC0 && gates == kGru), "] is None, expected ", names[i]);
    check_dim(names[i], all[i], least, most);
    return all[i];
  };
  // Checked, and in the computing dtype; undefined stays so.
  auto take = [&](int i, at::IntArrayRef shape, Prepare prepare = to_compute) {
    if (!all[i].defined()) return Tensor();
    check_like(names[i], all[i], shape, all[kX]);
    return prepare(all[i]);
  };

  const Tensor &x_ = required(kX, 3, 3), &keys_ = required(kKeys, 3, 4), &values_ = required(kValues, 3, 4);
  const Tensor &h0_ = required(kH0, 2, 3), &weight_ih_ = required(kWeightIh, 2, 2);
  type = x_.scalar_type();
  int64_t count = 1 + (all.size() - kUpperLayers) / 4, stacked = transition ? 1 : count;
  TORCH_CHECK_VALUE(!transition || count == 2, "inputs has ", all.size(), " tensors, expected ", int(kUpperLayers),
                    " and the 4 of a transition");
  state_shape = h0_.sizes().vec();
  batch = x_.size(0), steps = x_.size(1), inputs = x_.size(2), hidden = h0_.size(-1), source = keys_.size(1);
  bool per_head = keys_.dim() == 4;
  heads = per_head ? keys_.size(2) : 1, attention = keys_.size(-1), width = values_.size(-1);
  value_heads = values_.dim() == 4 ? heads : 1;
  lead = {batch, steps + 1};
  if (per_head) lead.push_back(heads);
  std::vector<int64_t> states = {batch, hidden}, per_step = {batch, steps, hidden};
  if (h0_.dim() == 3) {
    TORCH_CHECK_VALUE(stacked > 1, "h0 has shape ", h0_.sizes(), ", expected 2 dimensions with ",
                      transition ? "a transition" : "one layer");
    states.insert(states.begin(), count), per_step.insert(per_step.begin(), count);
  } else {
    TORCH_CHECK_VALUE(stacked == 1, "h0 has shape ", h0_.sizes(), ", expected the layers before the batch");
  }
  std::vector<int64_t> each_layer = {stacked, batch, steps, hidden};

  x = take(kX, x_.sizes());
  h0 = take(kH0, states).view({stacked, batch, hidden});
  TORCH_CHECK_VALUE(all[kC0].defined() == has_cell(), "c0 is ", has_cell() ? "None" : "given", " with ", gates,
                    " gates");
  if (has_cell()) c0 = take(kC0, states).view({stacked, batch, hidden});
  std::vector<int64_t> values_shape = {batch, source};
  if (values_.dim() == 4) values_shape.push_back(heads);
  values_shape.push_back(width);
  std::vector<int64_t> keys_shape = {batch, source};
  if (per_head) keys_shape.push_back(heads);
  keys_shape.push_back(attention);
  check_like("keys", keys_, keys_shape, x_);
  check_like("values", values_, values_shape, x_);
  keys = keys_.contiguous().view({batch, source, heads, attention});
  values = values_.contiguous().view({batch, source, value_heads, width});
  TORCH_CHECK_VALUE(all[kV].defined() == (score == Score::kAdditive), "v is ", all[kV].defined() ? "given" : "None",
                    " with a ", score == Score::kDot ? "dot" : "additive", " score");
  if (score == Score::kAdditive) {
    std::vector<int64_t> v_shape = {attention};
    if (per_head) v_shape.insert(v_shape.begin(), heads);
    v = take(kV, v_shape).view({heads, attention});
  }
  TORCH_CHECK_VALUE(query == Query::kH || has_cell(), "form asks with c, which a GRU has not");
  w_query = take(kWQuery, {asked(), asking()}, matrices), b_query = take(kBQuery, {asked()});
  TORCH_CHECK_VALUE(w_query.defined() || (score == Score::kDot && asked() == asking() && !b_query.defined()),
                    "w_query is None, expected a tensor of ", asked(), " rows and ", asking(), " columns");

  feed = fed ? context() : 0;
  if (all[kWFeed].defined()) {
    check_dim("w_feed", all[kWFeed], 2, 2);
    if (feed_form != Feed::kGate) feed = all[kWFeed].size(0);
    w_feed = all[kWFeed];  // attended() asks whether there is one
    w_feed = take(kWFeed, {feed, attended()}, matrices);
  }
  TORCH_CHECK_VALUE(has_feed() || !all[kBFeed].defined(), "b_feed is given without w_feed");
  b_feed = take(kBFeed, {feed}), first_feed = take(kFirstFeed, {batch, feed});
  TORCH_CHECK_VALUE(!transition || !has_first(), "first_feed is given with a transition");
  int64_t below = transition ? 0 : feed;
  layers.push_back({take(kWeightIh, {wide(), inputs + below}, matrices), take(kWeightHh, {wide(), hidden}, matrices),
                    take(kBiasIh, {wide()}), take(kBiasHh, {wide()})});
  TORCH_CHECK_VALUE(weight_ih_.defined() && layers[0].weight_hh.defined(), "weight_hh is None, expected a tensor");
  for (int64_t l = 1; l < count; l++) {
    int64_t at = kUpperLayers + 4 * (l - 1);
    auto weight = [&](int64_t i, const char* name, bool must, at::IntArrayRef shape) {
      TORCH_CHECK_VALUE(all[i].defined() || !must, name, " of a further layer is None, expected a tensor");
      if (!all[i].defined()) return Tensor();
      check_like(name, all[i], shape, all[kX]);
      return must ? matrices(all[i]) : to_compute(all[i]);
    };
    layers.push_back({weight(at, "weight_ih", true, {wide(), transition ? feed : hidden}),
                      weight(at + 1, "weight_hh", true, {wide(), hidden}), weight(at + 2, "bias_ih", false, {wide()}),
                      weight(at + 3, "bias_hh", false, {wide()})});
  }

  if (all[kBScore].defined()) b_score = take(kBScore, {heads});
  if (all[kWLocation].defined()) {
    check_dim("w_location", all[kWLocation], 3, 3);
    channels = location == Location::kBoth ? 2 : 1, kernel = all[kWLocation].size(2);
    TORCH_CHECK_VALUE(kernel % 2 == 1, "w_location has a kernel of ", kernel, ", expected an odd length");
    if (all[kWDense].defined()) {
      filters = all[kWLocation].size(0);
      TORCH_CHECK_VALUE(filters > 0, "w_location has no filters, expected 1 or more");
      w_dense = take(kWDense, {attention, filters});
    }
    w_location = take(kWLocation, {location_width(), channels, kernel});
    TORCH_CHECK_VALUE(!per_head && score == Score::kAdditive, "w_location is given with heads or a dot score");
    located_keys = to_compute(keys);
  }
  TORCH_CHECK_VALUE(w_location.defined() || !all[kWDense].defined(), "w_dense is given without w_location");
  TORCH_CHECK_VALUE(normalization != Normalization::kForward || !per_head, "form is forward with heads");
  first_weights = take(kFirstWeights, {batch, source});
  drop_query = take(kDropQuery, {batch, steps + 1, asking()});
  drop_weights = take(kDropWeights, weights_shape());
  TORCH_CHECK_VALUE(has_feed() || !all[kDropAttended].defined(), "drop_attended is given without w_feed");
  drop_attended = take(kDropAttended, {batch, steps + 1, attended()});
  drop_fed = take(kDropFed, {batch, steps, feed});
  drop_layers = take(kDropLayers, {count - 1, batch, steps, hidden});
  auto of_layers = [&](int i) {
    Tensor y = take(i, per_step);
    return y.defined() ? y.view(each_layer) : y;
  };
  for (int i = kDropLayers; i <= kZoneC; i++)
    TORCH_CHECK_VALUE(!transition || !all[i].defined(), names[i], " is given with a transition");
  drop_h = of_layers(kDropH), drop_c = of_layers(kDropC), zone_h = of_layers(kZoneH), zone_c = of_layers(kZoneC);
  TORCH_CHECK_VALUE(has_cell() || !carries_c(), "drop_c or zone_c is given for a GRU");
  check_lengths(lengths, batch, source, x_);
  check_mask(mask, batch, source, x_);
}

std::vector<int64_t> Inputs::weights_shape() const {
  std::vector<int64_t> shape = lead;
  shape.push_back(source);
  return shape;
}

bool Inputs::applies(int which, bool save) const {
  switch (which) {
    case kFeeds:
      return has_feed();
    case kCN:
      return has_cell();
    case kGates:
    case kQueries:
      return save;
    case kCells:
      return save && has_cell();
    case kCarried:
      return save && carries_c();
    case kLower:
      return save && depth() > 1;
    case kParts:
      return save && normalization != Normalization::kSoftmax;
    case kGate:
      return save && gated();
    default:
      return which < kPublic || (save && type != x.scalar_type() && applies(which - kExactStates, save));
  }
}

std::vector<int64_t> Inputs::output_shape(int which, bool save) const {
  if (!applies(which, save)) return {0};
  switch (which) {
    case kStates:
      return {batch, steps, hidden};
    case kContexts:
    case kGate:
      return {batch, steps + 1, context()};
    case kWeights:
    case kParts:
      return weights_shape();
    case kFeeds:
      return {batch, steps + 1, feed};
    case kHN:
    case kCN:
      return state_shape;
    case kGates:
      return {depth(), batch, steps, 4 * hidden};
    case kCells:
    case kCarried:
      return {depth(), batch, steps, hidden};
    case kLower:
      return {depth() - 1, batch, steps, hidden};
    case kQueries:
      return {batch, steps + 1, asked()};
    default:
      return output_shape(which - kExactStates, save);
  }
}

void Inputs::check_backward(const OptionalTensors& grads, const Tensors& outputs,
                            const std::vector<bool>& needs) const {
  TORCH_CHECK_VALUE(grads.size() == kPublic, "grads has ", grads.size(), " tensors, expected ", kPublic);
  TORCH_CHECK_VALUE(outputs.size() == kOutputs, "outputs has ", outputs.size(), " tensors, expected ", int(kOutputs));
  TORCH_CHECK_VALUE(needs.size() == handed.size(), "needs has ", needs.size(), " values, expected ", handed.size());
  static const char* names[] = {"states", "contexts",     "weights",        "feeds",         "h_n",        "c_n",
                                "gates",  "cells",        "carried cells",  "lower states",  "queries",    "parts",
                                "gate",   "exact states", "exact contexts", "exact weights", "exact feeds"};
  for (int i = 0; i < kOutputs; i++)
    if (outputs[i].defined())
      check_made(names[i], outputs[i], output_shape(i, true), i < kPublic ? type : x.scalar_type(), x.device());
    else
      TORCH_CHECK_VALUE(!applies(i, true), names[i], " is not among the outputs, expected a tensor");
  for (int i = 0; i < kPublic; i++) {
    OptionalTensor grad = grads.get(i);
    if (!given(grad)) continue;
    auto shape = output_shape(i, true);
    TORCH_CHECK_VALUE(grad->sizes() == shape, "the gradient of ", names[i], " has shape ", grad->sizes(), ", expected ",
                      shape);
    TORCH_CHECK_VALUE(grad->device() == x.device(), "the gradient of ", names[i], " is on ", grad->device(),
                      ", expected ", x.device());
  }
}

Tensor Inputs::zeros(at::IntArrayRef shape) const { return cpu::zeros(shape, x.options()); }

double Inputs::step_work() const {
  return 2.0 * batch *
         (hidden * ((2 * depth() - 1 - transition) * wide() + asked()) + feed * wide() +
          source * (location_width() * channels * kernel + filters * attention));
}

}  // namespace s2s::cpu::decoder
