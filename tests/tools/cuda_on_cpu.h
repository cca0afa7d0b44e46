// CUDA C on a CPU: put before the source of kernels, it makes C++17 of them, so that they are tested without a GPU.
//
// A CUDA thread is a fiber: a stack of its own, and a turn on the one CPU thread until it waits or ends. The blocks of
// a launch run one after the other, those of a cooperative launch side by side. What real hardware would let pass, or
// hang on, is an error here, with the place: a barrier that some threads have left or that others wait for elsewhere; a
// warp function that a lane of its mask never calls. Shared memory holds NaN when a block begins. In reversed order
// (SIMULATOR_ORDER=reversed) the last blocks and threads come first, and shared memory holds large numbers, since
// fmax(NaN, x) is x.
//
// AddressSanitizer sees accesses out of bounds and, with UBSan, misaligned ones. ThreadSanitizer is told of every fiber
// and what orders them, so it finds the accesses that a barrier should have kept apart.
#pragma once
#include <link.h>
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <algorithm>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#if defined(__SANITIZE_THREAD__)
extern "C" {
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
void *__tsan_get_current_fiber();
void __tsan_acquire(void *order);
void __tsan_release(void *order);
}
#define TSAN(...) __VA_ARGS__
#define UNWATCHED __attribute__((noinline, no_sanitize("thread")))
#else
#define TSAN(...)
#define UNWATCHED __attribute__((noinline))
#endif

// ---- the language ----

#undef INFINITY  // NVRTC has none of these
#undef NAN
#undef HUGE_VAL

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static thread_local  // thread_local puts all of a module's into one piece of memory

struct uint3 {
    unsigned x, y, z;
};
struct dim3 : uint3 {
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : uint3{x, y, z} {}
    size_t volume() const { return size_t(x) * y * z; }
};

#define VECTORS(type, name)                                                                  \
    struct alignas(2 * sizeof(type)) name##2 { type x, y; };                                 \
    struct alignas(sizeof(type) < 8 ? 4 * sizeof(type) : 16) name##4 { type x, y, z, w; };    \
    inline name##2 make_##name##2(type x, type y) { return {x, y}; }                         \
    inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
VECTORS(float, float)
VECTORS(double, double)
VECTORS(int, int)
VECTORS(unsigned, uint)
#undef VECTORS

// ---- fibers, warps, blocks ----

