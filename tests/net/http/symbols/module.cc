// SPDX-License-Identifier: MIT
// A plug-in that parses HTTP by troth, in a host that has an llhttp of its own.
#include <troth/net/http/message_parser_detail.h>

using namespace troth::http::detail;

/// Whether a request is understood.
extern "C" __attribute__((visibility("default"))) int parseRequest() {
  MessageParser parser(MessageParser::Kind::REQUEST, {});
  return parser.parseHead("GET /path HTTP/1.1\r\nHost: a\r\n\r\n") == MessageParser::Outcome::COMPLETE &&
         parser.target() == "/path";
}
