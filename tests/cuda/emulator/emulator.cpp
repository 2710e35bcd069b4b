#include "emulator.h"

#include <algorithm>
#include <stdexcept>

#include "block.h"

namespace crnn::emulator {

Place here;

namespace {
// Thread's stack. The sanitizers' frames are larger.
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStack = 256 << 10;
#else
constexpr size_t kStack = 64 << 10;
#endif
Block* block;  // the one that runs
}  // namespace

Block::Block(const char* kernel, const Grid& grid, const std::function<void()>& body)
    : kernel_(kernel),
      grid_(grid),
      body_(body),
      threads_(grid.threads),
      warps_(grid.threads / 32),
      stacks_(new unsigned char[kStack * grid.threads]),
      shared_(grid.shared_bytes),
      shadow_(grid.shared_bytes) {}

void Block::begin(int x, int y) {
  place_ = {0, x, y, grid_.threads, int(grid_.x)};
  at_barrier_ = at_cluster_barrier_ = done_ = 0, epoch_ = 0;
  std::fill(shared_.begin(), shared_.end(), (unsigned char)0xFF);  // NaN in every type
  shadow_.reset();
  for (Warp& w : warps_) w = {~0u, 0, nullptr, {}, 0};
  for (int t = 0; t < grid_.threads; ++t) {
    threads_[t].done = false, threads_[t].open.clear(), threads_[t].pending.clear();
    threads_[t].fibre.prepare(stacks_.get() + t * kStack, kStack, &Block::enter);
  }
}

void Block::run() {
  here = place_;
  block = this;
  if (at_cluster_barrier_) open(at_cluster_barrier_);
  scheduler_.switch_to(threads_[0].fibre);
  block = nullptr;
  if (!fault_.empty()) throw std::runtime_error(fault_);
}

void Block::enter() {
  Block& b = *block;
  b.self().fibre.entered();
  b.body_();
  if (!b.self().open.empty() || !b.self().pending.empty()) b.fail("ends with asynchronous copies under way");
  b.self().done = true;
  ++b.done_;
  b.warp().ready &= ~(1u << here.thread % 32);
  b.wait();
}

void Block::wait() {
  Thread& from = self();
  const int lane = here.thread % 32, count = int(warps_.size());
  for (int i = 0, w = here.thread / 32; i < count; ++i, w = w + 1 == count ? 0 : w + 1) {
    const uint32_t ready = warps_[w].ready, later = i == 0 && lane < 31 ? ready & (~0u << (lane + 1)) : 0;
    if (!ready) continue;
    here.thread = w * 32 + __builtin_ctz(later ? later : ready);
    if (&self() != &from) from.fibre.switch_to(self().fibre, from.done);
    return;
  }
  if (done_ < grid_.threads && at_cluster_barrier_ < grid_.threads)
    fail("waits for ever: some threads are at a barrier, others at another, at a collective or gone");
  from.fibre.switch_to(scheduler_, from.done);
}

void Block::fail(const std::string& what) {
  fault_ = std::string("emulator: ") + kernel_ + ", block (" + std::to_string(here.block_x) + ", " +
           std::to_string(here.block_y) + "), thread " + std::to_string(here.thread) + ": " + what;
  self().fibre.switch_to(scheduler_, true);
  __builtin_unreachable();
}

void Block::open(int& arrived) {
  arrived = 0, ++epoch_;
  for (Warp& w : warps_) w.ready = ~0u;
}

void Block::block_barrier() {
  if (++at_barrier_ == grid_.threads) return open(at_barrier_);
  warp().ready &= ~(1u << here.thread % 32);
  wait();
}

void Block::cluster_barrier() {
  ++at_cluster_barrier_;
  warp().ready &= ~(1u << here.thread % 32);
  wait();
}

void Block::collective(const char* name, void* arguments, void (*compute)(void* const*)) {
  Warp& w = warp();
  if (w.arrived == 0) w.name = name;
  if (w.name != name) fail(std::string("calls ") + name + " where another lane of its warp calls " + w.name);
  w.arguments[here.thread % 32] = arguments;
  if (++w.arrived == 32) {
    w.arrived = 0, w.ready = ~0u;
    return compute(w.arguments);
  }
  w.ready &= ~(1u << here.thread % 32);
  wait();
}

Who Block::who(bool whole_warp) const {
  const int w = here.thread / 32;
  return {int16_t(w), whole_warp ? Who::kAll : int16_t(here.thread % 32), epoch_, warps_[w].epoch};
}

unsigned char* Block::touch(uint32_t address, uint32_t bytes, Access access, bool whole_warp) {
  const auto say = [&](const std::string& what) {
    fail(std::string(access == Access::kRead ? "reads " : "writes ") + std::to_string(bytes) +
         " bytes of shared memory at " + std::to_string(address) + ", which " + what);
  };
  if (int64_t(address) + bytes > grid_.shared_bytes) say("lies outside the block's shared memory");
  if (address % bytes != 0) say("is not aligned");
  const std::string wrong = shadow_.touch(address, bytes, access, who(whole_warp));
  if (!wrong.empty()) say(wrong);
  return shared_.data() + address;
}

void Block::copy_async(AsyncCopy copy) {
  const std::string at = "copies to shared memory at " + std::to_string(copy.address) + ", which ";
  if (int64_t(copy.address) + 16 > grid_.shared_bytes) fail(at + "lies outside the block's");
  if (copy.address % 16 || reinterpret_cast<uintptr_t>(copy.global) % 16)
    fail(at + "or whose source is not aligned to 16 bytes");
  const std::string wrong = shadow_.copy_started(copy.address, who(false));
  if (!wrong.empty()) fail(at + wrong);
  std::memset(shared_.data() + copy.address, 0xFF, 16);
  self().open.push_back(copy);
}

void Block::copy_async_commit() {
  self().pending.push_back(std::move(self().open));
  self().open.clear();
}

void Block::copy_async_wait(int pending) {
  while (int(self().pending.size()) > pending) {
    for (const AsyncCopy& c : self().pending.front()) {
      if (c.valid)
        std::memcpy(shared_.data() + c.address, c.global, 16);
      else
        std::memset(shared_.data() + c.address, 0, 16);
      shadow_.copy_landed(c.address, who(false));
    }
    self().pending.pop_front();
  }
}

void run(const char* kernel, const Grid& grid, const std::function<void()>& body) {
  if (grid.x == 0 || grid.y == 0) return;
  if (grid.threads < 32 || grid.threads % 32 || grid.threads > 1024)
    throw std::runtime_error(std::string("emulator: ") + kernel + " needs whole warps, at most 32 of them");
  if (grid.cluster < 1 || grid.cluster > 8 || grid.y % grid.cluster)
    throw std::runtime_error(std::string("emulator: ") + kernel +
                             " needs clusters of 1 to 8 blocks that divide " + std::to_string(grid.y));
  std::deque<Block> cluster;
  for (int i = 0; i < grid.cluster; ++i) cluster.emplace_back(kernel, grid, body);
  const auto done = [](const Block& b) { return b.done(); };
  for (int y = 0; y < grid.y; y += grid.cluster)
    for (int x = 0; x < grid.x; ++x) {
      for (int i = 0; i < grid.cluster; ++i) cluster[i].begin(x, y + i);
      do {
        for (Block& b : cluster) b.run();
        const auto gone = std::count_if(cluster.begin(), cluster.end(), done);
        if (gone % grid.cluster)
          throw std::runtime_error(std::string("emulator: ") + kernel + ", block (" + std::to_string(x) +
                                   ", " + std::to_string(y) +
                                   "): some blocks of its cluster are at a cluster barrier, others gone");
      } while (!done(cluster[0]));
    }
}

void block_barrier() {
  block->block_barrier();
}

void cluster_barrier() {
  block->cluster_barrier();
}

void warp_barrier() {
  collective("warp_barrier", nullptr, [](void* const*) { block->warp_barrier_passed(); });
}

void collective(const char* name, void* arguments, void (*compute)(void* const*)) {
  block->collective(name, arguments, compute);
}

unsigned char* touch(uint32_t address, uint32_t bytes, Access access, bool whole_warp) {
  return block->touch(address, bytes, access, whole_warp);
}

void copy_async(uint32_t address, const void* global, bool valid) {
  block->copy_async({address, global, valid});
}

void copy_async_commit() {
  block->copy_async_commit();
}

void copy_async_wait(int pending) {
  block->copy_async_wait(pending);
}

}  // namespace crnn::emulator
