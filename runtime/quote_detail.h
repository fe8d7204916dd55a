// SPDX-License-Identifier: MIT
// Text from outside as error messages show it.
#pragma once

#include <string>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace detail {

/// `text` in double quotes, with control characters and bytes outside ASCII shown as \xNN, shortened if long.
std::string quote(std::string_view text);

} // namespace detail
} // namespace v0
} // namespace troth
