// Starts a kernel and says in words why where it cannot start. For .cu files; no torch in it.
//
// A launch goes to the stream it is given, on the current device, and waits for nothing, so that it can be
// captured in a CUDA graph. Who picks device and stream: runtime.h.
#pragma once

#include "device.cuh"

#if defined(__CUDACC__)

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace crnn {

struct Grid {
  int64_t x, y = 1;
  int threads;
  int64_t shared_bytes = 0;
  int cluster = 1;  // blocks, neighbours along y, that run at the same time
};

inline void check_cuda(cudaError_t error, const char* what, const std::string& where) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("crnn: ") + what + " failed: " + cudaGetErrorString(error) + where);
}

// kernel<<<grid>>>(params). An empty grid starts nothing.
template <typename Params>
void launch(const char* name, void (*kernel)(Params), const Grid& grid, void* stream, const Params& params) {
  if (grid.x == 0 || grid.y == 0) return;
  const std::string where = " (" + std::to_string(grid.x) + " x " + std::to_string(grid.y) + " blocks of " +
                            std::to_string(grid.threads) + " threads, " + std::to_string(grid.shared_bytes) +
                            " bytes of shared memory)";
  if (grid.shared_bytes > 48 * 1024)  // what a kernel may have without asking
    check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                   cudaFuncAttributeMaxDynamicSharedMemorySize, int(grid.shared_bytes)),
        name, where);
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = cluster.val.clusterDim.z = 1, cluster.val.clusterDim.y = unsigned(grid.cluster);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(unsigned(grid.x), unsigned(grid.y)), config.blockDim = dim3(unsigned(grid.threads));
  config.dynamicSmemBytes = size_t(grid.shared_bytes), config.stream = static_cast<cudaStream_t>(stream);
  config.attrs = &cluster, config.numAttrs = grid.cluster > 1;
  check_cuda(cudaLaunchKernelEx(&config, kernel, params), name, where);
}

}  // namespace crnn

#endif
