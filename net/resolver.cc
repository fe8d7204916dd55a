// SPDX-License-Identifier: MIT
// What the errors of look-ups mean.
#include <troth/net/resolver.h>

#include <troth/runtime/uv/uv_error.h>

#include <uv.h>

namespace troth {
inline namespace v0 {
namespace {

class LookupCategory final : public std::error_category {
public:
  const char* name() const noexcept override { return "look-up"; }

  std::string message(int condition) const override {
    switch (static_cast<LookupErrc>(condition)) {
    case LookupErrc::NOT_FOUND:
      return "there is no such host";
    case LookupErrc::UNAVAILABLE:
      return "the name servers do not answer";
    case LookupErrc::SERVER_FAILED:
      return "the name servers have no answer";
    }
    return "unknown";
  }

  bool equivalent(const std::error_code& code, int condition) const noexcept override {
    if (code.category() != uvCategory()) return error_category::equivalent(code, condition);
    switch (code.value()) {
    case UV_EAI_NONAME:
    case UV_EAI_NODATA:
    case UV_EAI_ADDRFAMILY:
      return static_cast<LookupErrc>(condition) == LookupErrc::NOT_FOUND;
    case UV_EAI_AGAIN:
      return static_cast<LookupErrc>(condition) == LookupErrc::UNAVAILABLE;
    case UV_EAI_FAIL:
      return static_cast<LookupErrc>(condition) == LookupErrc::SERVER_FAILED;
    default:
      return false;
    }
  }
};

} // namespace

const std::error_category& lookupCategory() noexcept {
  static const LookupCategory category;
  return category;
}

std::error_condition make_error_condition(LookupErrc condition) noexcept {
  return std::error_condition(static_cast<int>(condition), lookupCategory());
}

} // namespace v0
} // namespace troth
