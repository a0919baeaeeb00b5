// Runs a grid of Metal threads on one CPU thread, and checks what they do to memory.
//
// The threads of a threadgroup are fibers. One runs until it waits at a barrier or a SIMD operation, or has ended; which one is
// next is drawn from a seed. A kernel to be checked is compiled with -fsanitize=thread,undefined and linked with neither of
// their libraries: the calls that the compiler puts before each access to memory come here. Every check is exact, whatever the
// order in which the fibers ran.
#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <link.h>
#include <map>
#include <string>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

namespace {
constexpr uint32_t SIMD = 32, STACK = 64 << 10, MOST_SHARED = 32 << 10, MOST_FINDINGS = 12;

struct Buffer { char* base; uint64_t bytes; };

// The last accesses to a byte: who (a thread's number, from 1) and when (barriers that the thread had passed).
// A reader may also stand for several: all of a SIMD-group, of a threadgroup, or of several threadgroups.
struct Cell { uint32_t writer = 0, written = 0, reader = 0, read = 0; };
constexpr uint32_t A_SIMDGROUP = 0x80000000, A_GROUP = 0xC0000000, GROUPS = 0xFFFFFFFF, NUMBER = 0x3FFFFFFF;

struct Region { char* base; uint64_t bytes; bool shared; const char* name; std::vector<Cell> cells; };

enum State : uint8_t { READY, AT_BARRIER, AT_SIMD, ENDED };
struct Fiber {
  uint32_t local[3], position[3], id;
  State state;
  int line;
  uint32_t device_epoch, shared_epoch, simd_epoch;  // barriers passed for each kind of memory; SIMD-group barriers since
  char* stack;
  void* sp;            // x86-64
  ucontext_t context;  // others
};
// Where the lanes of a SIMD-group bring their values; two, because a fast lane may come again before a slow one has read.
struct Meeting { uint32_t arrived; int operation, line, parity; unsigned char values[2][SIMD][16]; uint32_t active[2]; };

struct Run {
  void (*entry)(void**);
  void** arguments;
  uint32_t grid[3], group[3], extent[3], groups[3], at[3];
  uint32_t size, linear, live, waiting, flags;
  int barrier_line;
  std::vector<Fiber> fibers;
  std::vector<Meeting> meetings;
  std::vector<uint32_t> ready;
  std::vector<Region> regions;
  Region* last;
  uint64_t seed, shared_bytes, accessed[2];  // bytes of buffers and of threadgroup memory, by every thread
  bool checks, stop;
  std::map<std::string, int> seen;
  std::string findings;
};
Run* run = nullptr;
Fiber* now = nullptr;
std::vector<char*> stacks;
uintptr_t module_begin = 0;
std::vector<std::pair<uintptr_t, uintptr_t>> read_only;  // parts of the compiled kernel that nobody can write

// ------------------------------------------------------------------------------------------------------------- fibers
#if defined(__x86_64__)
void* scheduler_sp;
extern "C" void shim_switch(void** save, void* load);
asm(R"(.text
.globl shim_switch
.hidden shim_switch
.type shim_switch,@function
shim_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size shim_switch,.-shim_switch
)");
void leave() { shim_switch(&now->sp, scheduler_sp); }
void enter(Fiber& fiber) { now = &fiber; shim_switch(&scheduler_sp, fiber.sp); now = nullptr; }
#else
ucontext_t scheduler;
void leave() { swapcontext(&now->context, &scheduler); }
void enter(Fiber& fiber) { now = &fiber; swapcontext(&scheduler, &fiber.context); now = nullptr; }
#endif

void body() {
  run->entry(run->arguments);
  now->state = ENDED;
  leave();
}

void prepare(Fiber& fiber) {
#if defined(__x86_64__)
  void** sp = (void**)(((uintptr_t)fiber.stack + STACK) & ~uintptr_t(15));
  *--sp = nullptr;
  *--sp = (void*)body;
  for (int i = 0; i < 6; ++i) *--sp = nullptr;
  fiber.sp = sp;
#else
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = STACK;
  fiber.context.uc_link = &scheduler;
  makecontext(&fiber.context, body, 0);
#endif
}

// ----------------------------------------------------------------------------------------------------------- findings
// Notes a finding once for each place in the kernel; what stands in brackets does not make another one.
void find_fault(const void* where, const char* format, ...) {
  char text[512];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  std::string line = text, key = line.substr(0, line.find(" ["));
  if (where) {
    const unsigned long address = (uintptr_t)where - 1 - module_begin;
    char place[32];
    snprintf(place, sizeof place, " @%lx", address);
    line += place;
    key += place;
  }
  if (run->seen[key]++) return;
  if (now) {
    char who[128];
    snprintf(who, sizeof who, " | thread (%u, %u, %u) of group (%u, %u, %u)", now->local[0], now->local[1], now->local[2],
             run->at[0], run->at[1], run->at[2]);
    line += who;
  }
  run->findings += line + "\n";
  if (run->seen.size() >= MOST_FINDINGS) run->stop = true;
}
[[noreturn]] void abandon() { run->stop = true; leave(); __builtin_unreachable(); }

// ----------------------------------------------------------------------------------------------------------- accesses
uint32_t simds() { return (run->size + SIMD - 1) / SIMD; }
uint32_t group_of(uint32_t id) { return (id - 1) / run->size; }
uint32_t simd_of(uint32_t id) { return group_of(id) * simds() + (id - 1) % run->size / SIMD; }
uint32_t stamp(const Region& region) { return (region.shared ? now->shared_epoch : now->device_epoch) << 12 | (now->simd_epoch & 0xFFF); }

// Whether what thread `who` did at `when` comes before what the current thread does at `stamped`, by barriers alone.
bool ordered(uint32_t who, uint32_t when, uint32_t stamped) {
  if (who == 0 || who == now->id) return true;
  if (group_of(who) != group_of(now->id)) return false;
  if (when >> 12 != stamped >> 12) return true;
  return simd_of(who) == simd_of(now->id) && when != stamped;
}
bool reads_ordered(const Cell& cell, uint32_t stamped) {
  if (cell.reader < A_SIMDGROUP) return ordered(cell.reader, cell.read, stamped);
  if (cell.reader == GROUPS) return false;
  const bool later = cell.read >> 12 != stamped >> 12;
  if (cell.reader >= A_GROUP) return (cell.reader & NUMBER) == group_of(now->id) && later;
  const uint32_t simd = cell.reader & NUMBER;
  if (simd / simds() != group_of(now->id)) return false;
  return later || (simd == simd_of(now->id) && cell.read != stamped);
}
void note_read(Cell& cell, uint32_t stamped) {
  const uint32_t me = now->id;
  if (cell.reader == GROUPS) return;
  if (cell.reader == 0 || cell.reader == me) { cell.reader = me; cell.read = stamped; return; }
  const uint32_t group = cell.reader < A_SIMDGROUP ? group_of(cell.reader)
                         : cell.reader >= A_GROUP  ? (cell.reader & NUMBER)
                                                   : (cell.reader & NUMBER) / simds();
  if (group != group_of(me)) { cell.reader = GROUPS; return; }
  if (cell.read >> 12 != stamped >> 12) { cell.reader = me; cell.read = stamped; return; }
  const uint32_t simd = cell.reader < A_SIMDGROUP ? simd_of(cell.reader) : cell.reader >= A_GROUP ? ~0u : (cell.reader & NUMBER);
  cell.reader = simd == simd_of(me) ? A_SIMDGROUP | simd : A_GROUP | group;
  cell.read = stamped;
}

Region* region_of(const char* address) {
  if (run->last && address >= run->last->base && address < run->last->base + run->last->bytes) return run->last;
  for (Region& region : run->regions)
    if (address >= region.base && address < region.base + region.bytes) return run->last = &region;
  return nullptr;
}
std::string nearest(const char* address) {
  int64_t best = INT64_MAX;
  char text[160] = "near no buffer";
  for (const Region& region : run->regions) {
    const bool behind = address >= region.base;
    const int64_t far = behind ? address - (region.base + region.bytes) : region.base - address;
    if (far >= best) continue;
    best = far;
    snprintf(text, sizeof text, "%lld bytes %s %s", (long long)far, behind ? "beyond the end of" : "before", region.name);
  }
  return text;
}

void access(const void* pointer, uint64_t size, bool write, const void* where) {
  if (!now || !run) return;
  const char* address = (const char*)pointer;
  if (address >= now->stack && address < now->stack + STACK) return;
  if (!write && address >= (char*)run->meetings.data() && address < (char*)(run->meetings.data() + run->meetings.size())) return;
  Region* region = region_of(address);
  if (!region) {
    const uintptr_t begin = (uintptr_t)address;
    if (!write) for (auto& part : read_only) if (begin >= part.first && begin + size <= part.second) return;
    if (address >= (char*)run->arguments && address < (char*)(run->arguments + 32)) return;
    find_fault(where, "%s outside of every buffer: %s", write ? "write" : "read", nearest(address).c_str());
    abandon();
  }
  if (address + size > region->base + region->bytes) {
    find_fault(where, "%s of %llu bytes reaches over the end of %s", write ? "write" : "read", (unsigned long long)size, region->name);
    abandon();
  }
  run->accessed[region->shared] += size;
  const uint32_t stamped = stamp(*region);
  Cell* cell = &region->cells[address - region->base];
  for (uint64_t i = 0; i < size; ++i, ++cell) {
    const unsigned long long byte = address - region->base + i;
    if (!ordered(cell->writer, cell->written, stamped)) {
      find_fault(where, "race: %s %s, which another thread %swrote without a barrier between [byte %llu]", write ? "writes" : "reads",
                 region->name, group_of(cell->writer) == group_of(now->id) ? "" : "of another group ", byte);
      *cell = Cell{};
      if (region->shared) { cell->writer = now->id; cell->written = stamped; }
      if (run->stop) abandon();
    }
    if (write) {
      if (!reads_ordered(*cell, stamped)) {
        find_fault(where, "race: writes %s, which another thread read without a barrier between [byte %llu]", region->name, byte);
        if (run->stop) abandon();
      }
      cell->writer = now->id; cell->written = stamped; cell->reader = 0;
    } else {
      if (region->shared && cell->writer == 0) {
        find_fault(where, "reads %s where no thread of its group has written [byte %llu]", region->name, byte);
        if (run->stop) abandon();
      }
      note_read(*cell, stamped);
    }
  }
}

// --------------------------------------------------------------------------------------------------------- scheduling
uint32_t draw(uint32_t below) {
  run->seed = run->seed * 6364136223846793005ull + 1442695040888963407ull;
  return uint32_t((run->seed >> 33) % below);
}

void wake_simd(uint32_t simd) {
  const uint32_t first = simd * SIMD, end = std::min<uint32_t>(first + SIMD, run->fibers.size());
  uint32_t waiting = 0, live = 0;
  for (uint32_t i = first; i < end; ++i) { live += run->fibers[i].state != ENDED; waiting += run->fibers[i].state == AT_SIMD; }
  if (!waiting || waiting < live) return;
  Meeting& meeting = run->meetings[simd];
  meeting.active[meeting.parity] = meeting.arrived;
  meeting.arrived = 0;
  meeting.parity ^= 1;
  for (uint32_t i = first; i < end; ++i)
    if (run->fibers[i].state == AT_SIMD) { run->fibers[i].state = READY; run->ready.push_back(i); }
}

void open_barrier(uint32_t total) {
  if (run->live < total)
    find_fault(nullptr, "%u of %u threads of a group ended without reaching the barrier of line %d [group %u]", total - run->live, total,
               run->barrier_line, run->linear);
  for (uint32_t i = 0; i < total; ++i) {
    Fiber& fiber = run->fibers[i];
    if (fiber.state != AT_BARRIER) continue;
    fiber.state = READY;
    fiber.simd_epoch = 0;
    if (run->flags & 1) ++fiber.device_epoch;
    if (run->flags & 2) ++fiber.shared_epoch;
    run->ready.push_back(i);
  }
  run->waiting = 0;
}

void run_group() {
  uint32_t count[3], total = 1;
  for (int d = 0; d < 3; ++d) {  // the last groups of a grid that is no multiple of them are smaller, as with dispatchThreads
    count[d] = run->extent[d] = std::min(run->grid[d] - run->at[d] * run->group[d], run->group[d]);
    total *= count[d];
  }
  run->fibers.resize(total);
  run->meetings.assign((total + SIMD - 1) / SIMD, Meeting{});
  while (stacks.size() < total) stacks.push_back((char*)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  for (Region& region : run->regions)
    if (region.shared) {
      memset(region.base, 0xFF, region.bytes);  // NaN
      if (run->checks) std::fill(region.cells.begin(), region.cells.end(), Cell{});
    }
  run->ready.clear();
  run->waiting = 0;
  run->live = total;
  for (uint32_t i = 0; i < total; ++i) {
    Fiber& fiber = run->fibers[i];
    fiber.local[0] = i % count[0]; fiber.local[1] = i / count[0] % count[1]; fiber.local[2] = i / count[0] / count[1];
    for (int d = 0; d < 3; ++d) fiber.position[d] = run->at[d] * run->group[d] + fiber.local[d];
    fiber.id = run->linear * run->size + i + 1;
    fiber.state = READY;
    fiber.device_epoch = fiber.shared_epoch = fiber.simd_epoch = 0;
    fiber.stack = stacks[i];
    prepare(fiber);
    run->ready.push_back(i);
  }
  size_t head = 0;
  while (!run->stop) {
    if (head == run->ready.size()) {
      run->ready.clear();
      head = 0;
      if (run->live == 0) return;
      if (run->waiting == run->live) { open_barrier(total); continue; }
      int line = 0;
      for (Fiber& fiber : run->fibers) if (fiber.state == AT_SIMD) line = fiber.line;
      find_fault(nullptr, "a SIMD operation of line %d that not all threads of its SIMD-group reach [group %u]", line, run->linear);
      run->stop = true;
      return;
    }
    if (run->seed) std::swap(run->ready[head], run->ready[head + draw(uint32_t(run->ready.size() - head))]);
    const uint32_t next = run->ready[head++];
    enter(run->fibers[next]);
    if (run->fibers[next].state == ENDED) { --run->live; wake_simd(next / SIMD); }
  }
}

void find_module(void* inside) {
  if (module_begin) return;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* inside) {
        bool mine = false;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const uintptr_t from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
          mine |= info->dlpi_phdr[i].p_type == PT_LOAD && (uintptr_t)inside >= from && (uintptr_t)inside < from + info->dlpi_phdr[i].p_memsz;
        }
        if (!mine) return 0;
        module_begin = info->dlpi_addr;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const ElfW(Phdr)& part = info->dlpi_phdr[i];
          const uintptr_t from = info->dlpi_addr + part.p_vaddr;
          if (part.p_type == PT_LOAD && !(part.p_flags & PF_W)) read_only.push_back({from, from + part.p_memsz});
        }
        return 1;
      },
      inside);
}
}  // namespace

