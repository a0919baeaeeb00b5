// The allocator. Like the real one it keeps freed blocks, counts them as the driver's, gives them up before it fails,
// reads the watermark variables at its first allocation, and fails with the real words.
#include "simulator.h"

#include <c10/util/Exception.h>

#include <cstdio>
#include <cstdlib>
#include <map>

namespace mps_simulator {
namespace {

constexpr size_t kSmallUnit = 256;
constexpr size_t kPage = 16384;         // Apple silicon's
constexpr size_t kSmall = 1 << 20;      // smaller blocks are rounded to kSmallUnit, larger ones to pages
constexpr size_t kUnlimited = SIZE_MAX / 4;

size_t recommended = 11453251584; // 10.67 GiB, what a 16 GB Mac says

// As MPSAllocator.mm writes a size.
std::string format_size(size_t bytes) {
  char text[64];
  const auto size = static_cast<double>(bytes);
  if (bytes <= 1024) {
    std::snprintf(text, sizeof text, "%zu bytes", bytes);
  } else if (bytes <= 1048576) {
    std::snprintf(text, sizeof text, "%.2f KiB", size / 1024);
  } else if (bytes <= 1073741824) {
    std::snprintf(text, sizeof text, "%.2f MiB", size / 1048576);
  } else {
    std::snprintf(text, sizeof text, "%.2f GiB", size / 1073741824);
  }
  return text;
}

struct Block {
  void* data;
  size_t size;
};

class CachingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t requested) override {
    std::lock_guard<std::mutex> lock(mutex_);
    read_watermarks();
    if (requested == 0) {
      return {nullptr, device()};
    }
    TORCH_CHECK(requested <= recommended, "Invalid buffer size: ", format_size(requested));
    const size_t unit = requested < kSmall ? kSmallUnit : kPage;
    const size_t size = (requested + unit - 1) / unit * unit;
    Block block = from_cache(size);
    if (block.data == nullptr) {
      block = from_system(size, requested);
    }
    allocated_ += block.size;
    return {block.data, new Block(block), &CachingAllocator::release, device()};
  }

  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

  void empty_cache() {
    std::lock_guard<std::mutex> lock(mutex_);
    free_cached();
  }

  void set_fraction(double fraction) {
    std::lock_guard<std::mutex> lock(mutex_);
    watermarks_read_ = true;
    set_ratio(fraction);
  }

  void set_limit(size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    limit_ = bytes ? bytes : kUnlimited;
  }

  size_t allocated() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return allocated_;
  }

  size_t driver() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return driver_;
  }

  [[noreturn]] void fail(size_t requested) const {
    const size_t allowed = std::min(by_ratio_, limit_);
    const bool limited = allowed < kUnlimited;
    TORCH_CHECK(
        false, "MPS backend out of memory (MPS allocated: ", format_size(allocated_), ", other allocations: ",
        format_size(driver_ - allocated_), limited ? ", max allowed: " + format_size(allowed) : std::string(),
        "). Tried to allocate ", format_size(requested), " on private pool.",
        limited ? " Use PYTORCH_MPS_HIGH_WATERMARK_RATIO=0.0 to disable upper limit for memory allocations (may cause "
                  "system failure)."
                : "");
    std::abort(); // not reached: it tells the compiler so
  }

 private:
  static void release(void* context);

  // Once, at the first allocation. strtod as in MPSAllocator.mm: what is no number is 0.0, and that is "unlimited".
  void read_watermarks() {
    if (watermarks_read_) {
      return;
    }
    const char* high_text = std::getenv("PYTORCH_MPS_HIGH_WATERMARK_RATIO");
    const char* low_text = std::getenv("PYTORCH_MPS_LOW_WATERMARK_RATIO");
    const double high = high_text ? std::strtod(high_text, nullptr) : 1.7;
    const double low = low_text ? std::strtod(low_text, nullptr) : 1.4;
    TORCH_CHECK(high >= 0.0 && high <= 2.0, "invalid high watermark ratio ", high);
    TORCH_CHECK(low >= 0.0 && low <= (high > 0.0 ? high : 2.0), "invalid low watermark ratio ", low);
    set_ratio(high);
    watermarks_read_ = true;
  }

  void set_ratio(double ratio) {
    by_ratio_ = ratio > 0.0 ? static_cast<size_t>(ratio * static_cast<double>(recommended)) : kUnlimited;
  }

  Block from_cache(size_t size) {
    const auto found = cached_.lower_bound(size);
    if (found == cached_.end() || found->first > size + size / 2) {
      return {nullptr, 0};
    }
    const Block block{found->second, found->first};
    cached_.erase(found);
    return block;
  }

  Block from_system(size_t size, size_t requested) {
    const size_t allowed = std::min(by_ratio_, limit_);
    if (driver_ + size > allowed) {
      free_cached();
    }
    if (driver_ + size > allowed) {
      fail(requested);
    }
    void* data = nullptr;
    TORCH_CHECK(posix_memalign(&data, kSmallUnit, size) == 0, "the simulator's host has no memory left");
    driver_ += size;
    return {data, size};
  }

  void free_cached() {
    for (const auto& [size, data] : cached_) {
      driver_ -= size;
      std::free(data);
    }
    cached_.clear();
  }

  mutable std::mutex mutex_;
  std::multimap<size_t, void*> cached_;
  size_t allocated_ = 0, driver_ = 0;
  size_t by_ratio_ = kUnlimited, limit_ = kUnlimited;
  bool watermarks_read_ = false;
};

// Never destroyed: tensors may be freed after the static objects of this library.
CachingAllocator& the_allocator() {
  static auto* instance = new CachingAllocator();
  return *instance;
}

void CachingAllocator::release(void* context) {
  auto* block = static_cast<Block*>(context);
  auto& self = the_allocator();
  std::lock_guard<std::mutex> lock(self.mutex_);
  self.allocated_ -= block->size;
  self.cached_.emplace(block->size, block->data);
  delete block;
}

} // namespace

c10::Allocator* allocator() {
  return &the_allocator();
}
size_t allocated_bytes() {
  return the_allocator().allocated();
}
size_t driver_bytes() {
  return the_allocator().driver();
}
size_t recommended_bytes() {
  return recommended;
}
void set_recommended_bytes(size_t bytes) {
  recommended = bytes;
}
void set_memory_fraction(double fraction) {
  the_allocator().set_fraction(fraction);
}
void set_memory_limit(size_t bytes) {
  the_allocator().set_limit(bytes);
}
void empty_cache() {
  the_allocator().empty_cache();
}
void out_of_memory(size_t requested) {
  the_allocator().fail(requested);
}

} // namespace mps_simulator
