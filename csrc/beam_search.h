// The op beam_search on a backend's search: the one place where all its arguments stand.
#pragma once

#include "arguments.h"

namespace s2s {

template <Search search>
Four beam_search(at::TensorList state, const Tensor& keys, const Tensor& values, const Tensor& v, const Tensor& w_query,
                 const OptionalTensor& b_query, const Tensor& weight_ih, const Tensor& weight_hh,
                 const OptionalTensor& bias_ih, const OptionalTensor& bias_hh, const Tensor& embedding,
                 const Tensor& w_output, const OptionalTensor& b_output, int64_t bos, int64_t eos, int64_t max_length,
                 int64_t beam, int64_t n_best, double length_penalty, double coverage_penalty,
                 at::IntArrayRef forbidden, const OptionalTensor& limits, const OptionalTensor& lengths,
                 const OptionalTensor& mask, std::string_view order, const OptionalTensor& w_feed,
                 const OptionalTensor& b_feed, const OptionalTensor& first_feed, std::string_view readout,
                 const OptionalTensor& w_readout, const OptionalTensor& b_readout, bool return_weights) {
  return search(
      {state,    keys,     values, v,      w_query,    b_query,   weight_ih, weight_hh, bias_ih, bias_hh, embedding,
       w_output, b_output, w_feed, b_feed, first_feed, w_readout, b_readout, lengths,   mask,    order,   readout},
      {bos, eos, max_length, beam, n_best, length_penalty, coverage_penalty, forbidden, limits}, return_weights);
}

}  // namespace s2s