// ----------------------------------------------------------------------------------------------- what kernels call
extern "C" {
struct ShimLanes { const unsigned char (*values)[16]; uint32_t active; uint32_t lane; };

void shim_threadgroup_barrier(uint32_t flags, int line) {
  if (run->waiting && (run->barrier_line != line || run->flags != flags)) {
    find_fault(nullptr, "threads of a group wait at different barriers: lines %d and %d", run->barrier_line, line);
    abandon();
  }
  run->flags = flags;
  run->barrier_line = line;
  ++run->waiting;
  now->state = AT_BARRIER;
  now->line = line;
  leave();
}

ShimLanes shim_exchange(const void* value, uint32_t size, int operation, int line) {
  const uint32_t i = uint32_t(now - run->fibers.data()), lane = i % SIMD;
  Meeting& meeting = run->meetings[i / SIMD];
  if (meeting.arrived && (meeting.operation != operation || meeting.line != line)) {
    find_fault(nullptr, "threads of a SIMD-group are at different SIMD operations: lines %d and %d", meeting.line, line);
    abandon();
  }
  meeting.operation = operation;
  meeting.line = line;
  meeting.arrived |= 1u << lane;
  const int parity = meeting.parity;
  memcpy(meeting.values[parity][lane], value, size);
  now->state = AT_SIMD;
  now->line = line;
  wake_simd(i / SIMD);
  leave();
  return {meeting.values[parity], meeting.active[parity], lane};
}

void shim_simdgroup_barrier(int line) {
  const int nothing = 0;
  shim_exchange(&nothing, sizeof nothing, 0, line);
  ++now->simd_epoch;
}

void shim_threadgroup_memory(void* address, uint64_t bytes, const char* name) {
  for (Region& region : run->regions) if (region.base == address) return;
  run->shared_bytes += (bytes + 15) / 16 * 16;
  memset(address, 0xFF, bytes);
  run->last = nullptr;
  run->regions.push_back({(char*)address, bytes, true, name, std::vector<Cell>(run->checks ? bytes : 0)});
  if (run->shared_bytes > MOST_SHARED) {
    find_fault(nullptr, "threadgroup memory of %llu bytes, above 32 KB", (unsigned long long)run->shared_bytes);
    abandon();
  }
}

// In the order of POSITIONS in compiler.py.
uint32_t shim_position(int which, int d) {
  const uint32_t index = uint32_t(now - run->fibers.data());
  switch (which) {
    case 0: return now->position[d];
    case 1: return now->local[d];
    case 2: return run->at[d];
    case 3: return run->extent[d];
    case 4: return run->groups[d];
    case 5: return run->grid[d];
    case 6: return index % SIMD;
    case 7: return index / SIMD;
    default: return index;
  }
}

// Runs a grid; returns the number of findings, whose text is in `findings`. `used` gets the bytes of threadgroup
// memory, and with checks the bytes that threads have read and written in buffers and in it.
int shim_run(void (*entry)(void**), void** arguments, Buffer* buffers, const char** names, uint32_t count, const uint32_t* grid,
             const uint32_t* group, uint64_t seed, int checks, char* findings, uint64_t space, uint64_t* used) {
  find_module((void*)entry);
  Run mine{};
  run = &mine;
  mine.entry = entry;
  mine.arguments = arguments;
  mine.seed = seed;
  mine.checks = checks;
  mine.size = group[0] * group[1] * group[2];
  for (int d = 0; d < 3; ++d) { mine.grid[d] = grid[d]; mine.group[d] = group[d]; mine.groups[d] = (grid[d] + group[d] - 1) / group[d]; }
  mine.fibers.reserve(mine.size);
  mine.regions.reserve(64);
  for (uint32_t i = 0; i < count; ++i)
    mine.regions.push_back({buffers[i].base, buffers[i].bytes, false, names[i], std::vector<Cell>(checks ? buffers[i].bytes : 0)});
  for (mine.at[2] = 0; mine.at[2] < mine.groups[2] && !mine.stop; ++mine.at[2])
    for (mine.at[1] = 0; mine.at[1] < mine.groups[1] && !mine.stop; ++mine.at[1])
      for (mine.at[0] = 0; mine.at[0] < mine.groups[0] && !mine.stop; ++mine.at[0]) { run_group(); ++mine.linear; }
  snprintf(findings, space, "%s", mine.findings.c_str());
  used[0] = mine.shared_bytes;
  used[1] = mine.accessed[0];
  used[2] = mine.accessed[1];
  run = nullptr;
  return int(mine.seen.size());
}

// --------------------------------------------------------------------------- what -fsanitize=thread puts before accesses
#define HERE __builtin_return_address(0)
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
#define SIZED(N)                                                                     \
  void __tsan_read##N(void* a) { access(a, N, false, HERE); }                        \
  void __tsan_write##N(void* a) { access(a, N, true, HERE); }                        \
  void __tsan_unaligned_read##N(void* a) { access(a, N, false, HERE); }              \
  void __tsan_unaligned_write##N(void* a) { access(a, N, true, HERE); }              \
  void __tsan_read_write##N(void* a) { access(a, N, false, HERE); access(a, N, true, HERE); } \
  void __tsan_unaligned_read_write##N(void* a) { access(a, N, false, HERE); access(a, N, true, HERE); }
SIZED(1) SIZED(2) SIZED(4) SIZED(8) SIZED(16)
void __tsan_read_range(void* a, unsigned long n) { access(a, n, false, HERE); }
void __tsan_write_range(void* a, unsigned long n) { access(a, n, true, HERE); }
void* __tsan_memcpy(void* to, const void* from, unsigned long n) { access(from, n, false, HERE); access(to, n, true, HERE); return memcpy(to, from, n); }
void* __tsan_memset(void* to, int v, unsigned long n) { access(to, n, true, HERE); return memset(to, v, n); }
void* __tsan_memmove(void* to, const void* from, unsigned long n) { access(from, n, false, HERE); access(to, n, true, HERE); return memmove(to, from, n); }

// ------------------------------------------------------------------------------------ what -fsanitize=undefined calls
struct Place { const char* file; uint32_t line, column; };
#define UNDEFINED(NAME, WORDS)                                                        \
  void __ubsan_handle_##NAME(Place* place) {                                          \
    if (!run || !now) return;                                                         \
    find_fault(HERE, "undefined: " WORDS " at line %u", place->line);                 \
    abandon();                                                                        \
  }                                                                                   \
  void __ubsan_handle_##NAME##_abort(Place* place) { __ubsan_handle_##NAME(place); }
UNDEFINED(type_mismatch_v1, "a null or misaligned pointer, or an object too small for its type,")
UNDEFINED(add_overflow, "a sum that overflows")
UNDEFINED(sub_overflow, "a difference that overflows")
UNDEFINED(mul_overflow, "a product that overflows")
UNDEFINED(negate_overflow, "a negation that overflows")
UNDEFINED(divrem_overflow, "a division by zero or that overflows")
UNDEFINED(shift_out_of_bounds, "a shift by too much")
UNDEFINED(out_of_bounds, "an index outside of its array")
UNDEFINED(builtin_unreachable, "what cannot be reached")
UNDEFINED(missing_return, "no value returned")
UNDEFINED(vla_bound_not_positive, "an array's length")
UNDEFINED(float_cast_overflow, "a number too large for an integer")
UNDEFINED(load_invalid_value, "a value that its type does not have")
UNDEFINED(pointer_overflow, "a pointer that overflows")
UNDEFINED(invalid_builtin, "a function of zero")
UNDEFINED(nonnull_arg, "null given")
}
