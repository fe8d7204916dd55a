// SPDX-License-Identifier: MIT
// The numbers of the standard descriptors: libuv must never get one.
#pragma once

namespace troth {
inline namespace v0 {
namespace detail {

/// Takes the numbers of those that are closed, by something that can be used in the wrong direction only. To be called
/// when one may have been closed, before libuv makes a descriptor.
void holdStandardDescriptors() noexcept;

} // namespace detail
} // namespace v0
} // namespace troth
