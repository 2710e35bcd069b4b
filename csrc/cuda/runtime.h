// Where a call runs: device, stream, and what kernels must know of the device to choose among them.
#pragma once

#include <cstdint>

namespace crnn {

struct DeviceInfo {
  int capability;         // 80, 90, ...
  int multiprocessors;    // blocks that fill the device once
  int64_t shared_memory;  // bytes that one block may have
  int index;
};

// Of device `index`; asked of the driver once.
const DeviceInfo& device_info(int index);

// torch's current stream on device `index`.
void* current_stream(int index);

}  // namespace crnn
