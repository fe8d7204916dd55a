// SPDX-License-Identifier: MIT
// libuv's status codes as error codes and exceptions.
#include "../helpers.h"

#include <troth/runtime/uv/uv_error.h>

#include <uv.h>

using namespace troth;
using namespace troth::test;

TEST_CASE("libuv's codes compare equal to the conditions that they stand for") {
  CHECK(uvErrorCode(UV_ECONNRESET) == std::errc::connection_reset);
  CHECK(uvErrorCode(UV_EADDRINUSE) == std::errc::address_in_use);
  CHECK(uvErrorCode(UV_EPIPE) == std::errc::broken_pipe);
  CHECK(uvErrorCode(UV_ECANCELED) == std::errc::operation_canceled);
  CHECK(uvErrorCode(UV_ECONNRESET) != std::errc::broken_pipe);
  CHECK(uvErrorCode(UV_EOF) != std::errc::broken_pipe);
  CHECK(std::string_view(uvErrorCode(UV_EOF).category().name()) == "libuv");
  CHECK(uvErrorCode(UV_EOF).message() == "end of file");
}

TEST_CASE("libuv's codes have the kind that says what the caller may do") {
  const auto kind = [](int status) { return kindName(uvException(status, "test")); };
  for (const int status : {UV_EMFILE, UV_ENFILE, UV_ENOBUFS, UV_ENOMEM, UV_ENOSPC, UV_EAGAIN, UV_ETIMEDOUT, UV_EAI_AGAIN, UV_EAI_MEMORY}) {
    CAPTURE(std::string(uv_err_name(status)));
    CHECK(kind(status) == "OVERLOADED");
  }
  for (const int status : {UV_EOF, UV_ECONNRESET, UV_ECONNREFUSED, UV_ECONNABORTED, UV_EPIPE, UV_ENOTCONN, UV_EHOSTUNREACH, UV_EHOSTDOWN,
                           UV_ENETDOWN, UV_ENETUNREACH}) {
    CAPTURE(std::string(uv_err_name(status)));
    CHECK(kind(status) == "DISCONNECTED");
  }
  for (const int status : {UV_ENOSYS, UV_ENOTSUP, UV_ENOPROTOOPT, UV_EPROTONOSUPPORT, UV_EAFNOSUPPORT}) {
    CAPTURE(std::string(uv_err_name(status)));
    CHECK(kind(status) == "UNIMPLEMENTED");
  }
  for (const int status : {UV_EINVAL, UV_EADDRINUSE, UV_EACCES, UV_ECANCELED, UV_EAI_NONAME, UV_ENOENT}) {
    CAPTURE(std::string(uv_err_name(status)));
    CHECK(kind(status) == "FAILED");
  }
}

TEST_CASE("uvException names the operation, libuv's message and the code") {
  const Exception e = uvException(UV_ECONNREFUSED, "connecting to there");
  CHECK(e.description() == "connecting to there: connection refused (ECONNREFUSED)");
  CHECK(e.code() == uvErrorCode(UV_ECONNREFUSED));
  CHECK(fileOf(e) == "uv_error_test.cc");
}

TEST_CASE("uvCheck throws exactly for negative codes") {
  CHECK_NOTHROW(uvCheck(0, "test"));
  CHECK_NOTHROW(uvCheck(5, "test"));
  const Exception e = thrownBy([] { uvCheck(UV_EINVAL, "test"); });
  CHECK(e.code() == std::errc::invalid_argument);
  CHECK(fileOf(e) == "uv_error_test.cc");
}
