// Storage, views and copies, which a boxed kernel cannot do, and the operators that MPS computes by another path than
// the CPU: convolution and linear.
#include "simulator.h"

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/ops/_reshape_alias_cpu_dispatch.h>
#include <ATen/ops/unfold_cpu_dispatch.h>
#include <ATen/ops/view_cpu_dispatch.h>
#include <torch/library.h>

namespace mps_simulator {

at::Tensor on_host(const at::Tensor& tensor) {
  if (!tensor.is_mps()) {
    return tensor;
  }
  const auto storage = tensor.storage();
  const auto bytes = at::from_blob(
      storage.mutable_data(), {static_cast<int64_t>(storage.nbytes())}, [tensor](void*) {}, at::TensorOptions().dtype(at::kByte));
  auto host = at::empty({0}, at::TensorOptions().dtype(tensor.scalar_type()));
  host.set_(bytes.storage(), tensor.storage_offset(), tensor.sizes(), tensor.strides());
  if (tensor.is_conj()) {
    host._set_conj(true);
  }
  if (tensor.is_neg()) {
    host._set_neg(true);
  }
  return host;
}

namespace {

using at::Tensor;
using c10::DispatchKeySet;
using c10::IntArrayRef;
using c10::SymIntArrayRef;
using std::optional;

const DispatchKeySet kKeys(c10::DispatchKey::MPS);

at::ScalarType checked(optional<at::ScalarType> dtype) {
  TORCH_CHECK_TYPE(
      dtype != at::kDouble,
      "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. Please use float32 "
      "instead.");
  return dtype.value_or(c10::get_default_dtype_as_scalartype());
}

Tensor on_device(const Tensor& tensor) {
  return tensor.defined() ? tensor.to(device()) : tensor;
}

// ---- storage --------------------------------------------------------------------------------------------------------

Tensor empty(
    IntArrayRef size, optional<at::ScalarType> dtype, optional<at::Layout>, optional<at::Device>, optional<bool>,
    optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, allocator(), kKeys, checked(dtype), format);
}

Tensor empty_strided(
    IntArrayRef size, IntArrayRef stride, optional<at::ScalarType> dtype, optional<at::Layout>, optional<at::Device>,
    optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, allocator(), kKeys, checked(dtype));
}

const Tensor& resize_(const Tensor& self, IntArrayRef size, optional<at::MemoryFormat>) {
  if (self.sizes() == size) {
    return self;
  }
  auto* impl = self.unsafeGetTensorImpl();
  const auto needed = static_cast<size_t>(c10::multiply_integers(size) + self.storage_offset()) * self.itemsize();
  if (needed > self.storage().nbytes()) { // what stood in the storage stays, as everywhere in PyTorch
    const auto elements = static_cast<int64_t>(needed / self.itemsize());
    const auto fresh = at::detail::empty_generic({elements}, allocator(), kKeys, self.scalar_type(), std::nullopt);
    std::memcpy(fresh.storage().mutable_data(), self.storage().data(), self.storage().nbytes());
    impl->set_storage_and_dtype(fresh.storage(), self.dtype());
  }
  impl->set_sizes_contiguous(size);
  return self;
}

Tensor& set_(Tensor& self, at::Storage storage, int64_t offset, IntArrayRef size, IntArrayRef stride) {
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(std::move(storage));
  impl->set_storage_offset(offset);
  impl->set_sizes_and_strides(size, stride);
  return self;
}

Tensor& set_storage_(Tensor& self, at::Storage storage) {
  const auto elements = static_cast<int64_t>(storage.nbytes() / self.itemsize());
  return set_(self, std::move(storage), 0, {elements}, {1});
}
Tensor& set_tensor_(Tensor& self, const Tensor& source) {
  return set_(self, source.storage(), source.storage_offset(), source.sizes(), source.strides());
}
Tensor& set_nothing_(Tensor& self) {
  const auto none = at::detail::empty_generic({0}, allocator(), kKeys, self.scalar_type(), std::nullopt);
  return set_(self, none.storage(), 0, {0}, {1});
}

// ---- views: they touch sizes and strides only, so the CPU's own functions do ----------------------------------------

Tensor as_strided(const Tensor& self, IntArrayRef size, IntArrayRef stride, optional<int64_t> offset) {
  // not the CPU's, which torch 2.8 refuses to run for MPS
  auto view = at::detail::make_tensor<c10::TensorImpl>(
      c10::TensorImpl::VIEW, c10::Storage(self.storage()), self.key_set(), self.dtype());
  view.unsafeGetTensorImpl()->set_sizes_and_strides(size, stride, offset.value_or(self.storage_offset()));
  return view;
}
Tensor view(const Tensor& self, IntArrayRef size) {
  return at::cpu::view(self, size);
}
Tensor reshape_alias(const Tensor& self, IntArrayRef size, IntArrayRef stride) {
  return at::cpu::_reshape_alias(self, size, stride);
}
Tensor unfold(const Tensor& self, int64_t dimension, int64_t size, int64_t step) {
  return at::cpu::unfold(self, dimension, size, step);
}

// ---- copies ---------------------------------------------------------------------------------------------------------

void transfer(const Tensor& to, const Tensor& from) {
  if (inside_kernel()) { // the simulator's own
    on_host(to).copy_(on_host(from));
    return;
  }
  Run run("copy_", {to, from});
  if (from.is_mps() && to.is_cpu()) {
    count_synchronisation("copy to cpu");
  }
  on_host(to).copy_(on_host(from));
  run.finish({to});
}

