// The Python module s2s_kernels._C: loading it registers the ops; it also offers the public ones directly.
#include <torch/csrc/utils/pybind.h>

#include "cpu/int8/layer.h"
#include "cpu/isa.h"
#include "cpu/threads/limits.h"
#include "cpu/threads/pool.h"
#include "ops.h"
#include "plan_attention.h"

namespace {

// Of python -m s2s_kernels.info --plan: what plans of sequences and of decoders say alike.
template <class Plan, class What>
pybind11::dict said_of(const Plan& made, const What& what, const s2s::plan::Gpu& gpu) {
  pybind11::dict said;
  said["refusal"] = made.refusal, said["multiprocessors"] = gpu.multiprocessors;
  said["measured_faster"] = s2s::plan::measured_faster(what, gpu);
  said["directions"] = made.directions, said["groups"] = made.groups, said["slices"] = made.slices,
  said["tiles"] = made.tiles;
  for (const auto& [name, launch] : {std::pair("forward", made.forward), std::pair("backward", made.backward)}) {
    pybind11::dict of;
    of["shared_bytes"] = launch.shared_bytes, of["exchange_bytes"] = launch.exchange_bytes;
    of["read_bytes"] = launch.read_bytes, of["step_us"] = launch.step_us;
    said[name] = of;
  }
  return said;
}

s2s::plan::Sequence sequence(int64_t gates, int64_t batch, int64_t steps, int64_t hidden, const std::string& dtype,
                             int64_t directions = 1) {
  using s2s::cuda::Type;
  Type type = dtype == "float32"    ? Type::kFloat
              : dtype == "float64"  ? Type::kDouble
              : dtype == "bfloat16" ? Type::kBFloat16
                                    : Type::kHalf;
  return {gates, batch, steps, hidden, type, false, directions};
}

pybind11::dict plan(int64_t gates, int64_t batch, int64_t steps, int64_t hidden, const std::string& dtype,
                    const std::string& arch, int64_t directions) {
  auto gpu = s2s::plan::gpu(arch);
  auto of = sequence(gates, batch, steps, hidden, dtype, directions);
  return said_of(s2s::plan::make(of, gpu), of, gpu);
}

pybind11::dict plan_attention(int64_t gates, int64_t batch, int64_t steps, int64_t source, int64_t hidden,
                              int64_t attention, const std::string& dtype, const std::string& arch) {
  auto gpu = s2s::plan::gpu(arch);
  s2s::plan::Decoder of{sequence(gates, batch, steps, hidden, dtype), source, attention, 1, false};
  auto made = s2s::plan::make(of, gpu);
  auto said = said_of(made, of, gpu);
  said["parts"] = made.parts;
  for (const auto& [name, launch] : {std::pair("forward", made.forward), std::pair("backward", made.backward)}) {
    said[name]["barriers"] = launch.barriers;
    said[name]["values_stay"] = launch.values_at >= 0, said[name]["keys_stay"] = launch.keys_at >= 0;
  }
  return said;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  namespace py = pybind11;
  using py::arg;
  m.def("cpu_capability", &s2s::cpu::cpu_capability, "Instruction set of the CPU kernels.");
  m.def("cores", &s2s::cpu::threads::cores, "Cores that the CPU kernels may use: of the affinity mask and the quota.");
  m.def("quota", &s2s::cpu::threads::quota, arg("process"), arg("root"), "Cores of a control group's quota, or 0.");
  m.def("use_own_threads", &s2s::cpu::threads::use_own_threads, arg("always"), "For tests: never libgomp's threads.");
  m.def("pretend_crowded", &s2s::cpu::threads::pretend_crowded, arg("always"), "For tests: as beside other processes.");
  m.def("pretend_cores", &s2s::cpu::threads::pretend_cores, arg("count"), "For tests: so many cores; 0 as there are.");
  m.def("plan", &plan, arg("gates"), arg("batch"), arg("steps"), arg("hidden"), arg("dtype"), arg("arch"),
        arg("directions"));
  m.def("plan_attention", &plan_attention, arg("gates"), arg("batch"), arg("steps"), arg("source"), arg("hidden"),
        arg("attention"), arg("dtype"), arg("arch"));
  m.def("int8_lanes", &s2s::cpu::int8_lanes, "Instruction sets of products in 8 bits that run here, the best first.");
  m.def("pretend_int8_lane", &s2s::cpu::pretend_int8_lane, arg("name"), "For tests: one of those; '' the best.");
  m.def("int8_linear", &s2s::cpu::int8_linear, arg("x"), arg("panels"), arg("outputs"), arg("weight"),
        "For tests: x (M, K) times a weight (N, K) in 8 bits, whose shape is that of `weight`.");
  m.def("additive_attention", &s2s::additive_attention, arg("query"), arg("keys"), arg("values"), arg("v"),
        py::kw_only(), arg("lengths") = py::none(), arg("mask") = py::none(), arg("bias") = py::none());
  m.def("gru_step", &s2s::gru_step, arg("gates_x"), arg("gates_h"), arg("h"));
  m.def("lstm_step", &s2s::lstm_step, arg("gates_x"), arg("gates_h"), arg("c"));
  m.def("gru", &s2s::gru, arg("x"), arg("h0"), arg("weight_ih"), arg("weight_hh"), arg("bias_ih") = py::none(),
        arg("bias_hh") = py::none(), py::kw_only(), arg("lengths") = py::none(), arg("reverse") = false,
        arg("resets") = py::none(), arg("reset_states") = py::none());
  m.def("lstm", &s2s::lstm, arg("x"), arg("state"), arg("weight_ih"), arg("weight_hh"), arg("bias_ih") = py::none(),
        arg("bias_hh") = py::none(), py::kw_only(), arg("lengths") = py::none(), arg("reverse") = false,
        arg("resets") = py::none(), arg("reset_states") = py::none());
  m.def("linear_cross_entropy", &s2s::linear_cross_entropy, arg("features"), arg("weight"), arg("bias"), arg("targets"),
        arg("label_smoothing") = 0.0);
  auto scan = [&](const char* name, auto f, const char* state) {
    m.def(name, f, arg("x"), arg(state), arg("keys"), arg("values"), arg("v"), arg("w_query"), arg("b_query"),
          arg("weight_ih"), arg("weight_hh"), arg("bias_ih") = py::none(), arg("bias_hh") = py::none(), py::kw_only(),
          arg("lengths") = py::none(), arg("mask") = py::none(), arg("w_feed") = py::none(), arg("b_feed") = py::none(),
          arg("first_feed") = py::none());
  };
  scan("attention_gru", &s2s::attention_gru, "h0");
  scan("attention_lstm", &s2s::attention_lstm, "state");
}
