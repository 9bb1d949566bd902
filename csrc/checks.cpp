#include "checks.h"

#include <ATen/ops/max.h>
#include <ATen/ops/min.h>

#include <cstdlib>
#include <cstring>

namespace s2s {

void check_dim(const char* name, const Tensor& x, int64_t least, int64_t most) {
  TORCH_CHECK_VALUE(x.dim() >= least && x.dim() <= most, name, " has shape ", x.sizes(), ", expected ", least,
                    least == most ? "" : " or more", " dimensions");
}

void check_like(const char* name, const Tensor& x, at::IntArrayRef shape, const Tensor& like) {
  TORCH_CHECK_VALUE(x.sizes() == shape, name, " has shape ", x.sizes(), ", expected ", shape);
  TORCH_CHECK_VALUE(x.device() == like.device(), name, " is on ", x.device(), ", expected ", like.device());
  TORCH_CHECK_TYPE(x.scalar_type() == like.scalar_type(), name, " has dtype ", x.scalar_type(), ", expected ",
                   like.scalar_type());
  TORCH_CHECK_TYPE(at::isFloatingType(x.scalar_type()) && x.element_size() >= 2, name, " has dtype ", x.scalar_type(),
                   ", expected float32, float64, bfloat16 or float16");
}

void check_made(const char* name, const Tensor& x, at::IntArrayRef shape, at::ScalarType type, at::Device device) {
  TORCH_CHECK_VALUE(x.sizes() == shape, name, " has shape ", x.sizes(), ", expected ", shape);
  TORCH_CHECK_VALUE(x.device() == device, name, " is on ", x.device(), ", expected ", device);
  TORCH_CHECK_TYPE(x.scalar_type() == type, name, " has dtype ", x.scalar_type(), ", expected ", type);
  TORCH_CHECK_VALUE(x.is_contiguous(), name, " has strides ", x.strides(), ", expected a contiguous tensor");
}

void check_optional(const char* name, const OptionalTensor& x, at::IntArrayRef shape, const Tensor& like) {
  if (x.has_value() && x->defined()) check_like(name, *x, shape, like);
}

namespace {

// Values on a GPU are read only when S2S_CHECK=1: it synchronises.
bool may_read(const Tensor& x) {
  if (!x.is_cuda()) return x.is_cpu();
  const char* asked = std::getenv("S2S_CHECK");
  return asked && std::strcmp(asked, "1") == 0;
}

}  // namespace

void check_lengths(const OptionalTensor& lengths, int64_t batch, int64_t limit, const Tensor& like, const char* name) {
  if (!lengths.has_value() || !lengths->defined()) return;
  TORCH_CHECK_VALUE(lengths->dim() == 1 && lengths->size(0) == batch, name, " has shape ", lengths->sizes(),
                    ", expected [", batch, "]");
  TORCH_CHECK_TYPE(at::isIntegralType(lengths->scalar_type(), false), name, " has dtype ", lengths->scalar_type(),
                   ", expected an integer type");
  TORCH_CHECK_VALUE(lengths->device() == like.device(), name, " is on ", lengths->device(), ", expected ",
                    like.device());
  if (batch == 0 || !may_read(*lengths)) return;
  int64_t least = at::min(*lengths).item().toLong(), most = at::max(*lengths).item().toLong();
  TORCH_CHECK_VALUE(least >= 0 && most <= limit, name, " holds ", least < 0 ? least : most,
                    ", expected values from 0 to ", limit);
}

void check_mask(const OptionalTensor& mask, int64_t batch, int64_t source, const Tensor& like, const char* name) {
  if (!mask.has_value() || !mask->defined()) return;
  TORCH_CHECK_TYPE(mask->scalar_type() == at::kBool, name, " has dtype ", mask->scalar_type(), ", expected bool");
  TORCH_CHECK_VALUE(mask->sizes() == at::IntArrayRef({batch, source}), name, " has shape ", mask->sizes(),
                    ", expected [", batch, ", ", source, "]");
  TORCH_CHECK_VALUE(mask->device() == like.device(), name, " is on ", mask->device(), ", expected ", like.device());
}

void check_cell(int64_t gates, const Tensor& x, const Tensor& h0, const OptionalTensor& c0, const Cell& cell,
                int64_t feed) {
  check_dim("x", x, 3, 3);
  check_dim("h0", h0, 2, 2);
  int64_t batch = x.size(0), hidden = h0.size(1);
  check_like("x", x, x.sizes(), x);
  check_like("h0", h0, {batch, hidden}, x);
  check_optional("c0", c0, {batch, hidden}, x);
  check_like("weight_ih", cell.weight_ih, {gates * hidden, x.size(2) + feed}, x);
  check_like("weight_hh", cell.weight_hh, {gates * hidden, hidden}, x);
  check_optional("bias_ih", cell.bias_ih, {gates * hidden}, x);
  check_optional("bias_hh", cell.bias_hh, {gates * hidden}, x);
}

}  // namespace s2s
