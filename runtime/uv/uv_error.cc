// SPDX-License-Identifier: MIT
// libuv's error category, and which kind of Exception a status becomes.
#include <troth/runtime/uv/uv_error.h>

#include <fmt/format.h>
#include <uv.h>

#include <iterator>

namespace troth {
inline namespace v0 {
namespace {

/// Other codes are errors of the system that libuv has no text for: it makes one of the number, and leaks it.
bool isNamed(int status) noexcept {
  switch (status) {
#define TROTH_CODE(name, _) case UV_##name:
    UV_ERRNO_MAP(TROTH_CODE)
#undef TROTH_CODE
    return true;
  default:
    return false;
  }
}

class UvCategory final : public std::error_category {
public:
  const char* name() const noexcept override { return "libuv"; }

  std::string message(int status) const override {
    return isNamed(status) ? uv_strerror(status) : std::generic_category().message(-status);
  }

  std::error_condition default_error_condition(int status) const noexcept override {
    // On Unix libuv's codes are negated errnos, except for those that have no errno (from -3000 down) and
    // end of file (-4095).
    if (status < 0 && status > -1000) return std::error_condition(-status, std::generic_category());
    // Of libuv's own codes, these mean exactly what an errno does.
    if (status == UV_EAI_CANCELED) return std::make_error_condition(std::errc::operation_canceled);
    if (status == UV_EAI_MEMORY) return std::make_error_condition(std::errc::not_enough_memory);
    return std::error_condition(status, *this);
  }
};

} // namespace

const std::error_category& uvCategory() noexcept {
  static const UvCategory category;
  return category;
}

std::error_code uvErrorCode(int status) noexcept { return std::error_code(status, uvCategory()); }

Exception uvException(int status, std::string_view operation, std::source_location where) noexcept {
  const std::error_code code = uvErrorCode(status);
  Exception::Kind kind = Exception::kindOf(code);
  if (status == UV_EOF || status == UV_EHOSTDOWN) kind = Exception::Kind::DISCONNECTED;
  if (status == UV_EAI_AGAIN) kind = Exception::Kind::OVERLOADED;
  try {
    fmt::memory_buffer text; // needs no memory but for a very long operation
    if (isNamed(status))
      fmt::format_to(std::back_inserter(text), "{}: {} ({})", operation, uv_strerror(status), uv_err_name(status));
    else
      fmt::format_to(std::back_inserter(text), "{}: {} (errno {})", operation, code.message(), -status);
    return Exception(kind, {text.data(), text.size()}, code, where);
  } catch (...) {
    return Exception(kind, operation, code, where);
  }
}

Exception uvDescriptorException(int status, std::string_view operation, int descriptor,
                                std::source_location where) noexcept {
  fmt::memory_buffer text; // needs no memory
  fmt::format_to(std::back_inserter(text), "{} descriptor {}", operation, descriptor);
  return uvException(status, {text.data(), text.size()}, where);
}

void uvCheck(int status, std::string_view operation, std::source_location where) {
  if (status < 0) throw uvException(status, operation, where);
}

} // namespace v0
} // namespace troth
