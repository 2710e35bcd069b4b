// The device's properties and torch's current stream. No torch headers: nvcc compiles this without them.
#include "runtime.h"

#include <cuda_runtime.h>
#include <dlfcn.h>

#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "launch.h"

namespace crnn {
namespace {

int attribute(cudaDeviceAttr which, int index) {
  int value = 0;
  check_cuda(cudaDeviceGetAttribute(&value, which, index), "reading the properties of device",
      " " + std::to_string(index));
  return value;
}

// A function of torch's stable C interface that only a torch with CUDA has; looked up in the library that
// `import torch` has loaded, so that this module links against any torch.
void* of_torch_cuda(const char* name) {
  void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
  void* function = library ? dlsym(library, name) : nullptr;
  if (!function)
    throw std::runtime_error(std::string("crnn: ") + name + " not found: this torch has no CUDA");
  return function;
}

}  // namespace

const DeviceInfo& device_info(int index) {
  static std::mutex mutex;
  static std::vector<DeviceInfo> known(64);
  const std::lock_guard<std::mutex> lock(mutex);
  DeviceInfo& info = known.at(index);
  if (info.capability == 0)
    info = {attribute(cudaDevAttrComputeCapabilityMajor, index) * 10 +
                attribute(cudaDevAttrComputeCapabilityMinor, index),
        attribute(cudaDevAttrMultiProcessorCount, index),
        attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, index), index};
  return info;
}

void* current_stream(int index) {
  static const auto get =
      reinterpret_cast<int32_t (*)(int32_t, void**)>(of_torch_cuda("aoti_torch_get_current_cuda_stream"));
  check_cuda(
      cudaSetDevice(index), "choosing device", " " + std::to_string(index));  // in this module's runtime
  void* stream = nullptr;
  if (get(index, &stream) != 0)
    throw std::runtime_error("crnn: torch has no current stream on device " + std::to_string(index));
  return stream;
}

}  // namespace crnn