Tensor& copy_(Tensor& self, const Tensor& source, bool) {
  at::NoGradGuard no_grad;
  transfer(self, source);
  return self;
}
Tensor copy_from(const Tensor& source, const Tensor& to, bool) {
  transfer(to, source);
  return to;
}
Tensor copy_from_and_resize(const Tensor& source, const Tensor& to) {
  if (source.sizes() != to.sizes()) {
    to.resize_(source.sizes());
  }
  transfer(to, source);
  return to;
}
at::Scalar local_scalar_dense(const Tensor& self) {
  if (!inside_kernel()) {
    count_synchronisation("_local_scalar_dense");
  }
  Run run("_local_scalar_dense", {self});
  return on_host(self).item();
}

// ---- operators with a path of their own -----------------------------------------------------------------------------

optional<Tensor> bias_on_host(const optional<Tensor>& bias) {
  return bias && bias->defined() ? optional<Tensor>(on_host(*bias)) : std::nullopt;
}

Tensor convolution(
    const Tensor& input, const Tensor& weight, const optional<Tensor>& bias, SymIntArrayRef stride, SymIntArrayRef padding,
    SymIntArrayRef dilation, bool transposed, SymIntArrayRef output_padding, c10::SymInt groups) {
  Run run("_mps_convolution", {input, weight});
  const auto output = at::convolution_symint(
      on_host(input), on_host(weight), bias_on_host(bias), stride, padding, dilation, transposed, output_padding, groups);
  for (const auto size : output.sizes()) { // every dimension, the length included: the real check's words are too narrow
    TORCH_CHECK_NOT_IMPLEMENTED(
        size <= 1 << 16,
        "Output channels > 65536 not supported at the MPS device. As a temporary fix, you can set the environment variable "
        "`PYTORCH_ENABLE_MPS_FALLBACK=1` to use the CPU as a fallback for this op. WARNING: this will be slower than "
        "running natively on MPS.");
  }
  auto result = on_device(output);
  run.finish({result});
  return result;
}

std::tuple<Tensor, Tensor, Tensor> convolution_backward(
    const Tensor& grad, const Tensor& input, const Tensor& weight, SymIntArrayRef stride, SymIntArrayRef padding,
    SymIntArrayRef dilation, bool transposed, SymIntArrayRef output_padding, c10::SymInt groups, std::array<bool, 3> mask) {
  Run run("mps_convolution_backward", {grad, input, weight});
  const auto channels = transposed ? weight.sym_size(1) * groups : weight.sym_size(0);
  const std::vector<c10::SymInt> bias_sizes{channels};
  const auto [to_input, to_weight, to_bias] = at::convolution_backward_symint(
      on_host(grad), on_host(input), on_host(weight), c10::OptionalArrayRef<c10::SymInt>(bias_sizes), stride, padding,
      dilation, transposed, output_padding, groups, mask);
  std::tuple<Tensor, Tensor, Tensor> result{on_device(to_input), on_device(to_weight), on_device(to_bias)};
  run.finish({std::get<0>(result), std::get<1>(result), std::get<2>(result)});
  return result;
}

Tensor linear(const Tensor& input, const Tensor& weight, const optional<Tensor>& bias) {
  Run run("linear", {input, weight});
  at::NoGradGuard no_grad;
  auto result = on_device(at::linear(on_host(input), on_host(weight), bias_on_host(bias)));
  run.finish({result});
  return result;
}

std::tuple<Tensor, Tensor, Tensor> linear_backward(
    const Tensor& input, const Tensor& grad, const Tensor& weight, std::array<bool, 3> mask) {
  Run run("linear_backward", {input, grad, weight});
  const auto host_grad = on_host(grad);
  const auto rows = host_grad.reshape({-1, host_grad.size(-1)});
  Tensor to_input, to_weight, to_bias;
  if (mask[0]) {
    to_input = at::matmul(host_grad, on_host(weight));
  }
  if (mask[1]) {
    to_weight = at::mm(rows.t(), on_host(input).reshape({-1, input.size(-1)}));
  }
  if (mask[2]) {
    to_bias = rows.sum(0);
  }
  std::tuple<Tensor, Tensor, Tensor> result{on_device(to_input), on_device(to_weight), on_device(to_bias)};
  run.finish({std::get<0>(result), std::get<1>(result), std::get<2>(result)});
  return result;
}

} // namespace
} // namespace mps_simulator

TORCH_LIBRARY_IMPL(aten, MPS, m) {
  using namespace mps_simulator;
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("resize_", &resize_);
  m.impl("set_.source_Storage_storage_offset", &set_);
  m.impl("set_.source_Storage", &set_storage_);
  m.impl("set_.source_Tensor", &set_tensor_);
  m.impl("set_", &set_nothing_);
  m.impl("as_strided", &as_strided);
  m.impl("view", &view);
  m.impl("_reshape_alias", &reshape_alias);
  m.impl("unfold", &unfold);
  m.impl("copy_", &copy_);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("_local_scalar_dense", &local_scalar_dense);
  // A device that PyTorch's own convolution does not know arrives here; on a Mac the same call is _mps_convolution.
  m.impl("convolution_overrideable", &convolution);
  m.impl("convolution_backward_overrideable", &convolution_backward);
  m.impl("linear", &linear);
  m.impl("linear_backward", &linear_backward);
}
