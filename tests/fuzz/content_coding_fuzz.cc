// SPDX-License-Identifier: MIT
// A fuzz target (libFuzzer): the first byte chooses a content coding. The rest is decoded, within limits, and coded and
// decoded again to the same.
#include <troth/io/stream.h>
#include <troth/net/http/content_coding.h>
#include <troth/net/http/http_error.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

using namespace troth;
using namespace troth::http;

namespace {

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "content_coding_fuzz: %s\n", what);
  std::abort();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto coding = static_cast<ContentCoding>(data[0] % 4);
  if (!isSupported(coding)) return 0;
  const auto bytes = std::as_bytes(std::span(data, size)).subspan(1);
  constexpr std::uint64_t MOST = 100'000;
  try {
    require(decode(coding, bytes, {.maxBytes = MOST}).size() <= MOST, "more came out than is allowed");
  } catch (const HttpError& e) {
    require(e.status() == 400 || e.status() == 413, "the wrong status");
  }
  if (data[0] < 16) require(std::ranges::equal(decode(coding, encode(coding, bytes, 1)), bytes), "coded and decoded it differs");
  return 0;
}
