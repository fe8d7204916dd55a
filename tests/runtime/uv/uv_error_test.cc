// SPDX-License-Identifier: MIT
// libuv's status codes as error codes and exceptions.
#include "../helpers.h"

#include <troth/runtime/uv/uv_error.h>

#include <uv.h>

#include <cerrno>
#include <iterator>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

using namespace troth;
using namespace troth::test;

namespace {

/// The conditions of the standard library that mean the same as a code of libuv.
struct Row {
  std::string_view name;
  std::errc condition;
};
constexpr Row ROWS[] = {
    {"E2BIG", std::errc::argument_list_too_long},
    {"EACCES", std::errc::permission_denied},
    {"EADDRINUSE", std::errc::address_in_use},
    {"EADDRNOTAVAIL", std::errc::address_not_available},
    {"EAFNOSUPPORT", std::errc::address_family_not_supported},
    {"EAGAIN", std::errc::resource_unavailable_try_again},
    {"EAI_CANCELED", std::errc::operation_canceled},
    {"EAI_MEMORY", std::errc::not_enough_memory},
    {"EALREADY", std::errc::connection_already_in_progress},
    {"EBADF", std::errc::bad_file_descriptor},
    {"EBUSY", std::errc::device_or_resource_busy},
    {"ECANCELED", std::errc::operation_canceled},
    {"ECONNABORTED", std::errc::connection_aborted},
    {"ECONNREFUSED", std::errc::connection_refused},
    {"ECONNRESET", std::errc::connection_reset},
    {"EDESTADDRREQ", std::errc::destination_address_required},
    {"EEXIST", std::errc::file_exists},
    {"EFAULT", std::errc::bad_address},
    {"EFBIG", std::errc::file_too_large},
    {"EHOSTUNREACH", std::errc::host_unreachable},
    {"EILSEQ", std::errc::illegal_byte_sequence},
    {"EINTR", std::errc::interrupted},
    {"EINVAL", std::errc::invalid_argument},
    {"EIO", std::errc::io_error},
    {"EISCONN", std::errc::already_connected},
    {"EISDIR", std::errc::is_a_directory},
    {"ELOOP", std::errc::too_many_symbolic_link_levels},
    {"EMFILE", std::errc::too_many_files_open},
    {"EMLINK", std::errc::too_many_links},
    {"EMSGSIZE", std::errc::message_size},
    {"ENAMETOOLONG", std::errc::filename_too_long},
    {"ENETDOWN", std::errc::network_down},
    {"ENETUNREACH", std::errc::network_unreachable},
    {"ENFILE", std::errc::too_many_files_open_in_system},
    {"ENOBUFS", std::errc::no_buffer_space},
    {"ENODEV", std::errc::no_such_device},
    {"ENOENT", std::errc::no_such_file_or_directory},
    {"ENOMEM", std::errc::not_enough_memory},
    {"ENOPROTOOPT", std::errc::no_protocol_option},
    {"ENOSPC", std::errc::no_space_on_device},
    {"ENOSYS", std::errc::function_not_supported},
    {"ENOTCONN", std::errc::not_connected},
    {"ENOTDIR", std::errc::not_a_directory},
    {"ENOTEMPTY", std::errc::directory_not_empty},
    {"ENOTSOCK", std::errc::not_a_socket},
    {"ENOTSUP", std::errc::not_supported},
    {"ENOTTY", std::errc::inappropriate_io_control_operation},
    {"ENXIO", std::errc::no_such_device_or_address},
    {"EOVERFLOW", std::errc::value_too_large},
    {"EPERM", std::errc::operation_not_permitted},
    {"EPIPE", std::errc::broken_pipe},
    {"EPROTO", std::errc::protocol_error},
    {"EPROTONOSUPPORT", std::errc::protocol_not_supported},
    {"EPROTOTYPE", std::errc::wrong_protocol_type},
    {"ERANGE", std::errc::result_out_of_range},
    {"EROFS", std::errc::read_only_file_system},
    {"ESPIPE", std::errc::invalid_seek},
    {"ESRCH", std::errc::no_such_process},
    {"ETIMEDOUT", std::errc::timed_out},
    {"ETXTBSY", std::errc::text_file_busy},
    {"EXDEV", std::errc::cross_device_link},
};

std::optional<std::errc> conditionOf(std::string_view name) {
  for (const Row& row : ROWS)
    if (row.name == name) return row.condition;
  return std::nullopt;
}

} // namespace

TEST_CASE("every code of libuv compares equal to the condition that means the same, and to no other") {
#define TROTH_CODE(name, _) {#name, UV_##name},
  static constexpr std::pair<std::string_view, int> CODES[] = {UV_ERRNO_MAP(TROTH_CODE)};
#undef TROTH_CODE
  std::size_t found = 0;
  for (const auto& [name, status] : CODES) {
    CAPTURE(std::string(name));
    const std::error_code code = uvErrorCode(status);
    const std::optional<std::errc> condition = conditionOf(name);
    if (condition) ++found;
    for (const Row& row : ROWS) {
      CAPTURE(std::string(row.name));
      CHECK((code == row.condition) == (condition == row.condition));
    }
  }
  CHECK(found == std::size(ROWS));
}

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
  for (const int status :
       {UV_EMFILE, UV_ENFILE, UV_ENOBUFS, UV_ENOMEM, UV_ENOSPC, UV_EAGAIN, UV_ETIMEDOUT, UV_EAI_AGAIN, UV_EAI_MEMORY}) {
    CAPTURE(std::string(uv_err_name(status)));
    CHECK(kind(status) == "OVERLOADED");
  }
  for (const int status : {UV_EOF, UV_ECONNRESET, UV_ECONNREFUSED, UV_ECONNABORTED, UV_EPIPE, UV_ENOTCONN,
                           UV_EHOSTUNREACH, UV_EHOSTDOWN, UV_ENETDOWN, UV_ENETUNREACH}) {
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

TEST_CASE("a code of the system's that libuv has no name for has the system's message") {
  const std::string message = std::generic_category().message(ESTALE);
  CHECK(uvErrorCode(-ESTALE).message() == message);
  const Exception e = uvException(-ESTALE, "reading");
  CHECK(e.description() == "reading: " + message + " (errno " + std::to_string(ESTALE) + ")");
  CHECK(e.code() == std::error_condition(ESTALE, std::generic_category()));
}

TEST_CASE("uvCheck throws exactly for negative codes") {
  CHECK_NOTHROW(uvCheck(0, "test"));
  CHECK_NOTHROW(uvCheck(5, "test"));
  const Exception e = thrownBy([] { uvCheck(UV_EINVAL, "test"); });
  CHECK(e.code() == std::errc::invalid_argument);
  CHECK(fileOf(e) == "uv_error_test.cc");
}
