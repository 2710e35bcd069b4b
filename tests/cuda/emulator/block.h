// One block under emulation: its fibres, and who waits for what. Internal to the emulator.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "emulator.h"
#include "fibre.h"
#include "shadow.h"

namespace crnn::emulator {

struct AsyncCopy {
  uint32_t address;
  const void* global;
  bool valid;
};

struct Thread {
  Fibre fibre;
  bool done;
  std::vector<AsyncCopy> open;                 // copies of the group that is not yet committed
  std::deque<std::vector<AsyncCopy>> pending;  // committed groups, the oldest first
};

struct Warp {
  uint32_t ready;  // lanes that can go on
  int arrived;     // lanes that wait in `collective`
  const char* name;
  void* arguments[32];
  uint32_t epoch;  // warp barriers so far
};

class Block {
 public:
  Block(const char* kernel, const Grid& grid, const std::function<void()>& body);
  void begin(int x, int y);
  // Runs it until all its threads are at a cluster barrier, or gone: then it is `done`.
  void run();
  bool done() const { return done_ == grid_.threads; }

  // For the functions of emulator.h, on the running thread.
  void block_barrier();
  void cluster_barrier();
  void collective(const char* name, void* arguments, void (*compute)(void* const*));
  unsigned char* touch(uint32_t address, uint32_t bytes, Access access, bool whole_warp);
  void copy_async(AsyncCopy copy);
  void copy_async_commit();
  void copy_async_wait(int pending);
  void warp_barrier_passed() { ++warp().epoch; }

 private:
  static void enter();
  void wait();              // gives the processor to another thread; back when this one is ready again
  void open(int& arrived);  // lets the threads that wait at a barrier go on
  [[noreturn]] void fail(const std::string& what);
  Who who(bool whole_warp) const;
  Thread& self() { return threads_[here.thread]; }
  Warp& warp() { return warps_[here.thread / 32]; }

  const char* kernel_;
  const Grid grid_;
  const std::function<void()>& body_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::unique_ptr<unsigned char[]> stacks_;
  std::vector<unsigned char> shared_;
  Shadow shadow_;
  Fibre scheduler_;
  Place place_;  // the thread to go on with
  int at_barrier_ = 0, at_cluster_barrier_ = 0, done_ = 0;
  uint32_t epoch_ = 0;  // block barriers so far
  std::string fault_;
};

}  // namespace crnn::emulator
