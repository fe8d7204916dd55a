// SPDX-License-Identifier: MIT
// Directory: names beneath it, by jobs in libuv's thread pool (see uv_file_job_detail.h).
#include <troth/io/file.h>

#include <troth/io/async_io.h>
#include <troth/io/beneath_detail.h>
#include <troth/io/blocking_detail.h>
#include <troth/io/directory_list_detail.h>
#include <troth/io/replace_file_detail.h>
#include <troth/io/uv_file_job_detail.h>
#include <troth/runtime/quote_detail.h>
#include <troth/runtime/uv/uv_event_port.h>

#include <fmt/format.h>

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

namespace troth {
inline namespace v0 {

using detail::openBeneath;
using detail::Opened;
using detail::statusOf;

namespace {

// ------------------------------------------------------------------------------------------------ in the pool

int flagsOf(FileMode mode) noexcept {
  switch (mode) {
  case FileMode::READ:
    return O_RDONLY;
  case FileMode::MODIFY:
    return O_RDWR;
  case FileMode::CREATE:
    return O_RDWR | O_CREAT;
  case FileMode::CREATE_NEW:
    return O_RDWR | O_CREAT | O_EXCL;
  case FileMode::REPLACE:
    return O_RDWR | O_CREAT | O_TRUNC;
  case FileMode::APPEND:
    return O_WRONLY | O_CREAT | O_APPEND;
  }
  detail::fatal("a FileMode that is none");
}

int openRegular(int directory, const Path& path, int flags, unsigned permissions, Symlinks symlinks,
                OwnedDescriptor& result) {
  OwnedDescriptor opened;
  // Without O_NONBLOCK a FIFO would block the thread until somebody opens its other end.
  if (const int status = openBeneath(directory, path, flags | O_NONBLOCK | O_NOCTTY, permissions, symlinks, opened);
      status < 0)
    return status;
  FileInfo info{};
  if (const int status = detail::getInfo(opened.get(), info); status < 0) return status;
  if (info.type == FileType::DIRECTORY) return UV_EISDIR;
  if (info.type != FileType::REGULAR) return UV_ESPIPE;
  result = std::move(opened);
  return 0;
}

/// Calls `call(parent, name)`, which gives a status, for the directory and the name of an entry.
template <typename Call>
int atParent(const Opened& at, const Path& path, Symlinks symlinks, Call&& call) {
  OwnedDescriptor parent;
  const int status = openBeneath(at.fd(), path.parent(), detail::PLACE_OF_DIRECTORY, 0, symlinks, parent);
  return status < 0 ? status : call(parent.get(), std::string(path.basename()).c_str());
}

// ------------------------------------------------------------------------------------------------ what is refused

void requireEntry(std::string_view operation, const Path& path, std::source_location where) {
  if (path.isSelf())
    detail::throwMisuse(fmt::format("{}: the path is \".\", but must name something in the directory", operation),
                        where);
}

void requirePermissions(std::string_view function, unsigned permissions, std::source_location where) {
  if (permissions > 07777)
    detail::throwMisuse(fmt::format("{}: the permissions are 0{:o}, but must be at most 07777", function, permissions),
                        where);
}

// The system would take what is before it.
void requireNoNul(std::string_view function, std::string_view text, std::source_location where) {
  if (text.find('\0') != std::string_view::npos)
    detail::throwMisuse(fmt::format("{}: {} has a NUL byte", function, detail::quote(text)), where);
}

} // namespace

// ------------------------------------------------------------------------------------------------ opening

struct Directory::Parts : detail::Operations {
  Parts(detail::OpenedPtr opened, Symlinks s) noexcept : Operations(std::move(opened), "directory"), symlinks(s) {}

  Symlinks symlinks;

  /// Operations::run() for work(parent, name) on an entry.
  template <typename Work>
  Promise<void> runAtParent(std::string operation, Path path, std::source_location where, Work work) {
    requireEntry(operation, path, where);
    return run<void>(std::move(operation), std::move(path), where,
                     [symlinks = symlinks, work = std::move(work)](const Opened& at, const Path& entry) {
                       return atParent(at, entry, symlinks, work);
                     });
  }
};

Directory::Directory(std::unique_ptr<Parts> parts) noexcept : parts_(std::move(parts)) {}
Directory::~Directory() = default;

Promise<std::unique_ptr<File>> Directory::openFile(Path path, FileMode mode, unsigned permissions,
                                                   std::source_location where) {
  requirePermissions("Directory::openFile", permissions, where);
  auto work = [flags = flagsOf(mode), permissions, symlinks = parts_->symlinks](const Opened& at, const Path& file,
                                                                                OwnedDescriptor& result) {
    return openRegular(at.fd(), file, flags, permissions, symlinks, result);
  };
  uv_loop_t* loop = parts_->opened()->loop;
  std::string name = parts_->opened()->nameOf(path);
  return parts_->run<OwnedDescriptor>("open", std::move(path), where, work)
      .then([loop, appends = mode == FileMode::APPEND, name = std::move(name)](OwnedDescriptor descriptor) {
        auto opened = std::make_shared<Opened>(loop, std::move(descriptor), name, appends);
        return std::unique_ptr<File>(new File(std::make_unique<File::Parts>(std::move(opened))));
      });
}

Promise<std::unique_ptr<File>> Directory::tryOpenFile(Path path, FileMode mode, std::source_location where) {
  return openFile(std::move(path), mode, 0666, where).catch_([](const Exception& e) -> std::unique_ptr<File> {
    if (e.code() == std::errc::no_such_file_or_directory) return nullptr;
    e.rethrow();
  });
}

Promise<std::unique_ptr<File>> Directory::temporaryFile(std::source_location where) {
  auto work = [](const Opened& at, const Path&, OwnedDescriptor& result) {
    return detail::makeNameless(at.fd(), result);
  };
  uv_loop_t* loop = parts_->opened()->loop;
  return parts_->run<OwnedDescriptor>("make a temporary file in", {}, where, work)
      .then([loop, name = parts_->opened()->name](OwnedDescriptor descriptor) {
        auto opened =
            std::make_shared<Opened>(loop, std::move(descriptor), fmt::format("a temporary file in {}", name));
        return std::unique_ptr<File>(new File(std::make_unique<File::Parts>(std::move(opened))));
      });
}

Promise<std::unique_ptr<Directory>> Directory::openSubdir(Path path, std::source_location where) {
  const Symlinks symlinks = parts_->symlinks;
  auto work = [symlinks](const Opened& at, const Path& subdir, OwnedDescriptor& result) {
    return openBeneath(at.fd(), subdir, detail::PLACE_OF_DIRECTORY, 0, symlinks, result);
  };
  uv_loop_t* loop = parts_->opened()->loop;
  std::string name = parts_->opened()->nameOf(path);
  return parts_->run<OwnedDescriptor>("open", std::move(path), where, work)
      .then([loop, symlinks, name = std::move(name)](OwnedDescriptor descriptor) {
        auto opened = std::make_shared<Opened>(loop, std::move(descriptor), name);
        return std::unique_ptr<Directory>(new Directory(std::make_unique<Parts>(std::move(opened), symlinks)));
      });
}

Promise<std::unique_ptr<Directory>> openDirectory(AsyncIo& io, std::string path, Symlinks symlinks,
                                                  std::source_location where) {
  requireNoNul("openDirectory", path, where);
  auto opened = std::make_shared<Opened>(io.uvEventPort().uvLoop(), OwnedDescriptor(), std::move(path));
  auto work = [](const Opened& at, const Path&, OwnedDescriptor& result) {
    result = OwnedDescriptor(::open(at.name.c_str(), detail::PLACE_OF_DIRECTORY | O_CLOEXEC));
    return statusOf(result.get());
  };
  return detail::inPool<OwnedDescriptor>("open", opened, {}, where, work)
      .then([opened, symlinks](OwnedDescriptor descriptor) {
        opened->descriptor = std::move(descriptor);
        return std::unique_ptr<Directory>(new Directory(std::make_unique<Directory::Parts>(opened, symlinks)));
      });
}

// ------------------------------------------------------------------------------------------------ looking

Promise<std::vector<DirectoryEntry>> Directory::list(Path path, std::source_location where) {
  return parts_->add(detail::list(parts_->opened(), std::move(path), parts_->symlinks, SIZE_MAX, where), where);
}

Promise<std::vector<WalkEntry>> Directory::walk(Path path, std::size_t limit, std::source_location where) {
  return parts_->add(detail::walk(parts_->opened(), std::move(path), parts_->symlinks, limit, where), where);
}

Promise<FileInfo> Directory::stat(Path path, std::source_location where) {
  return parts_->run<FileInfo>("stat", std::move(path), where,
                               [symlinks = parts_->symlinks](const Opened& at, const Path& entry, FileInfo& info) {
                                 OwnedDescriptor place;
                                 const int status = openBeneath(at.fd(), entry, detail::PLACE, 0, symlinks, place);
                                 return status < 0 ? status : detail::getInfo(place.get(), info);
                               });
}

Promise<std::string> Directory::readLink(Path path, std::source_location where) {
  requireEntry("read the link", path, where);
  return parts_->run<std::string>(
      "read the link", std::move(path), where,
      [symlinks = parts_->symlinks](const Opened& at, const Path& entry, std::string& result) {
        return atParent(at, entry, symlinks, [&](int parent, const char* name) {
          result.resize(Path::MAX_SIZE);
          const ssize_t size = ::readlinkat(parent, name, result.data(), result.size());
          if (size < 0) return detail::lastError();
          result.resize(static_cast<std::size_t>(size));
          return 0;
        });
      });
}

// ------------------------------------------------------------------------------------------------ changing

Promise<void> Directory::replaceFile(Path path, std::span<const std::byte> contents, std::source_location where) {
  return parts_->runAtParent("replace", std::move(path), where,
                             [copy = std::vector(contents.begin(), contents.end())](int parent, const char* name) {
                               return detail::replaceFile(parent, name, copy);
                             });
}

Promise<void> Directory::makeDirectory(Path path, unsigned permissions, std::source_location where) {
  requirePermissions("Directory::makeDirectory", permissions, where);
  return parts_->runAtParent("make the directory", std::move(path), where, [permissions](int parent, const char* name) {
    return statusOf(::mkdirat(parent, name, permissions));
  });
}

Promise<void> Directory::rename(Path from, Path to, std::source_location where) {
  requireEntry("rename", to, where);
  const detail::OpenedPtr& opened = parts_->opened();
  std::string operation = fmt::format("rename to {} from", detail::quote(opened->nameOf(to)));
  return parts_->runAtParent(
      std::move(operation), std::move(from), where,
      [opened, symlinks = parts_->symlinks, to = std::move(to)](int fromParent, const char* fromName) {
        return atParent(*opened, to, symlinks, [&](int toParent, const char* toName) {
          return statusOf(::renameat(fromParent, fromName, toParent, toName));
        });
      });
}

Promise<void> Directory::unlink(Path path, std::source_location where) {
  return parts_->runAtParent("unlink", std::move(path), where,
                             [](int parent, const char* name) { return statusOf(::unlinkat(parent, name, 0)); });
}

Promise<void> Directory::removeDirectory(Path path, std::source_location where) {
  return parts_->runAtParent("remove the directory", std::move(path), where, [](int parent, const char* name) {
    return statusOf(::unlinkat(parent, name, AT_REMOVEDIR));
  });
}

Promise<void> Directory::symlink(std::string target, Path path, std::source_location where) {
  requireNoNul("Directory::symlink", target, where);
  return parts_->runAtParent("make the link", std::move(path), where,
                             [target = std::move(target)](int parent, const char* name) {
                               return statusOf(::symlinkat(target.c_str(), parent, name));
                             });
}

} // namespace v0
} // namespace troth
