// The arguments of the attention decoder with its parts (docs/ops.md), checked and in the computing dtype. States and
// what belongs to a layer have the layers first; keys are (B, S, N, A), v is (N, A), values are (B, S, 1 or N, D). Keys
// and values are in their own dtype.
#pragma once

#include "../tensors.h"

namespace s2s::cpu::decoder {

enum class Query { kH, kCH };
enum class Score { kAdditive, kDot };
enum class Normalization { kSoftmax, kSigmoid, kForward };
enum class Location { kPrevious, kCumulative, kBoth };
enum class Feed { kTanh, kLinear, kGate };

// The order of the op's inputs; four weights a further layer, or those of the transition, follow.
enum Input {
  kX,
  kH0,
  kC0,
  kKeys,
  kValues,
  kV,
  kWQuery,
  kBQuery,
  kWeightIh,
  kWeightHh,
  kBiasIh,
  kBiasHh,
  kWFeed,
  kBFeed,
  kFirstFeed,
  kBScore,
  kWLocation,
  kFirstWeights,
  kDropQuery,
  kDropWeights,
  kDropAttended,
  kDropFed,
  kDropLayers,
  kDropH,
  kDropC,
  kZoneH,
  kZoneC,
  kWDense,
  kUpperLayers
};

// The order of its outputs.
enum Output {
  kStates,
  kContexts,
  kWeights,
  kFeeds,
  kHN,
  kCN,
  kGates,    // (L, B, T, 4H); here and below a transition is a second layer, whose lower states are those that ask
  kCells,    // (L, B, T, H), of an LSTM as its cell made them
  kCarried,  // (L, B, T, H), those cells as the next step reads them, where they differ
  kLower,    // (L - 1, B, T, H), the states of the layers below the top
  kQueries,  // (B, T+1, N * A)
  kParts,    // (B, T+1, [N,] S): the softmax under the forward normalisation, or the sigmoids under their sum
  kGate,     // (B, T+1, N * D)
  kExactStates,
  kExactContexts,
  kExactWeights,
  kExactFeeds,
  kOutputs
};
constexpr int64_t kPublic = kGates;

struct Layer {
  Tensor weight_ih, weight_hh, bias_ih, bias_hh;
};

struct Inputs {
  int64_t gates;
  Query query;
  Score score;
  Normalization normalization;
  Location location;
  bool detach;
  Feed feed_form;
  bool transition;  // the second cell, fed after the attention has been asked with what the first made of x alone

  Tensor x, h0, c0, keys, values, v, w_query, b_query, w_feed, b_feed, first_feed, b_score, w_location, w_dense,
      first_weights;
  Tensor located_keys;  // in the computing dtype, where a location is added to them
  Tensor drop_query, drop_weights, drop_attended, drop_fed, drop_layers, drop_h, drop_c, zone_h, zone_c;
  std::vector<Layer> layers;

  at::ScalarType type;                     // of the public tensors
  std::vector<int64_t> state_shape, lead;  // public: of h0; of weights but for the last
  Tensors handed;                          // every input as it came, undefined where it was None
  int64_t batch, steps, inputs, hidden, source, heads, attention, width, value_heads, feed, channels = 0, kernel = 0,
                                                                                            filters = 0;

  // matrices: what becomes of weights; fed: whether the cell is fed anything but x.
  Inputs(Tensors handed, const OptionalTensor& lengths, const OptionalTensor& mask, at::IntArrayRef form,
         Prepare matrices = to_compute, bool fed = true);
  void check_backward(const OptionalTensors& grads, const Tensors& outputs, const std::vector<bool>& needs) const;
  bool applies(int which, bool save) const;  // whether there is such an output
  std::vector<int64_t> output_shape(int which, bool save) const;

  bool has_cell() const { return gates == kLstm; }
  bool has_feed() const { return w_feed.defined(); }
  bool has_first() const { return first_feed.defined(); }
  bool gated() const { return has_feed() && feed_form == Feed::kGate; }
  bool carries_c() const { return drop_c.defined() || zone_c.defined(); }
  bool pairs() const { return in_pairs(type); }
  bool sums() const { return location != Location::kPrevious && w_location.defined(); }
  int64_t depth() const { return layers.size(); }                    // cells
  int64_t levels() const { return transition ? 1 : layers.size(); }  // states
  int64_t wide() const { return gates * hidden; }
  int64_t asked() const { return heads * attention; }
  int64_t context() const { return heads * width; }
  int64_t asking() const { return query == Query::kCH ? 2 * hidden : hidden; }  // what the query is made of
  int64_t attended() const { return gated() ? hidden : hidden + context(); }    // what w_feed reads
  // The first step whose weights are part of the history.
  int64_t first_counted() const { return has_first() || transition ? 1 : 0; }

  int64_t location_width() const { return filters ? filters : attention; }  // of what the convolution makes

  Tensor weight_x() const { return columns(layers[0].weight_ih, 0, inputs); }
  Tensor weight_feed() const {
    return transition ? layers[1].weight_ih : columns(layers[0].weight_ih, inputs, inputs + feed);
  }
  Tensor feed_h() const { return columns(w_feed, 0, hidden); }
  Tensor feed_c() const { return columns(w_feed, hidden, hidden + context()); }
  std::vector<int64_t> weights_shape() const;
  Tensor empty(at::IntArrayRef shape) const { return at::empty(shape, x.options()); }
  Tensor zeros(at::IntArrayRef shape) const;
  double step_work() const;
};

// The op's list, undefined where it holds None.
Tensors tensors_of(const OptionalTensors& list);

// The two passes; of the outputs those that do not apply are undefined.
Tensors forward(Inputs& in, const OptionalTensor& lengths, const OptionalTensor& mask, bool save);
Tensors backward(Inputs& in, const OptionalTensors& grads, const OptionalTensor& lengths, const OptionalTensor& mask,
                 const Tensors& outputs, const std::vector<bool>& needs);

}  // namespace s2s::cpu::decoder
