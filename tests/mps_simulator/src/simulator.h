// A device called "mps" on a machine without one. Its tensors are host memory labelled mps:0, its operators run on the
// CPU. See ../README.md for what that proves and what it does not.
//
//   memory.cpp     the allocator: cached blocks, the limit, the "out of memory" error
//   device.cpp     what PyTorch asks a device for: hooks, guard, events, random numbers
//   operators.cpp  every operator that has no kernel of its own in kernels.cpp; counters and planted faults
//   kernels.cpp    storage, views, copies, and the few operators that take another path on MPS than elsewhere
//   python.cpp     what ../site/simulated_mps.py sets and reads
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <c10/core/Allocator.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

namespace mps_simulator {

inline c10::Device device() {
  return c10::Device(c10::kMPS, 0);
}

// ---- memory.cpp -----------------------------------------------------------------------------------------------------
c10::Allocator* allocator();
size_t allocated_bytes(); // in tensors
size_t driver_bytes();    // in tensors and in cached blocks
size_t recommended_bytes();
void set_recommended_bytes(size_t bytes);
void set_memory_fraction(double fraction); // of the recommended size; 0 is unlimited
void set_memory_limit(size_t bytes);       // beside the fraction; 0 is none
void empty_cache();
[[noreturn]] void out_of_memory(size_t requested);

// ---- device.cpp -----------------------------------------------------------------------------------------------------
// The CPU generator that stands behind a generator of this device; the default one when there is none.
at::Generator& host_generator(const std::optional<at::Generator>& given);

// ---- operators.cpp --------------------------------------------------------------------------------------------------
struct Fault {
  std::string kind;     // missing, refuse, wrong, out-of-memory, error, abort, hang, slow
  std::string op;       // without overload and in-place underscore; "*" is every operator
  double value = 0;     // wrong: relative error; slow: seconds
  bool strided = false; // only with an argument that is not contiguous
  std::optional<at::ScalarType> dtype; // only with an argument of this type
  int64_t size = 0;     // only with a dimension of at least this size
  int64_t call = 0;     // only from this call on, counted from 1
  int64_t calls = 0;    // calls seen
};

struct Counters {
  std::map<std::string, int64_t> ran, fell_back, synchronised;
};

struct State {
  std::mutex mutex;
  std::unordered_set<std::string> native;          // operators with an MPS kernel ("add.out")
  std::unordered_set<std::string> always_fallback; // run on the CPU whatever the variable says
  std::vector<Fault> faults;
  Counters counters;
  std::string commit; // of this PyTorch, as the real error text has it
};
State& state();

void count_synchronisation(const char* how);

// True inside a kernel: what is copied there is the simulator's own doing and not the program's.
bool inside_kernel();

// One run of an operator: refuses or counts it on entry, spoils its results in finish() where a fault says so.
class Run {
 public:
  Run(const std::string& name, const std::vector<at::Tensor>& arguments);
  ~Run();
  void finish(const std::vector<at::Tensor>& results);

 private:
  double relative_error_ = 0;
  bool was_inside_;
};

// ---- kernels.cpp ----------------------------------------------------------------------------------------------------
at::Tensor on_host(const at::Tensor& tensor); // the same memory as a CPU tensor

} // namespace mps_simulator
