// SPDX-License-Identifier: MIT
// What files and directories have open: how it is called, and how it is closed.
#include <troth/io/uv_file_job_detail.h>

#include <troth/runtime/quote_detail.h>
#include <troth/runtime/uv/uv_error.h>

#include <fmt/format.h>

#include <new>

namespace troth {
inline namespace v0 {
namespace detail {
namespace {

class Closing final : public PoolJob {
public:
  explicit Closing(OwnedDescriptor&& descriptor) noexcept : descriptor_(std::move(descriptor)) {}

private:
  OwnedDescriptor descriptor_;

  int run() override {
    descriptor_.close();
    return 0;
  }
  void done(int) noexcept override {}
};

Exception destroyed(std::string_view kind, const Opened& opened) noexcept {
  try {
    return Exception(
        Exception::Kind::DISCONNECTED,
        fmt::format("the {} {} was destroyed while an operation on it was pending", kind, quote(opened.name)));
  } catch (const std::bad_alloc&) {
    return Exception(Exception::Kind::DISCONNECTED, "a file was destroyed while an operation on it was pending");
  }
}

} // namespace

// In the pool, since it may wait for a disk or a server.
Opened::~Opened() {
  if (!descriptor) return;
  try {
    PoolJob::submit(loop, std::make_unique<Closing>(std::move(descriptor)));
  } catch (const std::bad_alloc&) {
    // It is closed here.
  }
}

std::string Opened::nameOf(const Path& path) const {
  return path.isSelf() ? name : fmt::format("{}{}{}", name, name.ends_with('/') ? "" : "/", path.toString());
}

Exception jobException(int status, std::string_view operation, const Opened& at, const Path& path,
                       std::source_location where) {
  return uvException(status, fmt::format("{} {}", operation, quote(at.nameOf(path))), where);
}

Operations::~Operations() {
  if (!canceler_.isEmpty()) canceler_.cancel(destroyed(kind_, *opened_));
}

} // namespace detail
} // namespace v0
} // namespace troth