namespace simulator {

enum class State { ready, at_barrier, at_warp_function, at_grid_barrier, ended };

// What the lanes of one mask hand to each other. Two sets of slots: a fast lane may be at the next call already while
// a slow one still reads. `generation` counts the calls completed.
struct Exchange {
    unsigned mask, arrived = 0, generation = 0;
    uint64_t slots[2][32];
};

struct Warp {
    Exchange exchanges[8];  // plain arrays: ThreadSanitizer would look into the functions of a std::vector
    int used = 0;
    char order;  // address: a name for ThreadSanitizer, as are those below
};

struct Fiber {
    State state = State::ended;
    uint3 thread;
    unsigned lane;
    Warp *warp;
    int line;                // of the barrier it waits at
    Exchange *exchange;      // the one it waits for
    unsigned generation;
    ucontext_t context;
    jmp_buf place;
    bool begun = false;
    std::unique_ptr<char[]> stack;
    TSAN(void *tsan = nullptr;)
};

struct Block {
    uint3 index;
    std::vector<std::unique_ptr<Fiber>> fibers;
    std::vector<Warp> warps;
    std::vector<char> dynamic_shared;
    TSAN(char barrier_order;)
};

inline const bool reversed = getenv("SIMULATOR_ORDER") && !strcmp(getenv("SIMULATOR_ORDER"), "reversed");

// Of the launch under way.
inline dim3 grid_size, block_size;
inline bool cooperative;
inline void (*call_kernel)(void **);
inline void **arguments;
inline Block *block;
inline Fiber *fiber;
inline char message[300];

inline ucontext_t scheduler_context;
inline jmp_buf scheduler_place;
TSAN(inline void *scheduler_tsan; inline char begin_order, end_order, grid_order, atomic_order;)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t stack_size = 128 << 10;  // AddressSanitizer cleans it at each turn

UNWATCHED inline void pause() {
    TSAN(__tsan_switch_to_fiber(scheduler_tsan, 1);)
    swapcontext(&fiber->context, &scheduler_context);
}

UNWATCHED inline void resume() {
    TSAN(__tsan_switch_to_fiber(fiber->tsan, 1);)
    swapcontext(&scheduler_context, &fiber->context);
}
#else  // sanitizers know swapcontext, which asks the operating system at each turn; this is ten times as fast
constexpr size_t stack_size = 64 << 10;

UNWATCHED inline void pause() {
    if (!_setjmp(fiber->place)) _longjmp(scheduler_place, 1);
}

UNWATCHED inline void resume() {
    if (_setjmp(scheduler_place)) return;
    if (fiber->begun) _longjmp(fiber->place, 1);
    fiber->begun = true;
    setcontext(&fiber->context);
}
#endif

// Note the first thing that went wrong; the thread ends here.
UNWATCHED inline void fail(const char *what) {
    if (!message[0])
        snprintf(message, sizeof message, "%s, in block (%u, %u, %u), thread (%u, %u, %u)", what, block->index.x,
                 block->index.y, block->index.z, fiber->thread.x, fiber->thread.y, fiber->thread.z);
    fiber->state = State::ended;
    for (;;) pause();
}

// What a fiber does: one CUDA thread after the other, of one block after the other.
UNWATCHED inline void fiber_main() {
    for (;;) {
        TSAN(__tsan_acquire(&begin_order);)
        call_kernel(arguments);
        TSAN(__tsan_release(&end_order);)
        fiber->state = State::ended;
        pause();
    }
}

// Where this module's shared variables lie, and how many bytes.
inline thread_local char some_shared_variable;
inline std::pair<char *, size_t> shared_memory() {
    static std::pair<char *, size_t> found = [] {
        some_shared_variable = 0;  // allocates
        std::pair<char *, size_t> memory{nullptr, 0};
        dl_iterate_phdr(
            [](dl_phdr_info *module, size_t, void *result) {
                char *begin = (char *)module->dlpi_tls_data;
                for (int i = 0; begin && i < module->dlpi_phnum; i++) {
                    size_t size = module->dlpi_phdr[i].p_memsz;
                    if (module->dlpi_phdr[i].p_type == PT_TLS && &some_shared_variable >= begin &&
                        &some_shared_variable < begin + size)
                        *(std::pair<char *, size_t> *)result = {begin, size};
                }
                return 0;
            },
            &memory);
        return memory;
    }();
    return found;
}

UNWATCHED inline void begin_block(Block &b, uint3 index) {
    b.index = index;
    const int poison = reversed ? 0x7e : 0xff;  // 8.5e37 as a float, or NaN
    memset(shared_memory().first, poison, shared_memory().second);
    std::fill(b.dynamic_shared.begin(), b.dynamic_shared.end(), char(poison));
    const unsigned threads = block_size.volume();
    b.warps.clear();
    b.warps.resize((threads + 31) / 32);
    while (b.fibers.size() < threads) b.fibers.push_back(std::make_unique<Fiber>());
    for (unsigned i = 0; i < threads; i++) {
        Fiber &f = *b.fibers[i];
        f.state = State::ready;
        f.thread = {i % block_size.x, i / block_size.x % block_size.y, i / (block_size.x * block_size.y)};
        f.lane = i % 32;
        f.warp = &b.warps[i / 32];
        TSAN(if (!f.tsan) f.tsan = __tsan_create_fiber(0);)  // of block after block: one follows the other in any case
        if (!f.stack) {
            f.stack.reset(new char[stack_size]);
            getcontext(&f.context);
            f.context.uc_stack.ss_sp = f.stack.get();
            f.context.uc_stack.ss_size = stack_size;
            f.context.uc_link = nullptr;
            makecontext(&f.context, fiber_main, 0);
        }
    }
}

// Run a block until all of its threads have ended, or all wait for the grid.
UNWATCHED inline State run_block(Block &b) {
    block = &b;
    TSAN(scheduler_tsan = __tsan_get_current_fiber(); __tsan_release(&begin_order);)
    const int threads = block_size.volume();
    for (;;) {
        bool progress = false;
        for (int turn = 0; turn < threads; turn++) {
            fiber = b.fibers[reversed ? threads - 1 - turn : turn].get();
            if (fiber->state == State::at_warp_function && fiber->exchange->generation != fiber->generation)
                fiber->state = State::ready;
            if (fiber->state != State::ready) continue;
            resume();
            progress = true;
            if (message[0]) return State::ended;
        }
        int ended = 0, at_barrier = 0, at_grid_barrier = 0, line = 0;
        bool one_barrier = true;
        for (int i = 0; i < threads; i++) {
            fiber = b.fibers[i].get();
            ended += fiber->state == State::ended;
            at_grid_barrier += fiber->state == State::at_grid_barrier;
            if (fiber->state == State::at_barrier) {
                one_barrier &= at_barrier++ == 0 || fiber->line == line;
                line = fiber->line;
            }
        }
        if (ended == threads) {
            TSAN(__tsan_acquire(&end_order);)
            return State::ended;
        }
        if (at_grid_barrier == threads) return State::at_grid_barrier;
        if (at_barrier && ended && at_barrier + ended == threads) {
            snprintf(message, sizeof message, "__syncthreads() in line %d: %d threads have ended", line, ended);
            return State::ended;
        }
        if (at_barrier == threads) {
            if (!one_barrier) {
                snprintf(message, sizeof message, "__syncthreads() in line %d: others wait in another line", line);
                return State::ended;
            }
            for (int i = 0; i < threads; i++) b.fibers[i]->state = State::ready;
            progress = true;
        }
        if (!progress) {
            snprintf(message, sizeof message, "deadlock: not all threads come to a barrier or warp function");
            return State::ended;
        }
    }
}

inline uint3 block_index(size_t i) {
    if (reversed) i = grid_size.volume() - 1 - i;
    return {unsigned(i % grid_size.x), unsigned(i / grid_size.x % grid_size.y),
            unsigned(i / (size_t(grid_size.x) * grid_size.y))};
}

inline std::vector<Block> blocks;  // kept, with their stacks, from launch to launch

UNWATCHED inline void run_in_turn() {
    for (size_t i = 0; i < grid_size.volume() && !message[0]; i++) {
        begin_block(blocks[0], block_index(i));
        run_block(blocks[0]);
    }
}

UNWATCHED inline void run_side_by_side() {
    for (size_t i = 0; i < blocks.size(); i++) begin_block(blocks[i], block_index(i));
    for (size_t waiting = blocks.size(); waiting && !message[0];) {
        waiting = 0;
        for (Block &b : blocks) {
            for (auto &f : b.fibers)
                if (f->state == State::at_grid_barrier) f->state = State::ready;
            waiting += run_block(b) == State::at_grid_barrier;
            if (message[0]) return;
        }
        if (waiting && waiting != blocks.size())
            snprintf(message, sizeof message, "grid.sync(): not all blocks come to it");
    }
}

template <class... T>
struct Kernel {
    static inline void (*function)(T...);
    template <size_t... I>
    static void call_with(void **values, std::index_sequence<I...>) {
        function(*(std::remove_const_t<T> *)values[I]...);
    }
    static void call(void **values) { call_with(values, std::index_sequence_for<T...>()); }
};

// "f4*" is a pointer to floats, "i8" a long long; the names that NumPy has, so that arguments are checked there.
template <class T>
void append_type(char *&end) {
    if constexpr (std::is_pointer_v<T>) {
        append_type<std::remove_cv_t<std::remove_pointer_t<T>>>(end);
        *end++ = '*';
    } else {
        *end++ = std::is_floating_point_v<T> ? 'f' : std::is_signed_v<T> ? 'i' : std::is_integral_v<T> ? 'u' : 'V';
        *end++ = '0' + sizeof(T) % 10;
    }
}

template <class... T>
const char *types_of(void (*)(T...)) {
    static char names[8 * sizeof...(T) + 1], *end = names;
    if (end == names) ((append_type<std::remove_cv_t<T>>(end), *end++ = ' '), ...);
    return names;
}

template <class... T>
const char *launch(void (*function)(T...), const unsigned *grid, const unsigned *threads, size_t dynamic_shared,
                   void **values, int all_at_once) {
    grid_size = dim3(grid[0], grid[1], grid[2]);
    block_size = dim3(threads[0], threads[1], threads[2]);
    cooperative = all_at_once;
    message[0] = 0;
    if (!grid_size.volume() || !block_size.volume() || grid[1] > 65535 || grid[2] > 65535 || grid[0] > INT32_MAX)
        return "launch: the grid is empty or too large";
    if (block_size.volume() > 1024 || threads[2] > 64) return "launch: more than 1024 threads in a block";
    if (dynamic_shared + shared_memory().second > (227 << 10)) return "launch: too much shared memory";
    if (cooperative && shared_memory().second > 1)  // one place for all blocks, which live at once
        return "launch: a cooperative kernel's shared memory must be dynamic, in the simulator";
    Kernel<T...>::function = function;
    call_kernel = Kernel<T...>::call;
    arguments = values;
    blocks.resize(cooperative ? grid_size.volume() : 1);
    for (Block &b : blocks) b.dynamic_shared.resize(dynamic_shared);
    if (cooperative)
        run_side_by_side();
    else
        run_in_turn();
    if (message[0]) blocks.clear();  // fibers that stopped midway
    return message[0] ? message : nullptr;
}

UNWATCHED inline void barrier(int line) {
    fiber->state = State::at_barrier;
    fiber->line = line;
    TSAN(__tsan_release(&block->barrier_order);)
    pause();
    TSAN(__tsan_acquire(&block->barrier_order);)
}

UNWATCHED inline void grid_barrier() {
    if (!cooperative) fail("grid.sync() in a launch that is not cooperative");
    fiber->state = State::at_grid_barrier;
    TSAN(__tsan_release(&grid_order);)
    pause();
    TSAN(__tsan_acquire(&grid_order);)
}

// Every lane of the mask hands over its bits, waits for the others, and gets what they handed over.
UNWATCHED inline const uint64_t *exchange(unsigned mask, uint64_t bits) {
    Warp &warp = *fiber->warp;
    if (!(mask >> fiber->lane & 1)) fail("warp function: the calling lane is not in its own mask");
    Exchange *e = nullptr;
    for (int i = 0; i < warp.used; i++) {
        Exchange &other = warp.exchanges[i];
        if (other.mask == mask)
            e = &other;
        else if (other.arrived && (other.mask & mask))
            fail("warp function: lanes disagree on the mask");
    }
    if (!e) {
        if (warp.used == 8) fail("warp function: more masks than the simulator has room for");
        e = &warp.exchanges[warp.used++];
        e->mask = mask;
    }
    TSAN(__tsan_release(&warp.order);)
    uint64_t *slots = e->slots[e->generation % 2];
    slots[fiber->lane] = bits;
    e->arrived |= 1u << fiber->lane;
    if (e->arrived == mask) {
        e->arrived = 0;
        e->generation++;
    } else {
        fiber->exchange = e;
        fiber->generation = e->generation;
        fiber->state = State::at_warp_function;
        pause();
    }
    TSAN(__tsan_acquire(&warp.order);)
    return slots;
}

template <class T>
uint64_t to_bits(T value) {
    static_assert(sizeof(T) <= 8);
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    return bits;
}

template <class T>
T from_bits(uint64_t bits) {
    T value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// The value of another lane, where that lies in the same part of `width` lanes and calls too; else the lane's own.
template <class T>
T shuffle(unsigned mask, T value, int source, int width) {
    const uint64_t *slots = exchange(mask, to_bits(value));
    const int lane = fiber->lane, part = lane & ~(width - 1);
    if (source < part || source >= part + width) return value;
    if (!(mask >> source & 1)) fail("warp function: reads from a lane that is not in its mask");
    return from_bits<T>(slots[source]);
}

}  // namespace simulator

// ---- what kernels call ----

#define threadIdx (simulator::fiber->thread)
#define blockIdx (simulator::block->index)
#define blockDim (simulator::block_size)
#define gridDim (simulator::grid_size)
#define warpSize 32
#define dynamic_shared_memory (simulator::block->dynamic_shared.data())

#define __syncthreads() simulator::barrier(__LINE__)
inline void __syncwarp(unsigned mask = ~0u) { simulator::exchange(mask, 0); }
inline void __threadfence() {}
inline void __threadfence_block() {}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    return simulator::shuffle(mask, value, (simulator::fiber->lane & ~(width - 1)) | (source & (width - 1)), width);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int flip, int width = 32) {
    return simulator::shuffle(mask, value, simulator::fiber->lane ^ flip, width);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
    return simulator::shuffle(mask, value, simulator::fiber->lane + by, width);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
    return simulator::shuffle(mask, value, int(simulator::fiber->lane) - int(by), width);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
    const uint64_t *slots = simulator::exchange(mask, predicate != 0);
    unsigned ballot = 0;
    for (int lane = 0; lane < 32; lane++)
        if (mask >> lane & 1) ballot |= unsigned(slots[lane]) << lane;
    return ballot;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == mask; }

