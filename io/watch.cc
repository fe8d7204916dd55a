// SPDX-License-Identifier: MIT
// FileWatch on a uv_fs_event_t, which is inotify on Linux.
#include <troth/io/watch.h>

#include <troth/io/async_io.h>
#include <troth/io/collector_detail.h>
#include <troth/runtime/uv/uv_event_port.h>

#include <fmt/format.h>

#include <filesystem>
#include <system_error>

namespace troth {
inline namespace v0 {
namespace {

using Changes = std::vector<FileChange>;

class ChangeCollector final : public detail::Collector<Changes> {
public:
  ChangeCollector() noexcept : Collector("FileWatch::nextChanges") {}

  void watch(uv_loop_t* loop, const std::string& path, std::source_location where) {
    std::error_code ignored;
    if (!std::filesystem::is_directory(path, ignored)) ownName_ = path.substr(path.rfind('/') + 1);
    handle_ =
        UvHandle<uv_fs_event_t>("uv_fs_event_init", [loop](uv_fs_event_t* h) { return uv_fs_event_init(loop, h); });
    handle_.setData(this);
    const int status = uv_fs_event_start(
        handle_.get(),
        [](uv_fs_event_t* handle, const char* name, int events, int result) {
          auto* collector = static_cast<ChangeCollector*>(handle->data);
          if (collector != nullptr) collector->onChange(name == nullptr ? "" : name, events, result);
        },
        path.c_str(), 0);
    uvCheck(status, fmt::format("watch {:?}", path), where);
  }

private:
  UvHandle<uv_fs_event_t> handle_;
  std::string ownName_; // of a file; libuv gives the one that the first of several watches knew
  Changes changes_;
  bool dropped_ = false; // changes that came after those

  void onChange(std::string_view name, int events, int status) noexcept {
    try {
      if (!ownName_.empty()) name = ownName_;
      if (status < 0) dropped_ = true; // what the system could not tell
      if ((events & UV_RENAME) != 0) add(FileChange::Kind::RENAMED, name);
      if ((events & UV_CHANGE) != 0) add(FileChange::Kind::CHANGED, name);
    } catch (...) {
      dropped_ = true; // there was no memory to keep it
    }
    arrived();
  }

  void add(FileChange::Kind kind, std::string_view name) {
    if (!changes_.empty() && changes_.back().kind == kind && changes_.back().name == name) return;
    if (changes_.size() == FileWatch::MOST_KEPT) dropped_ = true;
    if (!dropped_) changes_.push_back({kind, std::string(name)});
  }

  bool hasItems() const noexcept override { return dropped_ || !changes_.empty(); }
  Changes takeItems() override {
    if (dropped_) changes_.push_back({FileChange::Kind::DROPPED, {}});
    dropped_ = false;
    return std::exchange(changes_, {});
  }
  void stop() noexcept override { handle_.close(); }
};

class UvFileWatch final : public FileWatch, public detail::Pooled {
public:
  UvFileWatch() : collector_(*new ChangeCollector) {}
  ~UvFileWatch() override { collector_.close(); }

  void watch(uv_loop_t* loop, const std::string& path, std::source_location where) {
    collector_.watch(loop, path, where);
  }
  Promise<Changes> nextChanges(std::source_location where) override { return collector_.next(where); }

private:
  ChangeCollector& collector_;
};

} // namespace

std::unique_ptr<FileWatch> newFileWatch(AsyncIo& io, const std::string& path, std::source_location where) {
  if (path.find('\0') != std::string::npos)
    throw uvException(UV_EINVAL, fmt::format("watch {:?}: a path has no NUL character", path), where);
  auto watch = std::make_unique<UvFileWatch>();
  watch->watch(io.uvEventPort().uvLoop(where), path, where);
  return watch;
}

} // namespace v0
} // namespace troth
