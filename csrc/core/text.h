// Text: a string among an op's arguments, freed when the op returns.
//
// torch's own conversion to std::string (ToImpl in stableivalue_conversions.h, 2.10 to 2.13) makes one with
// `new` and returns a copy of it: 48 bytes a call and argument that nobody frees, 0.4 KB an iteration of
// training.
#pragma once

#include <torch/csrc/stable/library.h>

#include <string>

namespace crnn {

struct Text : std::string {
  using std::string::string;
};

}  // namespace crnn

template <>
struct torch::stable::detail::ToImpl<crnn::Text> {
  static crnn::Text call(StableIValue value, uint64_t, bool) {
    StringHandle handle = torch::stable::detail::to<StringHandle>(value);
    size_t length;
    const char* data;
    TORCH_ERROR_CODE_CHECK(torch_string_length(handle, &length));
    TORCH_ERROR_CODE_CHECK(torch_string_c_str(handle, &data));
    crnn::Text text(data, length);
    TORCH_ERROR_CODE_CHECK(torch_delete_string(handle));
    return text;
  }
};