// A turn ends only at a barrier, a warp function or the thread's end: what happens between is atomic. The order that
// ThreadSanitizer is told of is that of one variable, no matter which, as __threadfence() around them would make it.
template <class T, class F>
T atomic_update(T *address, F new_value) {
    TSAN(__tsan_acquire(&simulator::atomic_order);)
    const T old = *address;
    *address = new_value(old);
    TSAN(__tsan_release(&simulator::atomic_order);)
    return old;
}
template <class T>
T atomicAdd(T *address, std::common_type_t<T> value) {
    return atomic_update(address, [=](T old) { return T(old + value); });
}
template <class T>
T atomicMax(T *address, std::common_type_t<T> value) {
    return atomic_update(address, [=](T old) { return std::max(old, value); });
}
template <class T>
T atomicMin(T *address, std::common_type_t<T> value) {
    return atomic_update(address, [=](T old) { return std::min(old, value); });
}
template <class T>
T atomicExch(T *address, std::common_type_t<T> value) {
    return atomic_update(address, [=](T) { return value; });
}
template <class T>
T atomicCAS(T *address, std::common_type_t<T> expected, std::common_type_t<T> value) {
    return atomic_update(address, [=](T old) { return old == expected ? value : old; });
}

// Loads and stores with a hint for the caches.
template <class T>
T __ldg(const T *address) {
    return *address;
}
template <class T>
T __ldcs(const T *address) {
    return *address;
}
template <class T>
void __stcs(T *address, T value) {
    *address = value;
}

using std::max;
using std::min;
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline float __int_as_float(int x) { return simulator::from_bits<float>(simulator::to_bits(x)); }
inline int __float_as_int(float x) { return simulator::from_bits<int>(simulator::to_bits(x)); }
inline float __uint_as_float(unsigned x) { return simulator::from_bits<float>(simulator::to_bits(x)); }
inline unsigned __float_as_uint(float x) { return simulator::from_bits<unsigned>(simulator::to_bits(x)); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __umulhi(unsigned x, unsigned y) { return unsigned(uint64_t(x) * y >> 32); }

namespace cooperative_groups {
struct grid_group {
    void sync() const { simulator::grid_barrier(); }
};
inline grid_group this_grid() { return {}; }
}  // namespace cooperative_groups
