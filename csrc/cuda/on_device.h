// Where an op runs: the device of its tensors, torch's current stream there. For .cpp files that see torch.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>

#include "runtime.h"

namespace crnn {

// Makes the tensor's device the current one while it lives.
class OnDevice {
 public:
  explicit OnDevice(const torch::stable::Tensor& t) : OnDevice(t.get_device_index()) {}

 private:
  std::optional<torch::stable::accelerator::DeviceGuard> guard_;
  explicit OnDevice(int index)
      : guard_(guard(index)), info(device_info(index)), stream(current_stream(index)) {}
  // A tensor without an index is one of the emulator's (tests/cuda), which has no devices.
  static std::optional<torch::stable::accelerator::DeviceGuard> guard(int index) {
    std::optional<torch::stable::accelerator::DeviceGuard> made;
    if (index >= 0) made.emplace(index);
    return made;
  }

 public:
  const DeviceInfo& info;
  void* const stream;
};

}  // namespace crnn
