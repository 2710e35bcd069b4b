#include "shadow.h"

namespace crnn::emulator {

// Whether what `before` did is complete for `now`: its own lane did it, or a barrier of both stands between.
bool Shadow::ordered(const Who& before, const Who& now) {
  if (before.epoch < now.epoch) return true;
  if (before.warp != now.warp) return false;
  return before.warp_epoch < now.warp_epoch || (before.lane == now.lane && before.lane != Who::kAll);
}

void Shadow::reset() {
  for (Place& place : places_) place = Place();
}

std::string Shadow::touch(uint32_t address, uint32_t bytes, Access access, const Who& who) {
  for (uint32_t at = address / 2; at < (address + bytes + 1) / 2; ++at) {
    Place& p = places_[at];
    if (p.in_flight) return "is the target of an asynchronous copy that was not waited for";
    if (p.written && !ordered(p.write, who)) {
      const bool both_read = access == Access::kRead && p.write.warp == who.warp && p.write.lane == who.lane;
      if (!both_read) return "was written by another thread since the last barrier";
    }
    if (access == Access::kRead) {
      if (!p.written) return "was never written";
      if (p.was_read && p.read.epoch == who.epoch && (p.read.warp != who.warp || p.read.lane != who.lane)) {
        const bool one_warp = p.read.warp == who.warp;
        p.read = {one_warp ? who.warp : Who::kAll, Who::kAll, who.epoch, who.warp_epoch};
      } else {
        p.read = who;
      }
      p.was_read = true;
    } else {
      if (p.was_read && !ordered(p.read, who)) return "was read by another thread since the last barrier";
      p.write = who, p.written = true;
    }
  }
  return "";
}

std::string Shadow::copy_started(uint32_t address, const Who& who) {
  const std::string wrong = touch(address, 16, Access::kWrite, who);
  for (uint32_t at = address / 2; wrong.empty() && at < address / 2 + 8; ++at) places_[at].in_flight = true;
  return wrong;
}

void Shadow::copy_landed(uint32_t address, const Who& who) {
  for (uint32_t at = address / 2; at < address / 2 + 8; ++at) {
    places_[at].in_flight = false;
    places_[at].write = who, places_[at].written = true;
  }
}

}  // namespace crnn::emulator
