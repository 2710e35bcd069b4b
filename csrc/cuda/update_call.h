// What the boundary (update_cuda.cpp) hands to the update kernel: plain numbers and pointers. No torch in it.
#pragma once

#include "../core/updates.h"
#include "scan_call.h"  // Dtype

namespace crnn {

// A blob with its gradient and histories. `aligned`: all of them begin at multiples of 16 bytes.
struct UpdateBlob {
  void* blob;
  const void* grad;
  void* history[kMaxHistories];
  int64_t count;
  bool aligned;
};

// Blobs that one launch takes, by value: nothing has to be copied to the device.
constexpr int kLaunchBlobs = 48;

struct UpdateCall {
  double rate, decay, scale, numbers[kMaxNumbers];
  Regularizer regularizer;
  Dtype dtype;
  int rule;  // its place in Rules
  int blobs;
  UpdateBlob blob[kLaunchBlobs];
  int64_t first_block[kLaunchBlobs + 1];  // set by start_update: the blocks of blob i and of those before it
};

void start_update(UpdateCall& call, void* stream);

}  // namespace crnn
