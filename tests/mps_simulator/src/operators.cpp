// Every operator without a kernel of its own: run on the CPU where the real device has a kernel, refused or "fallen
// back" where it has none. Counters and planted faults.
#include "simulator.h"

#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/native/CPUFallback.h>
#include <torch/library.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

namespace mps_simulator {
namespace {

thread_local bool inside = false;

// Read when the library is loaded, at the end of `import torch`; the real one reads it during that import, in a static
// initialiser, with the same std::stoi. What is no number therefore ends the process here as it does there.
bool fallback_allowed() noexcept {
  static const char* variable = std::getenv("PYTORCH_ENABLE_MPS_FALLBACK");
  static const bool allowed = variable != nullptr && std::stoi(variable) != 0;
  return allowed;
}
[[maybe_unused]] const bool read_when_loaded = fallback_allowed();

// "add_.Tensor" and "add.out" are "add": in-place and functional forms arrive as the out form, here as on a Mac.
std::string base_name(const std::string& name) {
  std::string base = name.substr(0, name.find('.'));
  if (base.size() > 2 && base.back() == '_' && base[base.size() - 2] != '_') {
    base.pop_back();
  }
  return base;
}

bool applies(const Fault& fault, const std::vector<at::Tensor>& arguments) {
  const auto any = [&](auto condition) {
    return std::any_of(arguments.begin(), arguments.end(), [&](const at::Tensor& t) { return condition(t); });
  };
  if (fault.strided && !any([](const at::Tensor& t) { return !t.is_contiguous(); })) {
    return false;
  }
  if (fault.dtype && !any([&](const at::Tensor& t) { return t.scalar_type() == *fault.dtype; })) {
    return false;
  }
  if (fault.size && !any([&](const at::Tensor& t) {
        return std::any_of(t.sizes().begin(), t.sizes().end(), [&](int64_t n) { return n >= fault.size; });
      })) {
    return false;
  }
  return true;
}

// The faults that meet this run of an operator. Copies, since they are acted upon without the lock.
std::vector<Fault> faults_of(const std::string& name, const std::vector<at::Tensor>& arguments) {
  auto& shared = state();
  std::lock_guard<std::mutex> lock(shared.mutex);
  std::vector<Fault> met;
  if (shared.faults.empty()) {
    return met;
  }
  const std::string base = base_name(name);
  for (auto& fault : shared.faults) {
    if ((fault.op == "*" || fault.op == base) && applies(fault, arguments) && ++fault.calls >= fault.call) {
      met.push_back(fault);
    }
  }
  return met;
}

void refuse_unsupported(const std::string& name) {
  TORCH_CHECK_NOT_IMPLEMENTED(
      false, "The operator 'aten::", name,
      "' is not currently implemented for the MPS device. If you want this op to be considered for addition please "
      "comment on https://github.com/pytorch/pytorch/issues/141287 and mention use-case, that resulted in missing op "
      "as well as commit hash ",
      state().commit,
      ". As a temporary fix, you can set the environment variable `PYTORCH_ENABLE_MPS_FALLBACK=1` to use the CPU as a "
      "fallback for this op. WARNING: this will be slower than running natively on MPS.");
}

void warn_of_fallback(const std::string& name) {
  TORCH_WARN_ONCE( // the real one, too, warns once a process and not once an operator
      "The operator 'aten::", name,
      "' is not currently supported on the MPS backend and will fall back to run on the CPU. This may have performance "
      "implications.");
}

void act_on(const Fault& fault, const std::string& name) {
  using std::chrono::duration;
  if (fault.kind == "slow") {
    std::this_thread::sleep_for(duration<double>(fault.value));
  } else if (fault.kind == "hang") {
    for (;;) {
      std::this_thread::sleep_for(std::chrono::hours(1));
    }
  } else if (fault.kind == "abort") {
    std::fprintf(stderr, "(mpsFileLoc): error: 'mps.%s' op is made to fail\nLLVM ERROR: Failed to infer result type(s).\n", name.c_str());
    std::fflush(stderr);
    std::abort();
  } else if (fault.kind == "out-of-memory") {
    out_of_memory(size_t(1) << 30);
  } else if (fault.kind == "refuse") {
    TORCH_CHECK_NOT_IMPLEMENTED(
        false, "Output channels > 65536 not supported at the MPS device. As a temporary fix, you can set the environment "
        "variable `PYTORCH_ENABLE_MPS_FALLBACK=1` to use the CPU as a fallback for this op. WARNING: this will be slower "
        "than running natively on MPS.");
  } else if (fault.kind == "error") {
    TORCH_CHECK(false, "MPS: the command buffer of ", name, " ended with an error (planted)");
  }
}

// Tensors among the arguments, or only those that the operator writes to.
std::vector<at::Tensor> tensors_of(const c10::OperatorHandle& op, const torch::jit::Stack& stack, bool written_only) {
  std::vector<at::Tensor> found;
  const auto& arguments = op.schema().arguments();
  const size_t first = stack.size() - arguments.size();
  for (size_t i = 0; i < arguments.size(); ++i) {
    const auto* alias = arguments[i].alias_info();
    if (written_only && (alias == nullptr || !alias->isWrite())) {
      continue;
    }
    const auto& value = stack[first + i];
    if (value.isTensor() && value.toTensor().defined()) {
      found.push_back(value.toTensor());
    } else if (value.isTensorList()) {
      for (const at::Tensor& tensor : value.toTensorVector()) {
        found.push_back(tensor);
      }
    }
  }
  return found;
}

std::vector<at::Tensor> returned(const c10::OperatorHandle& op, const torch::jit::Stack& stack) {
  std::vector<at::Tensor> found;
  const size_t count = op.schema().returns().size();
  for (size_t i = stack.size() - count; i < stack.size(); ++i) {
    if (stack[i].isTensor() && stack[i].toTensor().defined()) {
      found.push_back(stack[i].toTensor());
    } else if (stack[i].isTensorList()) {
      for (const at::Tensor& tensor : stack[i].toTensorVector()) {
        found.push_back(tensor);
      }
    }
  }
  return found;
}

// While a random operator runs, the CPU's default generator has the state of this device's: the CPU's own numbers and
// the device's are two sequences, as on a Mac.
class LentRandomState {
 public:
  LentRandomState(const c10::OperatorHandle& op, torch::jit::Stack& stack) {
    if (!op.hasTag(at::Tag::nondeterministic_seeded)) {
      return;
    }
    std::optional<at::Generator> given;
    const auto& arguments = op.schema().arguments();
    const size_t first = stack.size() - arguments.size();
    for (size_t i = 0; i < arguments.size(); ++i) {
      if (arguments[i].name() == "generator" && stack[first + i].isGenerator()) {
        given = stack[first + i].toGenerator();
        stack[first + i] = c10::IValue();
      }
    }
    generator_ = host_generator(given);
    auto cpu = at::globalContext().defaultGenerator(c10::kCPU);
    cpus_ = cpu.get_state();
    cpu.set_state(generator_->get_state());
  }
  ~LentRandomState() {
    if (generator_) {
      auto cpu = at::globalContext().defaultGenerator(c10::kCPU);
      generator_->set_state(cpu.get_state());
      cpu.set_state(cpus_);
    }
  }

