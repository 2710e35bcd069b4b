#include "fibre.h"

namespace crnn::emulator {

#if defined(__SANITIZE_ADDRESS__)
namespace {
// Where the fibre that was left last has its stack: the sanitizer tells, to the one that is entered.
const void* left_stack;
size_t left_bytes;
Fibre* left;
}  // namespace
#endif

#if defined(__x86_64__)

// crnn_switch(from, to): saves what a function must keep on the stack, leaves its pointer in *from, and goes
// on where `to` was left.
asm(R"(
.text
.type crnn_switch, @function
crnn_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size crnn_switch, .-crnn_switch
)");
extern "C" void crnn_switch(void** from, void* to);

void Fibre::prepare(void* stack, size_t bytes, void (*entry)()) {
  *this = Fibre();
  stack_ = stack, bytes_ = bytes;
  auto* top = reinterpret_cast<uintptr_t*>(static_cast<char*>(stack) + bytes / 16 * 16);
  *--top = 0;                                   // entry's return address: it has none
  *--top = reinterpret_cast<uintptr_t>(entry);  // where the first switch returns to
  for (int i = 0; i < 6; ++i) *--top = 0;
  pointer_ = top;
}

#else

void Fibre::prepare(void* stack, size_t bytes, void (*entry)()) {
  *this = Fibre();
  stack_ = stack, bytes_ = bytes;
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack, context_.uc_stack.ss_size = bytes, context_.uc_link = nullptr;
  makecontext(&context_, entry, 0);
}

#endif

void Fibre::switch_to(Fibre& next, bool ends) {
#if defined(__SANITIZE_ADDRESS__)
  left = this;
  __sanitizer_start_switch_fiber(ends ? nullptr : &fake_stack_, next.stack_, next.bytes_);
#endif
#if defined(__x86_64__)
  crnn_switch(&pointer_, next.pointer_);
#else
  swapcontext(&context_, &next.context_);
#endif
  entered();
  (void)ends;
}

void Fibre::entered() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack_, &left_stack, &left_bytes);
  if (left && !left->stack_) left->stack_ = const_cast<void*>(left_stack), left->bytes_ = left_bytes;
#endif
}

}  // namespace crnn::emulator
