// SPDX-License-Identifier: MIT
// Statuses that travel as exceptions.
#include <fixtures.h>

#include <troth/net/http/http_error.h>
#include <troth/net/http/status.h>

using namespace troth;
using namespace troth::http;
using namespace troth::test;

namespace {

Promise<void> refuse() {
  throw HttpError(413, "too much");
  co_return;
}

Promise<void> passOn() { co_await refuse(); }

TEST_CASE("no reason is longer than what the server has room for") {
  for (int status = 100; status < 600; ++status)
    CHECK(reasonPhrase(status).size() <= std::string_view("Network Authentication Required").size());
}

TEST_CASE_FIXTURE(LoopTest, "an HttpError comes through promises with its type, its status and its text") {
  try {
    passOn().wait(scope);
    FAIL("it was not thrown");
  } catch (const HttpError& e) {
    CHECK(e.status() == 413);
    CHECK(e.description() == "too much");
    CHECK(std::string(e.what()) == "too much: 413 Content Too Large");
    CHECK(contains(e.where().file_name(), "http_error_test.cc"));
  }
  std::optional<int> seen, inContext;
  passOn()
      .catch_([&](const Exception& e) {
        seen = HttpError::statusOf(e);
        inContext = HttpError::statusOf(e.withContext("upload"));
        CHECK(e.kind() == Exception::Kind::FAILED);
      })
      .wait(scope);
  CHECK(seen == 413);
  CHECK(inContext == 413);
  CHECK(HttpError::statusOf(Exception(Exception::Kind::FAILED, "other")) == std::nullopt);
  for (const int status : {0, 200, 399, 600, 1'000'000}) // which somebody else has made: no response begins so
    CHECK(HttpError::statusOf(Exception(Exception::Kind::FAILED, "", {status, httpStatusCategory()})) == std::nullopt);
}

TEST_CASE("the kind of an HttpError says whether to try again, and what is no error's status is refused") {
  const auto kindOf = [](int status) { return Exception::kindOf(HttpError(status, "x").code()); };
  CHECK(kindOf(400) == Exception::Kind::FAILED);
  CHECK(kindOf(501) == Exception::Kind::UNIMPLEMENTED);
  CHECK(kindOf(503) == Exception::Kind::OVERLOADED);
  CHECK(std::string(HttpError(599, "x").what()) == "x: 599");
  for (int status : {0, 200, 399, 600, -404})
    CHECK(contains(thrownBy([&] { throw HttpError(status, "x"); }).description(), "is no status of an error"));
}

} // namespace
