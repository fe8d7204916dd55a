// SPDX-License-Identifier: MIT
// Lines of an access log, in the formats that log analysers know.
#pragma once

#include <troth/net/http/server.h>

#include <chrono>
#include <cstdint>
#include <source_location>
#include <string>

namespace troth {
inline namespace v0 {
namespace http {

enum class AccessFormat : std::uint8_t {
  COMMON,  ///< host - - [time] "request line" status bytes
  COMBINED ///< the same, and the Referer and User-Agent fields
};

/// One line, without its end, for ServerSettings::accessLog:
///
///     settings.accessLog = [&](const http::AccessRecord& record) {
///       log << formatAccess(record, std::chrono::system_clock::now()) << '\n';
///     };
///
/// The time is in UTC. The host is the peer's IP address; "-" for others, and for connections that have gone. The bytes
/// are those of the content; "-" if there were none. A request line of what was no request is "-", and so is the status
/// if there was no response. Whatever clients may choose is in quotes, with control characters, quotes, backslashes and
/// bytes outside of ASCII as \xHH: no request makes a second line, or a field of its own.
///
/// Throws FAILED unless the year of `now` is 0 to 9999.
std::string formatAccess(const AccessRecord& record, std::chrono::system_clock::time_point now,
                         AccessFormat format = AccessFormat::COMMON,
                         std::source_location where = std::source_location::current());

} // namespace http
} // namespace v0
} // namespace troth
