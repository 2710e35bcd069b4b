// A fibre: a stack of its own, entered and left by hand. Twenty nanoseconds a switch, where threads take
// microseconds.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace crnn::emulator {

class Fibre {
 public:
  // The fibre of the caller's own stack.
  Fibre() = default;
  // One that calls entry() when first entered; entry must never return.
  void prepare(void* stack, size_t bytes, void (*entry)());
  // Leaves `this`, the running fibre, for `next`. `ends`: never to come back.
  void switch_to(Fibre& next, bool ends = false);
  // Must be called first in entry().
  void entered();

 private:
  void* stack_ = nullptr;
  size_t bytes_ = 0;
#if defined(__x86_64__)
  void* pointer_ = nullptr;
#else
  ucontext_t context_;
#endif
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack_ = nullptr;
#endif
};

}  // namespace crnn::emulator
