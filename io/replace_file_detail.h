// SPDX-License-Identifier: MIT
// Files under a name of their own: to replace another at one stroke, or without any name. Blocks: for threads of the
// pool.
#pragma once

#include <troth/io/descriptor.h>

#include <cstddef>
#include <span>

namespace troth {
inline namespace v0 {
namespace detail {

/// Makes the entry `name` of `directory` a file with `contents`, at one stroke and for good. Gives a status.
int replaceFile(int directory, const char* name, std::span<const std::byte> contents);

/// Opens a file in `directory` that nobody else can open. Gives a status.
int makeNameless(int directory, OwnedDescriptor& result);

} // namespace detail
} // namespace v0
} // namespace troth
