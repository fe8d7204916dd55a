// SPDX-License-Identifier: MIT
// What happens when a deferred function throws in a destructor.
#include <troth/runtime/defer.h>

#include <troth/runtime/exception.h>

#include <fmt/format.h>

namespace troth {
inline namespace v0 {
namespace detail {

void deferredFunctionThrew(const std::source_location& where) noexcept {
  if (std::uncaught_exceptions() > 0) return;
  fatal(fmt::format("a deferred function threw: {}", Exception::fromCurrent().what()), where);
}

} // namespace detail
} // namespace v0
} // namespace troth
