// SPDX-License-Identifier: MIT
// What the threads of the pool do with an open file: calls of the system, which block.
#pragma once

#include <troth/io/file.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace troth {
inline namespace v0 {
namespace detail {

// A status is 0 or more, or one of libuv's codes, which on Unix are negated errnos.

/// That of errno.
int lastError() noexcept;
/// That of a call which gives -1 for an error.
int statusOf(int result) noexcept;

/// In place of an offset: the position of the descriptor, which moves; the end of a file opened with O_APPEND.
inline constexpr std::int64_t AT_POSITION = -1;

/// Reads what there is, as read(2) does, and gives how much that was: 0 is the end. Or a status.
int readSome(int fd, std::int64_t offset, std::span<std::byte> buffer) noexcept;
/// Writes all of `bytes`.
int writeAll(int fd, std::int64_t offset, std::span<const std::byte> bytes) noexcept;

int getInfo(int fd, FileInfo& info) noexcept;
int sync(int fd) noexcept;
int dataSync(int fd) noexcept;
int truncate(int fd, std::int64_t size) noexcept;

/// Of st_mode.
FileType typeOf(std::uint64_t mode) noexcept;

} // namespace detail
} // namespace v0
} // namespace troth
