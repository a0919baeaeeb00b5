// What ../site/simulated_mps.py sets and reads.
#include "simulator.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

namespace sim = mps_simulator;
namespace py = pybind11;

namespace {

std::optional<at::ScalarType> scalar_type(const std::string& name) {
  if (name.empty()) {
    return std::nullopt;
  }
  if (name == "float16") {
    return at::kHalf;
  }
  if (name == "bfloat16") {
    return at::kBFloat16;
  }
  if (name == "float32") {
    return at::kFloat;
  }
  throw py::value_error("a fault cannot depend on " + name);
}

void set_operators(const std::vector<std::string>& native, const std::vector<std::string>& always, const std::string& commit) {
  auto& shared = sim::state();
  std::lock_guard<std::mutex> lock(shared.mutex);
  shared.native = {native.begin(), native.end()};
  shared.always_fallback = {always.begin(), always.end()};
  shared.commit = commit;
}

void add_fault(
    const std::string& kind, const std::string& op, double value, bool strided, const std::string& dtype, int64_t size,
    int64_t call) {
  auto& shared = sim::state();
  std::lock_guard<std::mutex> lock(shared.mutex);
  shared.faults.push_back({kind, op, value, strided, scalar_type(dtype), size, call, 0});
}

void clear_faults() {
  auto& shared = sim::state();
  std::lock_guard<std::mutex> lock(shared.mutex);
  shared.faults.clear();
}

py::dict counters() {
  auto& shared = sim::state();
  std::lock_guard<std::mutex> lock(shared.mutex);
  py::dict result;
  result["ran"] = shared.counters.ran;
  result["fell_back"] = shared.counters.fell_back;
  result["synchronised"] = shared.counters.synchronised;
  return result;
}

void reset_counters() {
  auto& shared = sim::state();
  std::lock_guard<std::mutex> lock(shared.mutex);
  shared.counters = {};
}

} // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("set_operators", &set_operators);
  m.def("add_fault", &add_fault);
  m.def("clear_faults", &clear_faults);
  m.def("set_memory_limit", &sim::set_memory_limit);
  m.def("set_recommended_memory", &sim::set_recommended_bytes);
  m.def("counters", &counters);
  m.def("reset_counters", &reset_counters);
}
