// SPDX-License-Identifier: MIT
// The checks: when they throw, what is evaluated, what the message shows; system calls and codes of the system.
#include "helpers.h"

#include <troth/runtime/require.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <vector>

using namespace troth;
using namespace troth::test;

using Kind = Exception::Kind;

namespace shapes {

enum class Colour { RED = 1, GREEN = 2 };
enum class Level : unsigned char { HIGH = 200 };

std::string toString(Colour colour) { return colour == Colour::RED ? "red" : "green"; }

struct Point {
  int x, y;
  bool operator==(const Point&) const = default;
  std::string toString() const { return "(" + std::to_string(x) + ", " + std::to_string(y) + ")"; }
};

struct Named {
  std::string_view name;
};
std::string_view toString(const Named& named) { return named.name; }

struct Opaque {
  int value;
  bool operator==(const Opaque&) const = default;
};

struct Talks {
  std::string toString() const { throw std::runtime_error("no words"); }
};

} // namespace shapes

namespace {

struct Bits {
  unsigned low : 3;
  unsigned high : 5;
};

struct Limits {
  static const int MAX = 10; // declared, never defined: a reference to it would not link
};

/// What a value looks like in a message.
template <typename T>
std::string shown(const T& value) {
  const Exception e = thrownBy([&] { TROTH_FAIL(value); });
  REQUIRE(e.description().starts_with("value = "));
  return std::string(e.description().substr(8));
}

constexpr int half(int x) {
  TROTH_REQUIRE(x % 2 == 0, x);
  return x / 2;
}
static_assert(half(4) == 2);

template <typename A, typename B>
constexpr int twice(int x) {
  return 2 * x;
}

} // namespace

TEST_CASE("a check that holds does nothing, one that fails throws FAILED from its place") {
  CHECK_NOTHROW([] { TROTH_REQUIRE(true, "never"); }());
  CHECK_NOTHROW([] { TROTH_ASSERT(true, "never"); }());
  const auto line = std::source_location::current().line() + 1;
  const Exception e = thrownBy([] { TROTH_REQUIRE(false); });
  CHECK(kindName(e) == "FAILED");
  CHECK(e.description() == "requirement failed: false");
  CHECK(fileOf(e) == "require_test.cc");
  CHECK(e.where().line() == line);
  CHECK(contains(thrownBy([] { half(3); }).where().function_name(), "half"));
  CHECK(e.code() == std::error_code());
  CHECK(e.original() == nullptr);
}

TEST_CASE("the message says whose mistake it is") {
  const bool done = false;
  CHECK(thrownBy([&] { TROTH_REQUIRE(done); }).description() == "requirement failed: done");
  CHECK(thrownBy([&] { TROTH_ASSERT(done); }).description() == "assertion failed: done");
  CHECK(thrownBy([&] { TROTH_FAIL("cannot be", done); }).description() == "cannot be; done = false");
  CHECK(thrownBy([&] { TROTH_FAIL(); }).description() == "failed");
}

TEST_CASE("values are shown by name, literals as they are") {
  const int x = 3;
  const std::string name = "abc";
  const char* literal = "pointer";
  CHECK(thrownBy([&] { TROTH_REQUIRE(name.empty(), "no such row", x, name, x + 1, literal); }).description() ==
        "requirement failed: name.empty(); no such row; x = 3; name = \"abc\"; x + 1 = 4; literal = \"pointer\"");
  CHECK(thrownBy([&] { TROTH_FAIL("a, \"b\"", x); }).description() == "a, \"b\"; x = 3");
  CHECK(thrownBy([&] {
          TROTH_FAIL("two "
                     "parts",
                     x);
        }).description() == "two parts; x = 3");
  CHECK(thrownBy([&] { TROTH_FAIL(R"(raw\n)"); }).description() == "raw\\n");
}

