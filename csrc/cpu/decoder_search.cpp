// Beam search of an attention decoder with parts (docs/ops.md). Its inputs are those of the attention decoder, with the
// embedding in the place of x; the search is that of beam_search.cpp.
#include <ATen/ops/empty.h>

#include "../checks.h"
#include "run_search.h"

namespace s2s::cpu {

using namespace decoder;

namespace {

// From two tensors for each matrix that there is, in this order.
Int8Weights narrow_weights(at::TensorList packed, const SearchArguments& in, const Inputs& parts) {
  Int8Weights weights;
  size_t used = 0;
  auto take = [&](const char* name, const Tensor& weight) {
    if (!weight.defined()) return Int8Weight();
    used += 2;
    TORCH_CHECK_VALUE(used <= packed.size(), "packed has ", packed.size(), " tensors, expected two for ", name, " too");
    return Int8Weight(name, packed[used - 2], packed[used - 1], weight);
  };
  TORCH_CHECK_TYPE(in.keys.scalar_type() == at::kFloat, "packed is given with weights of float64");
  weights.w_query = take("w_query", in.w_query), weights.w_feed = take("w_feed", in.w_feed);
  weights.w_readout = take("w_readout", in.w_readout), weights.w_output = take("w_output", in.w_output);
  for (const Layer& layer : parts.layers) {
    Int8Weight input = take("weight_ih", layer.weight_ih);
    weights.cells.emplace_back(input, take("weight_hh", layer.weight_hh));
  }
  TORCH_CHECK_VALUE(used == packed.size(), "packed has ", packed.size(), " tensors, expected ", used);
  return weights;
}

}  // namespace

Four decoder_search(const OptionalTensors& inputs, const OptionalTensor& lengths, const OptionalTensor& mask,
                    at::IntArrayRef form, const Tensor& w_output, const OptionalTensor& b_output,
                    const OptionalTensor& w_readout, const OptionalTensor& b_readout, std::string_view order,
                    std::string_view readout, int64_t bos, int64_t eos, int64_t max_length, int64_t beam,
                    int64_t n_best, double length_penalty, double coverage_penalty, at::IntArrayRef forbidden,
                    const OptionalTensor& limits, bool return_weights, const std::optional<at::TensorList>& packed) {
  Tensors all = tensors_of(inputs);
  TORCH_CHECK_VALUE(all.size() >= kUpperLayers, "inputs has ", all.size(), " tensors, expected ", int(kUpperLayers),
                    " and 4 a further layer");
  for (int i = kDropQuery; i <= kZoneC; i++)
    TORCH_CHECK_VALUE(!all[i].defined(), "inputs has a mask as its element ", i, ", expected None: a search has none");
  auto shaped = [&](const char* name, int i, int64_t least, int64_t most) {
    TORCH_CHECK_VALUE(all[i].defined(), name, " is None, expected a tensor");
    check_dim(name, all[i], least, most);
  };
  shaped("embedding", kX, 2, 2), shaped("h0", kH0, 2, 3), shaped("weight_ih", kWeightIh, 2, 2);

  SearchArguments in;
  Tensor embedding = all[kX];
  in.inputs = embedding.size(1);
  all[kX] = at::empty({all[kH0].size(-2), 0, in.inputs}, embedding.options());
  bool transition = form.size() > 7 && form[7] != 0;
  TORCH_CHECK_VALUE(!transition || order == "before", "order is '", order, "' with a transition, expected 'before'");
  bool fed = all[kWFeed].defined() || all[kWeightIh].size(1) != in.inputs || transition;
  // Matrices are read as they came in: see Linear.
  Inputs parts(std::move(all), lengths, mask, form, [](const Tensor& x) { return x; }, fed);
  parts.keys = to_compute(parts.keys), parts.values = to_compute(parts.values);
  in.gates = parts.gates, in.batch = parts.batch, in.source = parts.source, in.hidden = parts.hidden;
  in.heads = parts.heads, in.attention = parts.attention, in.width = parts.width, in.feed = parts.feed;
  in.h0 = parts.h0, in.c0 = parts.c0, in.keys = parts.keys, in.values = parts.values, in.v = parts.v;
  in.w_query = parts.w_query, in.b_query = parts.b_query, in.w_feed = parts.w_feed, in.b_feed = parts.b_feed;
  in.first_feed = parts.first_feed;
  const Layer& layer = parts.layers[0];
  in.weight_ih = layer.weight_ih, in.weight_hh = layer.weight_hh, in.bias_ih = layer.bias_ih;
  in.bias_hh = layer.bias_hh;
  in.take_outputs({embedding, w_output, b_output, w_readout, b_readout, order, readout}, parts.handed[kH0], to_compute);
  Int8Weights int8;
  if (packed.has_value()) int8 = narrow_weights(*packed, in, parts);
  return run_search(in, &parts, packed.has_value() ? &int8 : nullptr, lengths, mask,
                    {bos, eos, max_length, beam, n_best, length_penalty, coverage_penalty, forbidden, limits},
                    return_weights);
}

}  // namespace s2s::cpu
