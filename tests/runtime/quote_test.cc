// SPDX-License-Identifier: MIT
// Tests of how text from outside is shown.
#include <troth/runtime/quote_detail.h>

#include <doctest/doctest.h>

#include <string>

using namespace troth;
using namespace std::literals;

TEST_CASE("quoted text shows what is unprintable, and not more than a hundred bytes") {
  CHECK(detail::quote("") == "\"\"");
  CHECK(detail::quote("plain") == "\"plain\"");
  CHECK(detail::quote("a\"b\\c") == R"("a\"b\\c")");
  CHECK(detail::quote("\n\x7f\xff"sv) == R"("\x0a\x7f\xff")");
  CHECK(detail::quote("\0"sv) == R"("\x00")");
  CHECK(detail::quote(std::string(100, 'a')) == "\"" + std::string(100, 'a') + "\"");
  CHECK(detail::quote(std::string(101, 'a')) == "\"" + std::string(100, 'a') + "…\"");
}