TEST_CASE("commas in brackets, literals and template arguments do not confuse the names") {
  const std::map<int, int> map;
  const int x = 3;
  CHECK(thrownBy([&] { TROTH_FAIL(std::max(x, 4), x); }).description() == "std::max(x, 4) = 4; x = 3");
  CHECK(thrownBy([&] { TROTH_FAIL(std::string("a,b)"), ',', x); }).description() ==
        "std::string(\"a,b)\") = \"a,b)\"; ',' = ','; x = 3");
  CHECK(thrownBy([&] { TROTH_FAIL(1'000 + x, x); }).description() == "1'000 + x = 1003; x = 3");
  CHECK(thrownBy([&] { TROTH_FAIL(twice<int, char>(x)); }).description() == "twice<int, char>(x) = 6");
  CHECK(thrownBy([&] { TROTH_FAIL(twice<int, char>(x), x); }).description() == "(twice<int, char>(x), x) = (6, 3)");
  CHECK(thrownBy([&] { TROTH_REQUIRE((std::is_same_v<int, char>)); }).description() ==
        "requirement failed: (std::is_same_v<int, char>)");
}

TEST_CASE("values are evaluated on failure only, once, from left to right, after the condition") {
  std::string log;
  const auto note = [&](std::string what, bool result) {
    log += what + " ";
    return result;
  };
  CHECK_NOTHROW([&] { TROTH_REQUIRE(note("condition", true), note("value", true)); }());
  CHECK(log == "condition ");
  log.clear();
  CHECK_THROWS_AS([&] { TROTH_ASSERT(note("condition", false), note("a", true), note("b", true)); }(), Exception);
  CHECK(log == "condition a b ");
  int calls = 0;
  CHECK_THROWS_AS([&] { TROTH_REQUIRE(++calls == 2, calls); }(), Exception);
  CHECK(calls == 1);
}

TEST_CASE("an exception from a value's expression goes out instead") {
  const auto broken = []() -> int { throw std::out_of_range("value"); };
  CHECK_THROWS_AS([&] { TROTH_REQUIRE(1 == 2, broken()); }(), std::out_of_range);
}

TEST_CASE("a value whose toString() throws cuts the message, not the failure") {
  const int x = 3;
  const Exception e = thrownBy([&] { TROTH_REQUIRE(x == 4, x, shapes::Talks()); });
  CHECK(e.description().starts_with("requirement failed: x == 4 (3 == 4); x = 3; "));
}

TEST_CASE("a comparison shows both sides") {
  const int a = 1;
  const int b = 2;
  const std::string text = "abc";
  const auto description = [](auto&& call) { return std::string(thrownBy(call).description()); };
  CHECK(description([&] { TROTH_REQUIRE(a == b, "why"); }) == "requirement failed: a == b (1 == 2); why");
  CHECK(description([&] { TROTH_REQUIRE(a != 1); }) == "requirement failed: a != 1 (1 != 1)");
  CHECK(description([&] { TROTH_REQUIRE(a > b); }) == "requirement failed: a > b (1 > 2)");
  CHECK(description([&] { TROTH_REQUIRE(a >= b); }) == "requirement failed: a >= b (1 >= 2)");
  CHECK(description([&] { TROTH_REQUIRE(b < a); }) == "requirement failed: b < a (2 < 1)");
  CHECK(description([&] { TROTH_REQUIRE(b <= a); }) == "requirement failed: b <= a (2 <= 1)");
  CHECK(description([&] { TROTH_REQUIRE(a + b * 2 == b << 1); }) == "requirement failed: a + b * 2 == b << 1 (5 == 4)");
  CHECK(description([&] { TROTH_REQUIRE(text == "abd"); }) ==
        "requirement failed: text == \"abd\" (\"abc\" == \"abd\")");
  CHECK(description([&] { TROTH_REQUIRE(text.size() == 4); }) == "requirement failed: text.size() == 4 (3 == 4)");
  const shapes::Point here{1, 2};
  const shapes::Point there{2, 1};
  CHECK(description([&] { TROTH_REQUIRE(here == there); }) == "requirement failed: here == there ((1, 2) == (2, 1))");
}

TEST_CASE("temporaries in a comparison may die before the message is made") {
  const auto make = [](const char* text) { return std::string(text) + " long enough to be on the heap, surely"; };
  const Exception e = thrownBy([&] { TROTH_REQUIRE(make("left") == make("right")); });
  CHECK(contains(e.description(), "(\"left long enough to be on the heap, surely\" == \"right long enough"));
}

TEST_CASE("two pointers to char are compared, and shown, as addresses") {
  const char buffer[3] = {'a', 'b', 'c'}; // not terminated
  const char* position = buffer;
  const char* end = buffer + 3;
  const Exception e = thrownBy([&] { TROTH_REQUIRE(position == end); });
  CHECK(contains(e.description(), "(0x"));
  const char* null = nullptr;
  CHECK(thrownBy([&] { TROTH_REQUIRE(null != nullptr); }).description() ==
        "requirement failed: null != nullptr (nullptr != nullptr)");
}

TEST_CASE("a comparison of what cannot be shown is still a condition") {
  const shapes::Opaque a{1};
  const shapes::Opaque b{2};
  CHECK(thrownBy([&] { TROTH_REQUIRE(a == b); }).description() == "requirement failed: a == b");
  const std::vector<int> numbers;
  CHECK(thrownBy([&] { TROTH_REQUIRE(numbers.begin() != numbers.end()); }).description() ==
        "requirement failed: numbers.begin() != numbers.end()");
  const std::unique_ptr<int> nothing;
  CHECK(thrownBy([&] { TROTH_REQUIRE(nothing != nullptr); }).description() ==
        "requirement failed: nothing != nullptr (? != nullptr)");
}

TEST_CASE("the condition is whatever an if takes") {
  const std::unique_ptr<int> pointer = std::make_unique<int>(1);
  std::optional<int> filled = 1;
  const int flags = 6;
  const bool yes = true;
  const bool no = false;
  Bits bits{5, 7};
  struct Mutable {
    int asked = 0;
    explicit operator bool() { return ++asked > 0; }
  } changing;
  CHECK_NOTHROW([&] {
    TROTH_REQUIRE(pointer);
    TROTH_REQUIRE(filled);
    TROTH_REQUIRE(changing);
    TROTH_REQUIRE(!no && yes);
    TROTH_REQUIRE(no || yes);
    TROTH_REQUIRE(flags == 6 && yes);
    TROTH_REQUIRE(flags == 7 || flags == 6);
    TROTH_REQUIRE(flags & 2);
    TROTH_REQUIRE(flags | 1);
    TROTH_REQUIRE(flags ^ 7);
    TROTH_REQUIRE(yes ? flags == 6 : no);
    TROTH_REQUIRE(1 <=> 2 < 0);
    TROTH_REQUIRE(bits.low == 5);
    TROTH_REQUIRE(7 == bits.high);
    TROTH_REQUIRE(flags < Limits::MAX, Limits::MAX);
    TROTH_REQUIRE(Limits::MAX > flags);
    TROTH_REQUIRE("literals are true");
    TROTH_REQUIRE(std::string("moved") + "!" == "moved!");
  }());
  CHECK(changing.asked == 1);
  CHECK_THROWS_AS([&] { TROTH_REQUIRE(flags & 1); }(), Exception);
  CHECK_THROWS_AS([&] { TROTH_REQUIRE(flags == 6 && no); }(), Exception);
  CHECK_THROWS_AS([&] { TROTH_REQUIRE(no || flags == 7); }(), Exception);
  CHECK_THROWS_AS([&] { TROTH_REQUIRE(2 <=> 1 < 0); }(), Exception);
  CHECK_THROWS_AS([&] { TROTH_REQUIRE(yes ? flags == 7 : yes); }(), Exception);
}

TEST_CASE("the operands of && and || are evaluated as far as they decide") {
  int asked = 0;
  const auto ask = [&](bool answer) {
    ++asked;
    return answer;
  };
  const int one = 1;
  CHECK_THROWS_AS([&] { TROTH_REQUIRE(one == 2 && ask(true)); }(), Exception);
  CHECK_NOTHROW([&] { TROTH_REQUIRE(one == 1 || ask(true)); }());
  CHECK(asked == 0);
}

TEST_CASE("a check is one statement, also between if and else, and may be nested") {
  const auto sign = [](int x) {
    if (x > 0)
      TROTH_REQUIRE(x < 10);
    else
      return -1;
    return 1;
  };
  CHECK(sign(5) == 1);
  CHECK(sign(-5) == -1);
  CHECK_THROWS_AS(sign(50), Exception);
  const auto outer = [](int x) {
    TROTH_REQUIRE(
        [&] {
          TROTH_ASSERT(x != 0);
          return x != 1;
        }(),
        [&] {
          TROTH_ASSERT(x != 2);
          return x;
        }());
  };
  CHECK_NOTHROW(outer(2));
  CHECK(contains(thrownBy([&] { outer(0); }).description(), "assertion failed: x != 0 (0 != 0)"));
  CHECK(contains(thrownBy([&] { outer(1); }).description(), "requirement failed: ["));
}

TEST_CASE("a debug check is evaluated in debug builds alone") {
  int asked = 0;
  const auto check = [&] { TROTH_DASSERT(++asked == 2, asked); };
#ifdef NDEBUG
  CHECK_NOTHROW(check());
  CHECK(asked == 0);
#else
  CHECK(thrownBy(check).description() == "assertion failed: ++asked == 2 (1 == 2); asked = 1");
#endif
}

TEST_CASE("in a noexcept function a failed check ends the program") {
  const ChildEnd end = runInChild([] {
    const auto check = []() noexcept { TROTH_REQUIRE(1 == 2); };
    check();
  });
  CHECK(end.aborted);
}

TEST_CASE("checks work in constant expressions") {
  CHECK(half(8) == 4);
  CHECK(thrownBy([] { half(3); }).description() == "requirement failed: x % 2 == 0 (1 == 0); x = 3");
}

TEST_CASE("numbers, characters and pointers are shown as a programmer writes them") {
  CHECK(shown(true) == "true");
  CHECK(shown('x') == "'x'");
  CHECK(shown('\n') == "'\\n'");
  CHECK(shown('\'') == "'\\''");
  CHECK(shown(static_cast<signed char>(-5)) == "-5");
  CHECK(shown(static_cast<unsigned char>(250)) == "250");
  CHECK(shown(static_cast<short>(-7)) == "-7");
  CHECK(shown(LLONG_MIN) == "-9223372036854775808");
  CHECK(shown(ULLONG_MAX) == "18446744073709551615");
  CHECK(shown(1.5) == "1.5");
  CHECK(shown(0.25f) == "0.25");
  CHECK(shown(2.5L) == "2.5");
  CHECK(shown(nullptr) == "nullptr");
  CHECK(shown(static_cast<int*>(nullptr)) == "nullptr");
  CHECK(shown(reinterpret_cast<void*>(0x1234)) == "0x1234");
}

TEST_CASE("enumerations are shown by their toString or as numbers") {
  CHECK(shown(shapes::Colour::GREEN) == "green");
  CHECK(shown(shapes::Level::HIGH) == "200");
  CHECK(shown(Kind::OVERLOADED) == "OVERLOADED");
}

TEST_CASE("text is quoted and escaped") {
  const char array[] = "array";
  char* writable = nullptr;
  CHECK(shown(std::string("say \"hi\"\n")) == "\"say \\\"hi\\\"\\n\"");
  CHECK(shown(std::string_view("a\0b\x7f\\", 5)) == "\"a\\x00b\\x7f\\\\\"");
  CHECK(shown("\xc3\xa9") == "\"\xc3\xa9\"");
  CHECK(shown(array) == "\"array\"");
  CHECK(shown(writable) == "nullptr");
  CHECK(shown(std::string()) == "\"\"");
}

TEST_CASE("long text is shortened, never within a character of UTF-8") {
  const std::string plain = shown(std::string(100'000, 'x'));
  CHECK(plain == "\"" + std::string(400, 'x') + "\"... (100000 bytes)");
  std::string accents = "x";
  for (int i = 0; i < 300; ++i) accents += "\xc3\xa9";
  CHECK(shown(accents) == "\"" + accents.substr(0, 399) + "\"... (601 bytes)");
  CHECK(shown(shapes::Named{plain}).size() < 450);
}

TEST_CASE("types with a toString are shown by it") {
  CHECK(shown(shapes::Point{1, 2}) == "(1, 2)");
  CHECK(shown(shapes::Named{"free"}) == "free");
}

TEST_CASE("error codes and exceptions are shown by their messages") {
  const auto code = std::make_error_code(std::errc::connection_reset);
  CHECK(shown(code) == code.message() + " (generic " + std::to_string(ECONNRESET) + ")");
  CHECK(shown(std::out_of_range("far")) == "far");
  CHECK(shown(Exception(Kind::OVERLOADED, "busy")).starts_with("busy [OVERLOADED, "));
}

TEST_CASE("durations are shown with their unit") {
  using namespace std::chrono_literals;
  CHECK(shown(5ns) == "5ns");
  CHECK(shown(5us) == "5us");
  CHECK(shown(1500ms) == "1500ms");
  CHECK(shown(-2s) == "-2s");
  CHECK(shown(std::chrono::duration<double>(0.5)) == "0.5s");
  CHECK(shown(3min) == "3min");
  CHECK(shown(4h) == "4h");
  CHECK(shown(std::chrono::days(2)) == "2d");
  CHECK(shown(std::chrono::duration<int, std::ratio<1, 60>>(7)) == "7 * 1/60 s");
}

TEST_CASE("bytes are shown by their number and the first of them") {
  const std::array<std::byte, 3> three{std::byte{0}, std::byte{0xff}, std::byte{0x10}};
  CHECK(shown(three) == "3 bytes [00 ff 10]");
  CHECK(shown(std::span<const std::byte>(three).first(1)) == "1 byte [00]");
  CHECK(shown(std::span<const std::byte>()) == "0 bytes []");
  const std::vector<unsigned char> many(1000, 0xab);
  const std::string text = shown(many);
  CHECK(text.starts_with("1000 bytes [ab ab "));
  CHECK(text.ends_with("ab ...]"));
  CHECK(text.size() < 150);
}

TEST_CASE("optionals are shown by their value or as none") {
  using namespace std::chrono_literals;
  CHECK(shown(std::optional<int>(3)) == "3");
  CHECK(shown(std::optional<int>()) == "none");
  CHECK(shown(std::optional<std::string>("abc")) == "\"abc\"");
  CHECK(shown(std::optional<std::optional<shapes::Colour>>(shapes::Colour::RED)) == "red");
  CHECK(shown(std::optional(2s)) == "2s");
}

static_assert(!detail::isShowable<shapes::Opaque>());
static_assert(!detail::isShowable<std::optional<shapes::Opaque>>());
static_assert(!detail::isShowable<void (*)()>());
static_assert(!detail::isShowable<int shapes::Opaque::*>());

TEST_CASE("TROTH_EXCEPTION makes an exception of any kind, to throw or to pass on") {
  const int size = 7;
  const auto line = std::source_location::current().line() + 1;
  const Exception e = TROTH_EXCEPTION(Kind::OVERLOADED, "the queue is full", size);
  CHECK(kindName(e) == "OVERLOADED");
  CHECK(e.description() == "the queue is full; size = 7");
  CHECK(e.where().line() == line);
  CHECK(fileOf(e) == "require_test.cc");
  CHECK(TROTH_EXCEPTION(Kind::FAILED).description() == "failed");
}

TEST_CASE("an error code gives TROTH_EXCEPTION its kind, code and message") {
  const Exception e = TROTH_EXCEPTION(std::errc::connection_reset, "reading");
  CHECK(kindName(e) == "DISCONNECTED");
  CHECK(e.code() == std::errc::connection_reset);
  CHECK(e.description() == "reading: " + std::make_error_code(std::errc::connection_reset).message());
  const std::error_code code(ENOMEM, std::system_category());
  CHECK(kindName(TROTH_EXCEPTION(code)) == "OVERLOADED");
  CHECK(TROTH_EXCEPTION(code).description() == code.message());
}

TEST_CASE("a system call's result is passed on, and its failure has the code, the call and the values") {
  int pipe[2] = {-1, -1};
  TROTH_SYSCALL(::pipe(pipe));
  const ssize_t written = TROTH_SYSCALL(::write(pipe[1], "abc", 3));
  CHECK(written == 3);
  TROTH_SYSCALL(::fcntl(pipe[0], F_SETFL, O_NONBLOCK));
  ::close(pipe[0]);
  ::close(pipe[1]);

  const std::string path = "/nowhere/at all";
  const auto line = std::source_location::current().line() + 1;
  const Exception e = thrownBy([&] { TROTH_SYSCALL(::open(path.c_str(), O_RDONLY), "reading the table", path); });
  CHECK(kindName(e) == "FAILED");
  CHECK(e.code() == std::errc::no_such_file_or_directory);
  CHECK(e.code().category() == std::system_category());
  CHECK(e.description() ==
        "::open(path.c_str(), O_RDONLY): " + e.code().message() + "; reading the table; path = \"/nowhere/at all\"");
  CHECK(e.where().line() == line);
  CHECK_FALSE(contains(e.where().function_name(), "troth::detail"));
}

TEST_CASE("an interrupted system call is made again, another failure is not") {
  int calls = 0;
  const auto call = [&](int interruptions, int error) {
    if (calls++ < interruptions) {
      errno = EINTR;
      return -1;
    }
    errno = error;
    return error == 0 ? 42 : -1;
  };
  CHECK(TROTH_SYSCALL(call(3, 0)) == 42);
  CHECK(calls == 4);
  calls = 0;
  const Exception e = thrownBy([&] { TROTH_SYSCALL(call(2, EMFILE)); });
  CHECK(calls == 3);
  CHECK(kindName(e) == "OVERLOADED");
  CHECK(e.code() == std::errc::too_many_files_open);
}

TEST_CASE("the values of a system call are evaluated on failure only, and may change errno") {
  int asked = 0;
  const auto ask = [&] {
    errno = EPERM;
    return ++asked;
  };
  const auto call = [](int result) {
    errno = ECONNRESET;
    return result;
  };
  CHECK(TROTH_SYSCALL(call(0), ask()) == 0);
  CHECK(TROTH_SYSCALL(call(-2), ask()) == -2); // -1 alone is failure
  CHECK(asked == 0);
  const Exception e = thrownBy([&] { TROTH_SYSCALL(call(-1), ask()); });
  CHECK(e.code() == std::errc::connection_reset);
  CHECK(kindName(e) == "DISCONNECTED");
  CHECK(e.description().ends_with("; ask() = 1"));
  CHECK(asked == 1);
}

TEST_CASE("systemException says the operation and the system's message") {
  const Exception e = systemException(EPIPE, "writing the answer");
  CHECK(e.description() == "writing the answer: " + std::generic_category().message(EPIPE));
  CHECK(kindName(e) == "DISCONNECTED");
  CHECK(e.code() == std::errc::broken_pipe);
  CHECK(fileOf(e) == "require_test.cc");
  CHECK(kindName(systemException(EHOSTDOWN, "x")) == "DISCONNECTED");
  CHECK(kindName(systemException(EDQUOT, "x")) == "OVERLOADED");
  CHECK(kindName(systemException(ENOSYS, "x")) == "UNIMPLEMENTED");
  CHECK(kindName(systemException(EBADF, "x")) == "FAILED");
}

TEST_CASE("every errno that std::errc has compares equal to it") {
  // std::errc's values are those of errno, and so are the conditions of the generic category.
  for (int error = 1; error < 200; ++error) {
    CAPTURE(error);
    const std::error_condition condition(error, std::generic_category());
    if (std::error_code(error, std::system_category()).default_error_condition().category() != std::generic_category())
      continue; // the system's own
    CHECK(systemException(error, "x").code() == condition);
    CHECK(systemException(error, "x").code() != std::error_condition(error + 1, std::generic_category()));
  }
  CHECK(systemException(EAGAIN, "x").code() == std::errc::operation_would_block);
  CHECK(systemException(ENOTSUP, "x").code() == std::errc::operation_not_supported);
  CHECK(systemException(EOWNERDEAD, "x").code() == std::errc::owner_dead);
}

TEST_CASE("exceptions of the standard library keep the code of the system") {
  const auto capture = [](auto&& call) {
    try {
      call();
    } catch (...) {
      return Exception::fromCurrent();
    }
    FAIL("nothing was thrown");
    return Exception(Kind::FAILED, "unreachable");
  };
  const Exception file = capture([] { std::filesystem::remove_all("/dev/null/below"); });
  CHECK(file.code() == std::errc::not_a_directory);
  CHECK(contains(file.description(), "/dev/null/below"));
  CHECK_THROWS_AS(file.rethrow(), std::filesystem::filesystem_error);
  const Exception system = capture([] { throw std::system_error(ECONNREFUSED, std::system_category(), "connecting"); });
  CHECK(system.code() == std::errc::connection_refused);
  CHECK(kindName(system) == "DISCONNECTED");
}

TEST_CASE_FIXTURE(LoopTest, "a check that fails in a coroutine rejects its promise with kind, text and place") {
  const auto line = std::source_location::current().line() + 4;
  const auto body = [](Promise<int> promise, int expected, std::string name) -> Promise<int> {
    const int value = co_await std::move(promise);
    TROTH_REQUIRE(value > 0, "before");
    TROTH_REQUIRE(value == expected, "unexpected", name, value + 1);
    co_return value;
  };
  CHECK(body(7, 7, "abc").wait(scope) == 7);
  const Exception e = failureOf(body(7, 8, "abc"), scope);
  CHECK(kindName(e) == "FAILED");
  CHECK(e.description() == "requirement failed: value == expected (7 == 8); unexpected; name = \"abc\"; value + 1 = 8");
  CHECK(fileOf(e) == "require_test.cc");
  CHECK(e.where().line() == line);
  // Before its first await, too: the call itself does not throw.
  const auto early = []() -> Promise<void> {
    TROTH_ASSERT(1 == 2);
    co_return;
  };
  Promise<void> promise = early();
  CHECK(failureOf(std::move(promise), scope).description() == "assertion failed: 1 == 2 (1 == 2)");
}

TEST_CASE_FIXTURE(LoopTest, "the condition and the values may await") {
  const auto later = [](int x) { return evalLater([x] { return x; }); };
  const auto text = [](std::string s) { return evalLater([s] { return s; }); };
  const auto body = [&](int x) -> Promise<int> {
    TROTH_REQUIRE(co_await later(x) == co_await later(7), x);
    TROTH_REQUIRE(co_await text("abc") == "abc");
    TROTH_REQUIRE((co_await text("abc")).size() == 3);
    co_return x;
  };
  CHECK(body(7).wait(scope) == 7);
  CHECK(failureOf(body(8), scope).description() ==
        "requirement failed: co_await later(x) == co_await later(7) (8 == 7); x = 8");
  const auto slow = [&]() -> Promise<void> { TROTH_REQUIRE(1 == 2, co_await later(3), co_await text("abc")); };
  CHECK(failureOf(slow(), scope).description() ==
        "requirement failed: 1 == 2 (1 == 2); co_await later(3) = 3; co_await text(\"abc\") = \"abc\"");
}

TEST_CASE("a coroutine with a check that awaits may be cancelled anywhere") {
  const auto later = [](std::string x) { return evalLater([x] { return x; }); };
  const std::size_t steps = cancelSweep([&](LoopTest&) -> Promise<void> {
    return [](auto make) -> Promise<void> {
      TROTH_REQUIRE(co_await make("left, and long enough for the heap") ==
                        co_await make("left, and long enough for the heap"),
                    co_await make("never"));
    }(later);
  });
  CHECK(steps > 1);
}

TEST_CASE_FIXTURE(LoopTest, "a check that fails in a continuation rejects with kind, text and place") {
  const auto line = std::source_location::current().line() + 2;
  Promise<int> promise = Promise<int>(3).then([](int x) {
    TROTH_REQUIRE(x < 3, "too much", x);
    return x;
  });
  const Exception e = failureOf(std::move(promise), scope);
  CHECK(kindName(e) == "FAILED");
  CHECK(e.description() == "requirement failed: x < 3 (3 < 3); too much; x = 3");
  CHECK(fileOf(e) == "require_test.cc");
  CHECK(e.where().line() == line);
}

TEST_CASE_FIXTURE(LoopTest, "a failed system call and a made exception reject with their kind and code") {
  const auto call = []() -> Promise<void> {
    TROTH_SYSCALL(::fcntl(-1, F_GETFD));
    co_return;
  };
  CHECK(failureOf(call(), scope).code() == std::errc::bad_file_descriptor);
  const auto made = []() -> Promise<void> {
    co_await READY_NOW;
    throw TROTH_EXCEPTION(Kind::UNIMPLEMENTED, "not here");
  };
  CHECK(kindName(failureOf(made(), scope)) == "UNIMPLEMENTED");
  CHECK(kindName(failureOf(Promise<void>(TROTH_EXCEPTION(Kind::OVERLOADED, "later")), scope)) == "OVERLOADED");
}
