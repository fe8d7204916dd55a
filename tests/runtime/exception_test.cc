// SPDX-License-Identifier: MIT
// Exception: kinds, text, sharing between copies and threads, capture of foreign exceptions.
#include "helpers.h"

#include <future>
#include <new>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

using namespace troth;
using namespace troth::test;

using Kind = Exception::Kind;

namespace {

std::string kindOfErrc(std::errc code) { return std::string(kindName(Exception::kindOf(std::make_error_code(code)))); }

template <typename Thrown>
Exception capture(const Thrown& thrown) {
  try {
    throw thrown;
  } catch (...) {
    return Exception::fromCurrent();
  }
}

} // namespace

TEST_CASE("an exception keeps kind, description, code and place") {
  const Exception e(Kind::DISCONNECTED, "the peer left", std::make_error_code(std::errc::broken_pipe));
  CHECK(kindName(e) == "DISCONNECTED");
  CHECK(e.description() == "the peer left");
  CHECK(e.code() == std::errc::broken_pipe);
  CHECK(fileOf(e) == "exception_test.cc");
  CHECK(e.where().line() > 20);
  CHECK(e.original() == nullptr);
}

TEST_CASE("what() has the description, the kind and the place") {
  const Exception e(Kind::OVERLOADED, "too much");
  const std::string text = e.what();
  CHECK(text.starts_with("too much [OVERLOADED, "));
  CHECK(contains(text, "exception_test.cc:" + std::to_string(e.where().line())));
  CHECK_FALSE(contains(text, "../"));
  const std::string foreign = capture(std::out_of_range("far")).what();
  CHECK(foreign == "far [FAILED]");
}

