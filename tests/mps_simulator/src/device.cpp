// What PyTorch asks a device for: hooks (torch.mps), a guard (streams, torch.Event), events and random numbers.
// The device has finished whatever it was given: every operator is done when its call returns.
#include "simulator.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/MPSHooksInterface.h>
#include <c10/core/GeneratorImpl.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <chrono>
#include <unordered_map>

namespace mps_simulator {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

// A generator that says "mps" and draws from a CPU generator of its own.
struct MpsGenerator final : c10::GeneratorImpl {
  MpsGenerator() : MpsGenerator(at::detail::createCPUGenerator()) {}
  explicit MpsGenerator(at::Generator host)
      : c10::GeneratorImpl(mps_simulator::device(), c10::DispatchKeySet(c10::DispatchKey::MPS)), host(std::move(host)) {}

  void set_current_seed(uint64_t seed) override {
    host.set_current_seed(seed);
  }
  void set_offset(uint64_t) override {
    TORCH_CHECK(false, "the simulated MPS generator has no offset");
  }
  uint64_t get_offset() const override {
    TORCH_CHECK(false, "the simulated MPS generator has no offset");
  }
  uint64_t current_seed() const override {
    return host.current_seed();
  }
  uint64_t seed() override {
    return host.seed();
  }
  void set_state(const c10::TensorImpl& state) override {
    host.unsafeGetGeneratorImpl()->set_state(state);
  }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return host.unsafeGetGeneratorImpl()->get_state();
  }
  c10::GeneratorImpl* clone_impl() const override {
    return new MpsGenerator(host.clone());
  }

  at::Generator host;
};

at::Generator& default_generator() {
  static auto* generator = new at::Generator(at::make_generator<MpsGenerator>());
  return *generator;
}

// torch.mps.Event
struct Event {
  bool timing = false;
  std::optional<Clock::time_point> recorded;
};
std::mutex events_mutex;
std::unordered_map<uint32_t, Event> events;
uint32_t last_event = 0;

struct Hooks final : at::MPSHooksInterface {
  template <typename... Arguments>
  explicit Hooks(Arguments&&...) {} // before torch 2.13 the registry passes an at::MPSHooksArgs
  void init() const override {}
  bool hasMPS() const override {
    return true;
  }
  bool isBuilt() const override {
    return true;
  }
  bool isAvailable() const override {
    return true;
  }
  bool hasPrimaryContext(c10::DeviceIndex) const override {
    return true;
  }
  c10::DeviceIndex deviceCount() const override {
    return 1;
  }
  c10::DeviceIndex getCurrentDevice() const override {
    return 0;
  }
  bool isOnMacOSorNewer(unsigned major, unsigned) const override {
    return major <= 15;
  }
  c10::Allocator* getMPSDeviceAllocator() const override {
    return allocator();
  }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    return default_generator();
  }
  at::Generator getNewGenerator(c10::DeviceIndex) const override {
    return at::make_generator<MpsGenerator>();
  }

  void deviceSynchronize() const override {
    count_synchronisation("synchronize");
  }
  void commitStream() const override {}
  void emptyCache() const override {
    empty_cache();
  }
  size_t getCurrentAllocatedMemory() const override {
    return allocated_bytes();
  }
  size_t getDriverAllocatedMemory() const override {
    return driver_bytes();
  }
  size_t getRecommendedMaxMemory() const override {
    return recommended_bytes();
  }
  size_t getMaxBufferLength() const { // not in every version of the interface
    return recommended_bytes();
  }
  void setMemoryFraction(double fraction) const override {
    set_memory_fraction(fraction);
  }
  void profilerStartTrace(const std::string&, bool) const override {}
  void profilerStopTrace() const override {}

  uint32_t acquireEvent(bool timing) const override {
    std::lock_guard<std::mutex> lock(events_mutex);
    events[++last_event].timing = timing;
    return last_event;
  }
  void releaseEvent(uint32_t id) const override {
    std::lock_guard<std::mutex> lock(events_mutex);
    events.erase(id);
  }
  void recordEvent(uint32_t id) const override {
    std::lock_guard<std::mutex> lock(events_mutex);
    events[id].recorded = Clock::now();
  }
  void waitForEvent(uint32_t) const override {}
  void synchronizeEvent(uint32_t) const override {
    count_synchronisation("event");
  }
  bool queryEvent(uint32_t id) const override {
    std::lock_guard<std::mutex> lock(events_mutex);
    return events[id].recorded.has_value();
  }
  double elapsedTimeOfEvents(uint32_t start, uint32_t end) const override {
    std::lock_guard<std::mutex> lock(events_mutex);
    const Event &from = events[start], &to = events[end];
    TORCH_CHECK(
        from.timing && to.timing, "Events were not created with argument 'enable_timing=True'");
    TORCH_CHECK(from.recorded && to.recorded, "Both events must be recorded before calculating elapsed time.");
    return milliseconds(*from.recorded, *to.recorded);
  }
};

// torch.accelerator, torch.Event(device="mps") and streams; there is one stream, and it is always idle.
struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override {
    return c10::DeviceType::MPS;
  }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getNewStream(c10::Device, int) const override {
    return getDefaultStream(device());
  }
  c10::Device exchangeDevice(c10::Device) const override {
    return device();
  }
  c10::Device getDevice() const override {
    return device();
  }
  c10::DeviceIndex deviceCount() const noexcept override {
    return 1;
  }
  c10::Stream getStream(c10::Device) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, device());
  }
  c10::Stream getDefaultStream(c10::Device) const override {
    return c10::Stream(c10::Stream::DEFAULT, device());
  }
  c10::Stream exchangeStream(c10::Stream stream) const noexcept override {
    return stream;
  }
  bool queryStream(const c10::Stream&) const override {
    return true;
  }
  void synchronizeStream(const c10::Stream&) const override {
    count_synchronisation("synchronize");
  }
  void synchronizeDevice(c10::DeviceIndex) const override {
    count_synchronisation("synchronize");
  }

  void record(void** event, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {
    delete static_cast<Clock::time_point*>(*event);
    *event = new Clock::time_point(Clock::now());
  }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override {
    return true;
  }
  void synchronizeEvent(void*) const override {
    count_synchronisation("event");
  }
  void destroyEvent(void* event, const c10::DeviceIndex) const noexcept override {
    delete static_cast<Clock::time_point*>(event);
  }
  double elapsedTime(void* start, void* end, const c10::DeviceIndex) const override {
    return milliseconds(*static_cast<Clock::time_point*>(start), *static_cast<Clock::time_point*>(end));
  }
};

c10::impl::DeviceGuardImplRegistrar register_guard(c10::DeviceType::MPS, new Guard());

} // namespace

at::Generator& host_generator(const std::optional<at::Generator>& given) {
  auto& generator = given && given->defined() ? *given : default_generator();
  TORCH_CHECK(
      generator.device().is_mps(), "Expected a 'mps' device type for generator but found '", generator.device().type(),
      "'");
  return static_cast<MpsGenerator*>(generator.unsafeGetGeneratorImpl())->host;
}

} // namespace mps_simulator

namespace at {
C10_REGISTER_TYPED_CLASS(MPSHooksRegistry, "MPSHooks", mps_simulator::Hooks)
}
