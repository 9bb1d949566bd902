#include "persistent_attention_host.h"

#include "../persistent_host.h"
#include "persistent_attention.cuh"

namespace s2s::cuda {

namespace {

void* exchanged(const PersistentLaunch& launch, int64_t bytes) {
  return static_cast<char*>(launch.division.exchange) + bytes;
}

// What a caller's tensor is, where 16 bytes may be read from.
Tensor aligned16(const Tensor& x) { return reinterpret_cast<uintptr_t>(data(x)) % 16 ? x.clone() : x; }

struct Source {
  Tensor keys, values;
  PersistentSource about;

  Source(const AttentionRecurrenceArguments& in, const Tensor& lengths, const Tensor& mask,
         const plan::DecoderPlan& plan, const plan::DecoderLaunch& half)
      : keys(aligned16(in.keys)), values(product(rows(in.values), in.weight_feed().t())) {
    about = {in.source, in.attention, data(keys), data(in.v), data(values), int64_data(lengths), bool_data(mask)};
    about.parts = static_cast<int>(plan.parts), about.span = static_cast<int>(plan.span);
    about.weights_at = half.weights_at, about.values_at = half.values_at, about.keys_at = half.keys_at;
  }
};

}  // namespace

std::optional<plan::DecoderPlan> persistent_plan(int64_t gates, const AttentionRecurrenceArguments& in) {
  plan::Decoder decoder{{gates, in.batch, in.steps, in.hidden, type_of(in.x)}, in.source, in.attention, in.heads};
  decoder.has_feed = in.w_feed.defined();
  plan::Gpu gpu = gpu_of(in.x);
  if (!persistent_wanted(plan::measured_faster(decoder, gpu))) return {};
  plan::DecoderPlan plan = plan::make(decoder, gpu);
  return plan.refusal.empty() ? std::optional(plan) : std::nullopt;
}

Tensor run_persistent_forward(const plan::DecoderPlan& plan, int64_t gates, const AttentionRecurrenceArguments& in,
                              const Tensor& lengths, const Tensor& mask, const CellForward& cell) {
  PersistentLaunch launch(plan, plan.forward, in.x);
  Source source(in, lengths, mask, plan, plan.forward);
  Tensor queries = in.empty({in.batch, in.steps + 1, in.attention});
  Tensor first = in.first_feed.defined() ? product(in.first_feed, in.weight_feed().t()) : Tensor();
  PersistentAttentionForward p{cell};
  p.cell.more_gates = nullptr;
  p.weight = data(in.weight_hh), p.bias = data(in.bias_hh);
  p.w_query = data(in.w_query), p.b_query = data(in.b_query);
  p.first_gates = data(first), p.queries = data(queries);
  p.source = source.about, p.division = launch.division;
  p.exchanged_queries = exchanged(launch, plan.forward.second_at);
  p.exchanged_scores = static_cast<float*>(exchanged(launch, plan.forward.third_at));
  persistent_attention_forward(gates, p, type_of(in.x), current_stream(in.x));
  return queries;
}

void run_persistent_backward(const plan::DecoderPlan& plan, int64_t gates, const AttentionRecurrenceArguments& in,
                             const Tensor& lengths, const Tensor& mask, const CellBackward& cell,
                             const PersistentQueries& all) {
  PersistentLaunch launch(plan, plan.backward, in.x);
  Source source(in, lengths, mask, plan, plan.backward);
  PersistentAttentionBackward p{cell};
  p.weight = data(in.weight_hh), p.w_query = data(in.w_query);
  p.queries = data(all.queries), p.weights = data(all.weights);
  p.given_scores = data(all.given_scores), p.grad_scores = data(all.grad_scores);
  p.grad_queries = data(all.grad_queries);
  p.grad_query_strides = {all.grad_queries.stride(0), all.grad_queries.stride(1)};
  p.has_first = in.first_feed.defined(), p.w_query_at = plan.backward.w_query_at;
  p.source = source.about, p.division = launch.division;
  p.exchanged_grad_queries = exchanged(launch, plan.backward.second_at);
  p.exchanged_parts = static_cast<float*>(exchanged(launch, plan.backward.third_at));
  persistent_attention_backward(gates, p, type_of(in.x), current_stream(in.x));
}

}  // namespace s2s::cuda
