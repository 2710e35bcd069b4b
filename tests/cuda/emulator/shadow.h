// Who touched which two bytes of shared memory since the last barrier. Internal to the emulator.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "emulator.h"

namespace crnn::emulator {

// Who touches, and when: barriers of the block and of the warp passed so far.
struct Who {
  static constexpr int16_t kAll = -1;  // every lane of the warp, or of several warps
  int16_t warp, lane;
  uint32_t epoch, warp_epoch;
};

class Shadow {
 public:
  explicit Shadow(int64_t bytes) : places_((bytes + 1) / 2) {}
  void reset();
  // What is wrong with the access, or an empty text.
  std::string touch(uint32_t address, uint32_t bytes, Access access, const Who& who);
  // The target of an asynchronous copy: nobody may touch it until it `landed`, which counts as a write.
  std::string copy_started(uint32_t address, const Who& who);
  void copy_landed(uint32_t address, const Who& who);

 private:
  struct Place {
    Who write{0, 0, 0, 0}, read{0, 0, 0, 0};
    bool written = false, was_read = false, in_flight = false;
  };
  static bool ordered(const Who& before, const Who& now);
  std::vector<Place> places_;
};

}  // namespace crnn::emulator