 private:
  std::optional<at::Generator> generator_;
  at::Tensor cpus_;
};

// What real kernels refuse although they are registered; the fallback variable does not help with these.
void refuse_shapes(const std::string& name, const std::vector<at::Tensor>& arguments, const torch::jit::Stack& stack) {
  if (name.rfind("_adaptive_avg_pool2d", 0) == 0 && name.find("backward") == std::string::npos) {
    const auto sizes = arguments.at(0).sizes();
    const auto output = stack.end()[name.find("out") == std::string::npos ? -1 : -2].toIntVector();
    for (size_t i = 0; i < 2; ++i) {
      TORCH_CHECK(
          sizes[sizes.size() - 2 + i] % output[i] == 0,
          "Adaptive pool MPS: input sizes must be divisible by output sizes. Non-divisible input sizes are not "
          "implemented on MPS device yet. For now, you can manually transfer tensor to cpu in this case. Please refer "
          "to [this issue](https://github.com/pytorch/pytorch/issues/96056)");
    }
  }
}

void run_operator(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  std::string name = c10::toString(op.operator_name());
  if (name.rfind("aten::", 0) == 0) {
    name = name.substr(6);
  }
  const auto arguments = tensors_of(op, *stack, false);
  const auto written = tensors_of(op, *stack, true);
  Run run(name, arguments);
  refuse_shapes(name, arguments, *stack);
  LentRandomState random(op, *stack);
  at::native::cpu_fallback(op, stack);
  run.finish(written.empty() ? returned(op, *stack) : written);
}

} // namespace

State& state() {
  static auto* instance = new State();
  return *instance;
}

bool inside_kernel() {
  return inside;
}

void count_synchronisation(const char* how) {
  std::lock_guard<std::mutex> lock(state().mutex);
  state().counters.synchronised[how]++;
}

Run::Run(const std::string& name, const std::vector<at::Tensor>& arguments) : was_inside_(inside) {
  auto& shared = state();
  bool missing = false;
  for (const auto& fault : faults_of(name, arguments)) {
    missing |= fault.kind == "missing";
    if (fault.kind == "wrong") {
      relative_error_ = fault.value;
    }
    act_on(fault, name);
  }
  bool always = false;
  {
    std::lock_guard<std::mutex> lock(shared.mutex);
    always = shared.always_fallback.count(name) != 0;
    missing |= shared.native.count(name) == 0;
    (missing ? shared.counters.fell_back : shared.counters.ran)[name]++;
  }
  if (missing) {
    if (!always && !fallback_allowed()) {
      refuse_unsupported(name);
    }
    warn_of_fallback(name);
  }
  inside = true;
}

Run::~Run() {
  inside = was_inside_;
}

void Run::finish(const std::vector<at::Tensor>& results) {
  if (relative_error_ == 0) {
    return;
  }
  for (const auto& tensor : results) {
    if (tensor.defined() && tensor.is_floating_point()) {
      at::NoGradGuard no_grad;
      on_host(tensor).mul_(1 + relative_error_);
    }
  }
}

} // namespace mps_simulator

TORCH_LIBRARY_IMPL(_, MPS, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&mps_simulator::run_operator>());
}

// Composite operators that MPS has kernels of its own for: without a registration they would be taken apart first.
TORCH_LIBRARY_IMPL(aten, MPS, m) {
  for (const char* name : {"native_layer_norm", "native_group_norm", "constant_pad_nd", "repeat"}) {
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&mps_simulator::run_operator>());
  }
}
