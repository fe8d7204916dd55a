// SPDX-License-Identifier: MIT
// A fuzz target (libFuzzer): texts as addresses, ranges and rules. What is parsed is printed and parsed again, to the
// same; what is refused is an Exception of a certain kind; and nothing else happens.
#include <troth/net/address_detail.h>
#include <troth/net/peer_filter_detail.h>
#include <troth/runtime/exception.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

using namespace troth;
using detail::ParsedAddress;

namespace {

constexpr std::uint16_t DEFAULT_PORT = 4242;

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "address_fuzz: %s\n", what);
  std::abort();
}

/// What `parse` makes of the text, or nothing if it refuses it, as it should, with a text for people.
template <typename Parse>
auto parsed(Parse&& parse) -> std::optional<decltype(parse())> {
  try {
    return parse();
  } catch (const Exception& e) {
    require(e.kind() == Exception::Kind::FAILED && e.code() == std::errc::invalid_argument, e.what());
    for (const char c : e.description()) require(c >= ' ' || c < 0, "a control character in the text of an error");
    return std::nullopt;
  }
}

std::optional<ParsedAddress> parseAddress(std::string_view text) {
  return parsed([&] { return detail::parseAddressText(text, DEFAULT_PORT, std::source_location::current()); });
}

std::string print(const ParsedAddress& address) {
  if (address.socket) return address.socket->toString();
  return detail::formatAddress(address.kind == ParsedAddress::Kind::ANY ? "*" : address.name, address.port);
}

void tryAddress(std::string_view text) {
  const std::optional<ParsedAddress> first = parseAddress(text);
  const auto numeric = parsed([&] { return SocketAddress::parse(text, DEFAULT_PORT); });
  require(numeric.has_value() == (first && first->kind == ParsedAddress::Kind::SOCKET), "the two parsers differ");
  if (!first) return;
  require(!numeric || *numeric == *first->socket, "the two parsers find different addresses");
  const std::optional<ParsedAddress> second = parseAddress(print(*first));
  require(second.has_value(), "what was printed is no address");
  require(second->kind == first->kind && second->port == first->port && second->name == first->name &&
              second->socket == first->socket,
          "what was printed is another address");
  if (!first->socket) return;
  const SocketAddress& address = *first->socket;
  require(SocketAddress::from(*address.get(), address.size()) == address, "the system would see another address");
}

void tryRange(std::string_view text) {
  const auto range = parsed([&] { return CidrRange::parse(text); });
  if (!range) return;
  require(CidrRange::parse(range->toString()) == *range, "what was printed is another range");
  const std::string first = range->toString();
  const SocketAddress address = SocketAddress::parse(first.substr(0, first.find('/')));
  require(range->matches(address), "the first address of a range is not in it");
}

/// One item is a rule; an address of the text's other half is judged by it.
void tryFilter(std::string_view text) {
  const std::size_t blank = text.find(' ');
  if (blank == std::string_view::npos) return;
  const std::string item(text.substr(0, blank));
  const auto allow = parsed([&] { return detail::PeerFilter({&item, 1}, {}); });
  if (!allow) return;
  const std::optional<ParsedAddress> peer = parseAddress(text.substr(blank + 1));
  if (!peer || !peer->socket) return;
  const detail::PeerFilter deny({&item, 1}, {&item, 1});
  require(!deny.allows(*peer->socket), "what denies does not win a tie");
  if (allow->allows(*peer->socket)) require(allow->allowsListening(*peer->socket), "nobody may listen for a peer");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  tryAddress(text);
  tryRange(text);
  tryFilter(text);
  return 0;
}