TEST_CASE("a description may be empty or long, and what() ends where it should") {
  const std::string longText(100'000, 'x');
  CHECK(Exception(Kind::FAILED, longText).description() == longText);
  CHECK(Exception(Kind::FAILED, "").description().empty());
  CHECK(std::string_view(Exception(Kind::FAILED, "").what()).starts_with(" [FAILED, "));
}

TEST_CASE("every kind has its name") {
  CHECK(kindName(Kind::FAILED) == "FAILED");
  CHECK(kindName(Kind::OVERLOADED) == "OVERLOADED");
  CHECK(kindName(Kind::DISCONNECTED) == "DISCONNECTED");
  CHECK(kindName(Kind::UNIMPLEMENTED) == "UNIMPLEMENTED");
}

static_assert(std::is_nothrow_copy_constructible_v<Exception>);
static_assert(std::is_nothrow_move_constructible_v<Exception>);
static_assert(sizeof(detail::ExceptionRef) == 8);
static_assert(sizeof(Exception) == 16);

TEST_CASE("copies share one body, which lives as long as any of them") {
  std::optional<Exception> first(std::in_place, Kind::FAILED, "shared");
  const Exception second = *first;
  const Exception third = second;
  CHECK(second.ref().get() == first->ref().get());
  CHECK(third.what() == first->what());
  first.reset();
  CHECK(second.description() == "shared");
  CHECK(third.description() == "shared");
}

TEST_CASE("copying allocates nothing") {
  const Exception e(Kind::FAILED, "x");
  const auto before = heapAllocations();
  for (int i = 0; i < 100; ++i) {
    const Exception copy = e;
    if (copy.ref().get() != e.ref().get()) FAIL("a copy has a body of its own");
  }
  CHECK(heapAllocations() == before);
}

TEST_CASE("copies may be made and destroyed on many threads at once") {
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  {
    const Exception e(Kind::DISCONNECTED, "everywhere", {});
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([e, &wrong] {
        std::optional<Exception> kept;
        for (int i = 0; i < 10'000; ++i) {
          Exception copy = e;
          if (i % 3 == 0) kept = copy;
          if (copy.description() != "everywhere" || copy.kind() != Kind::DISCONNECTED) ++wrong;
        }
      });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("withContext puts the context in front and keeps the rest but the original") {
  const Exception inner(Kind::DISCONNECTED, "reset", std::make_error_code(std::errc::connection_reset));
  const Exception outer = inner.withContext("reading").withContext("serving");
  CHECK(outer.description() == "serving: reading: reset");
  CHECK(kindName(outer) == "DISCONNECTED");
  CHECK(outer.code() == std::errc::connection_reset);
  CHECK(outer.where().line() == inner.where().line());
  CHECK(inner.description() == "reset");
  const Exception foreign = capture(std::out_of_range("far"));
  CHECK(foreign.original() != nullptr);
  CHECK(foreign.withContext("x").original() == nullptr);
  CHECK_THROWS_AS(foreign.withContext("x").rethrow(), Exception);
}

TEST_CASE("fromCurrent keeps a troth::Exception as it is") {
  const Exception e(Kind::UNIMPLEMENTED, "not here");
  const Exception captured = capture(e);
  CHECK(captured.ref().get() == e.ref().get());
  CHECK(captured.original() == nullptr);
}

TEST_CASE("fromCurrent captures foreign exceptions, which are thrown again as themselves") {
  struct Odd {
    int value;
  };
  CHECK(capture(std::out_of_range("far")).description() == "far");
  CHECK_THROWS_AS(capture(std::out_of_range("far")).rethrow(), std::out_of_range);
  CHECK(kindName(capture(std::bad_alloc())) == "OVERLOADED");
  CHECK_THROWS_AS(capture(std::bad_alloc()).rethrow(), std::bad_alloc);
  CHECK(kindName(capture(std::bad_array_new_length())) == "OVERLOADED");
  CHECK_THROWS_AS(capture(std::bad_array_new_length()).rethrow(), std::bad_array_new_length);
  CHECK(kindName(capture(42)) == "FAILED");
  CHECK_THROWS_AS(capture(42).rethrow(), int);
  CHECK(contains(capture(42).description(), "int"));
  CHECK(contains(capture("literal").description(), "char const*"));
  try {
    capture(Odd{7}).rethrow();
  } catch (const Odd& odd) {
    CHECK(odd.value == 7);
  }
}

TEST_CASE("fromCurrent gives a system_error the kind of its code, and derived errors too") {
  const Exception e = capture(std::system_error(std::make_error_code(std::errc::too_many_files_open), "opening"));
  CHECK(kindName(e) == "OVERLOADED");
  CHECK(e.code() == std::errc::too_many_files_open);
  CHECK(contains(e.description(), "opening"));
  CHECK_THROWS_AS(e.rethrow(), std::system_error);
  const Exception future = capture(std::future_error(std::future_errc::no_state));
  CHECK(kindName(future) == "FAILED");
  CHECK(future.code() == std::future_errc::no_state);
  CHECK_THROWS_AS(future.rethrow(), std::future_error);
  CHECK(capture(std::bad_alloc()).code() == std::errc::not_enough_memory);
  const Exception ios = capture(std::ios_base::failure("stream"));
  CHECK(kindName(ios) == "FAILED");
  CHECK(ios.code() == std::io_errc::stream);
}

TEST_CASE("from captures what an exception_ptr holds") {
  const auto pointer = std::make_exception_ptr(std::length_error("long"));
  const Exception e = Exception::from(pointer);
  CHECK(e.description() == "long");
  CHECK(e.original() == pointer);
  const Exception own(Kind::OVERLOADED, "own");
  CHECK(Exception::from(std::make_exception_ptr(own)).ref().get() == own.ref().get());
}

TEST_CASE("error codes have the kind that says what the caller may do") {
  for (const std::errc code : {std::errc::too_many_files_open, std::errc::too_many_files_open_in_system, std::errc::no_buffer_space,
                               std::errc::not_enough_memory, std::errc::no_space_on_device, std::errc::no_lock_available,
                               std::errc::resource_unavailable_try_again, std::errc::operation_would_block, std::errc::timed_out}) {
    CAPTURE(static_cast<int>(code));
    CHECK(kindOfErrc(code) == "OVERLOADED");
  }
  for (const std::errc code :
       {std::errc::connection_aborted, std::errc::connection_refused, std::errc::connection_reset, std::errc::host_unreachable,
        std::errc::network_down, std::errc::network_reset, std::errc::network_unreachable, std::errc::not_connected, std::errc::broken_pipe}) {
    CAPTURE(static_cast<int>(code));
    CHECK(kindOfErrc(code) == "DISCONNECTED");
  }
  for (const std::errc code : {std::errc::function_not_supported, std::errc::operation_not_supported, std::errc::not_supported,
                               std::errc::no_protocol_option, std::errc::protocol_not_supported, std::errc::address_family_not_supported}) {
    CAPTURE(static_cast<int>(code));
    CHECK(kindOfErrc(code) == "UNIMPLEMENTED");
  }
  for (const std::errc code : {std::errc::invalid_argument, std::errc::permission_denied, std::errc::address_in_use,
                               std::errc::no_such_file_or_directory, std::errc::bad_file_descriptor, std::errc::operation_canceled}) {
    CAPTURE(static_cast<int>(code));
    CHECK(kindOfErrc(code) == "FAILED");
  }
  CHECK(kindName(Exception::kindOf(std::error_code(ECONNRESET, std::system_category()))) == "DISCONNECTED");
  CHECK(kindName(Exception::kindOf(std::error_code(1, std::future_category()))) == "FAILED");
  CHECK(kindName(Exception::kindOf(std::error_code())) == "FAILED");
}

TEST_CASE("fatal reports on standard error and aborts") {
  const ChildEnd end = runInChild([] { detail::fatal("the sky fell"); });
  CHECK(end.aborted);
  CHECK(contains(end.errors, "troth: fatal: the sky fell ["));
  CHECK(contains(end.errors, "exception_test.cc:"));
}
