// SPDX-License-Identifier: MIT
// The common and the combined log format, as servers have written them since NCSA's httpd.
#include <troth/net/http/access_log.h>

#include <troth/net/http/date.h>
#include <troth/net/peer_identity.h>

#include <fmt/format.h>

#include <array>

namespace troth {
inline namespace v0 {
namespace http {

namespace {

void appendEscaped(std::string& to, std::string_view text) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte > 0x7e || c == '"' || c == '\\')
      to += fmt::format("\\x{:02X}", byte);
    else
      to += c;
  }
}

void appendQuoted(std::string& to, std::string_view text) {
  to += " \"";
  appendEscaped(to, text.empty() ? std::string_view("-") : text);
  to += '"';
}

std::string hostOf(const AsyncIoStream* connection) {
  if (connection == nullptr) return "-";
  const std::unique_ptr<PeerIdentity> identity = identifyPeer(*connection);
  const auto* peer = dynamic_cast<const NetworkPeerIdentity*>(identity.get());
  if (peer == nullptr) return "-";
  std::string text = peer->toString();
  text.resize(text.rfind(':')); // the port
  return text.starts_with('[') ? text.substr(1, text.size() - 2) : text;
}

// "Sun, 06 Nov 1994 08:49:37 GMT" as "06/Nov/1994:08:49:37 +0000".
std::string logTime(std::chrono::system_clock::time_point now, const std::source_location& where) {
  std::array<char, HTTP_DATE_SIZE> buffer;
  formatHttpDate(std::chrono::floor<std::chrono::seconds>(now), buffer, where);
  const std::string_view date(buffer.data(), buffer.size());
  return fmt::format("{}/{}/{}:{} +0000", date.substr(5, 2), date.substr(8, 3), date.substr(12, 4), date.substr(17, 8));
}

std::string requestLine(const Request& request) {
  return fmt::format("{} {} HTTP/1.{}", request.methodText(), request.target(), request.minorVersion());
}

} // namespace

std::string formatAccess(const AccessRecord& record, std::chrono::system_clock::time_point now, AccessFormat format,
                         std::source_location where) {
  std::string line = fmt::format("{} - - [{}]", hostOf(record.connection), logTime(now, where));
  appendQuoted(line, record.request == nullptr ? std::string() : requestLine(*record.request));
  line += record.status == 0 ? " -" : fmt::format(" {}", record.status);
  line += record.sent == 0 ? " -" : fmt::format(" {}", record.sent);
  if (format == AccessFormat::COMBINED) {
    const HeaderFields headers = record.request == nullptr ? HeaderFields() : record.request->headers();
    appendQuoted(line, headers.valueOr(HeaderId::REFERER, ""));
    appendQuoted(line, headers.valueOr(HeaderId::USER_AGENT, ""));
  }
  return line;
}

} // namespace http
} // namespace v0
} // namespace troth
