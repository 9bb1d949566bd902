#include "../linear.h"

#include <ATen/ops/empty.h>

namespace s2s::cpu {

Tensor int8_linear(const Tensor& x, const Tensor& panels, const Tensor& outputs, const Tensor& weight) {
  check_dim("weight", weight, 2, 2);
  check_dim("x", x, 2, 2);
  check_made("x", x, {x.size(0), weight.size(1)}, at::kFloat, weight.device());
  Linear<float> layer(weight, {}, false, {"weight", panels, outputs, weight});
  Tensor y = at::empty({x.size(0), weight.size(0)}, x.options());
  auto rows = layer.read(x.size(0), data<float>(x), x.size(1));
  layer.columns(0, weight.size(0), rows, data<float>(y), weight.size(0));
  return y;
}

}  // namespace s2s::cpu
