// SPDX-License-Identifier: MIT
// The protocol of sd_listen_fds(3): three environment variables, and descriptors from 3 on.
#include <troth/net/inherited_sockets.h>

#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>

#include <fmt/format.h>

#include <charconv>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

namespace troth {
inline namespace v0 {
namespace {

constexpr int FIRST = 3; // SD_LISTEN_FDS_START
constexpr int MOST_SOCKETS = 4096;

constexpr const char* PID = "LISTEN_PID";
constexpr const char* COUNT = "LISTEN_FDS";
constexpr const char* NAMES = "LISTEN_FDNAMES";

std::optional<std::string> variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

[[noreturn]] void refuse(std::string_view name, std::string_view value, std::string_view why,
                         std::source_location where) {
  throw Exception(Exception::Kind::FAILED,
                  fmt::format("takeInheritedSockets: {}={}: {}", name, detail::quote(value), why), {}, where);
}

int toNumber(const char* name, std::string_view text, int most, std::source_location where) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 0) refuse(name, text, "is no number", where);
  if (number > most) refuse(name, text, fmt::format("is more than {}", most), where);
  return number;
}

/// The part before the next ':', which is cut off.
std::string nextName(std::string_view& names) {
  const std::size_t end = names.find(':');
  std::string name(names.substr(0, end));
  names = end == std::string_view::npos ? std::string_view() : names.substr(end + 1);
  return name.empty() ? "unknown" : name;
}

} // namespace

std::vector<InheritedSocket> takeInheritedSockets(std::source_location where) {
  const std::optional<std::string> pid = variable(PID);
  const std::optional<std::string> count = variable(COUNT);
  const std::string names = variable(NAMES).value_or("");
  for (const char* name : {PID, COUNT, NAMES}) ::unsetenv(name);
  if (!pid || !count) return {};
  if (toNumber(PID, *pid, std::numeric_limits<int>::max(), where) != ::getpid()) return {}; // another process's
  const int sockets = toNumber(COUNT, *count, MOST_SOCKETS, where);

  for (int descriptor = FIRST; descriptor < FIRST + sockets; ++descriptor)
    if (::fcntl(descriptor, F_SETFD, FD_CLOEXEC) != 0)
      refuse(COUNT, *count, fmt::format("descriptor {} is not open", descriptor), where);

  std::vector<InheritedSocket> taken;
  taken.reserve(static_cast<std::size_t>(sockets));
  std::string_view rest = names;
  for (int descriptor = FIRST; descriptor < FIRST + sockets; ++descriptor) {
    std::string name = nextName(rest);
    taken.push_back({OwnedDescriptor(descriptor), std::move(name)});
  }
  return taken;
}

} // namespace v0
} // namespace troth
