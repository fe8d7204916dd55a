// SPDX-License-Identifier: MIT
// File: reading, writing and the rest, by jobs in libuv's thread pool (see uv_file_job_detail.h).
#include <troth/io/file.h>

#include <troth/io/blocking_detail.h>
#include <troth/io/file_transfer_detail.h>
#include <troth/io/uv_file_job_detail.h>

namespace troth {
inline namespace v0 {

using detail::Opened;

File::File(std::unique_ptr<Parts> parts) noexcept : parts_(std::move(parts)) {}
File::~File() = default;

Promise<std::size_t> File::read(std::uint64_t offset, std::span<std::byte> buffer, std::source_location where) {
  if (buffer.empty())
    detail::throwMisuse("File::read: the buffer is empty, so a result of 0 would not mean the end of the file", where);
  detail::checkedOffset(offset, "File::read", "offset", where);
  return parts_->add(detail::readToBuffer(parts_->opened(), offset, buffer, buffer.size(), where), where);
}

Promise<void> File::write(std::uint64_t offset, std::span<const std::byte> bytes, std::source_location where) {
  detail::checkedOffset(offset, "File::write", "offset", where);
  return parts_->add(detail::writePieces(parts_->opened(), offset, detail::Pieces({&bytes, 1}), where), where);
}

Promise<FileInfo> File::stat(std::source_location where) {
  return parts_->run<FileInfo>(
      "stat", {}, where, [](const Opened& at, const Path&, FileInfo& info) { return detail::getInfo(at.fd(), info); });
}

Promise<std::uint64_t> File::size(std::source_location where) {
  return stat(where).then([](const FileInfo& info) { return info.size; });
}

Promise<void> File::sync(std::source_location where) {
  return parts_->run<void>("sync", {}, where, [](const Opened& at, const Path&) { return detail::sync(at.fd()); });
}

Promise<void> File::dataSync(std::source_location where) {
  return parts_->run<void>("sync", {}, where, [](const Opened& at, const Path&) { return detail::dataSync(at.fd()); });
}

Promise<void> File::truncate(std::uint64_t size, std::source_location where) {
  const std::int64_t to = detail::checkedOffset(size, "File::truncate", "size", where);
  return parts_->run<void>("truncate", {}, where,
                           [to](const Opened& at, const Path&) { return detail::truncate(at.fd(), to); });
}

} // namespace v0
} // namespace troth
