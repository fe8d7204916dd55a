// SPDX-License-Identifier: MIT
// The failing side of the checks: how values are written, and how a message is put together.
#include <troth/runtime/require.h>

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdint>
#include <iterator>
#include <new>
#include <vector>

namespace troth {
inline namespace v0 {
namespace detail {

// --- Values ---

namespace {

// A message is for a log: what is longer than this says how long it is.
constexpr std::size_t MAX_TEXT = 400;
constexpr std::size_t MAX_BYTES = 32;

void appendEscaped(std::string& out, char c, char quote) {
  const auto code = static_cast<unsigned char>(c);
  if (c == '\n') {
    out += "\\n";
  } else if (c == '\r') {
    out += "\\r";
  } else if (c == '\t') {
    out += "\\t";
  } else if (c == '\\' || c == quote) {
    out += '\\';
    out += c;
  } else if (code < 0x20 || code == 0x7f) {
    out += fmt::format("\\x{:02x}", code);
  } else {
    out += c;
  }
}

// The beginning of `text` that is shown. It does not end within a character of UTF-8.
std::string_view shortened(std::string_view text) {
  if (text.size() <= MAX_TEXT) return text;
  std::size_t size = MAX_TEXT;
  while (size > MAX_TEXT - 3 && (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80) --size;
  return text.substr(0, size);
}

void appendRest(std::string& out, std::size_t shown, std::size_t all) {
  if (shown < all) out += fmt::format("... ({} bytes)", all);
}

} // namespace

Shown::Shown() noexcept : object_(nullptr), append_(appendUnknown) {}

void Shown::appendUnknown(std::string& out, const Shown&) { out += '?'; }

bool Shown::isUnknown() const noexcept { return append_ == appendUnknown; }

void Shown::set(bool value) noexcept {
  set(std::string_view(value ? "true" : "false"));
  append_ = appendBare;
}

void Shown::set(char value) noexcept {
  integer_ = value;
  append_ = [](std::string& out, const Shown& shown) {
    out += '\'';
    appendEscaped(out, static_cast<char>(shown.integer_), '\'');
    out += '\'';
  };
}

void Shown::set(long long value) noexcept {
  integer_ = value;
  append_ = [](std::string& out, const Shown& shown) { out += fmt::to_string(shown.integer_); };
}

void Shown::set(unsigned long long value) noexcept {
  natural_ = value;
  append_ = [](std::string& out, const Shown& shown) { out += fmt::to_string(shown.natural_); };
}

void Shown::set(double value) noexcept {
  real_ = value;
  append_ = [](std::string& out, const Shown& shown) { out += fmt::to_string(shown.real_); };
}

void Shown::set(const char* text) noexcept {
  if (text == nullptr) {
    set(static_cast<const volatile void*>(nullptr));
  } else {
    set(std::string_view(text));
  }
}

void Shown::set(std::string_view text) noexcept {
  text_ = {text.data(), text.size()};
  append_ = appendQuoted;
}

void Shown::set(const volatile void* pointer) noexcept {
  pointer_ = pointer;
  append_ = [](std::string& out, const Shown& shown) {
    if (shown.pointer_ == nullptr) {
      out += "nullptr";
    } else {
      out += fmt::format("{:#x}", reinterpret_cast<std::uintptr_t>(shown.pointer_));
    }
  };
}

void Shown::appendBare(std::string& out, const Shown& text) { append(out, {text.text_.data, text.text_.size}); }

void Shown::appendQuoted(std::string& out, const Shown& text) {
  const std::string_view all(text.text_.data, text.text_.size);
  const std::string_view shown = shortened(all);
  out += '"';
  for (const char c : shown) appendEscaped(out, c, '"');
  out += '"';
  appendRest(out, shown.size(), all.size());
}

bool Shown::appendBareTo(std::string& out) const {
  if (append_ != appendQuoted) return false;
  appendBare(out, *this);
  return true;
}

void Shown::append(std::string& out, std::string_view text) {
  const std::string_view shown = shortened(text);
  out += shown;
  appendRest(out, shown.size(), text.size());
}

void Shown::appendErrorCode(std::string& out, const std::error_code& code) {
  out += fmt::format("{} ({} {})", code.message(), code.category().name(), code.value());
}

void Shown::appendBytes(std::string& out, const void* data, std::size_t size) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  out += fmt::format("{} {} [", size, size == 1 ? "byte" : "bytes");
  for (std::size_t i = 0; i < std::min(size, MAX_BYTES); ++i)
    out += fmt::format("{}{:02x}", i == 0 ? "" : " ", bytes[i]);
  out += size > MAX_BYTES ? " ...]" : "]";
}

void Shown::appendUnit(std::string& out, long long numerator, long long denominator) {
  struct Unit {
    long long numerator, denominator;
    std::string_view name;
  };
  static constexpr Unit UNITS[] = {{1, 1'000'000'000, "ns"}, {1, 1'000'000, "us"}, {1, 1000, "ms"}, {1, 1, "s"},
                                   {60, 1, "min"},           {3600, 1, "h"},       {86400, 1, "d"}};
  for (const Unit& unit : UNITS) {
    if (unit.numerator == numerator && unit.denominator == denominator) {
      out += unit.name;
      return;
    }
  }
  out += fmt::format(" * {}/{} s", numerator, denominator);
}

// --- Messages ---

namespace {

// Where the name that begins at `from` ends: at the next comma outside of brackets and literals.
std::size_t endOfName(std::string_view names, std::size_t from) {
  int depth = 0;
  char quote = '\0';
  for (std::size_t i = from; i < names.size(); ++i) {
    const char c = names[i];
    if (quote != '\0') {
      if (c == '\\') {
        ++i;
      } else if (c == quote) {
        quote = '\0';
      }
    } else if (c == '"' || (c == '\'' && (i == 0 || !std::isalnum(static_cast<unsigned char>(names[i - 1]))))) {
      quote = c; // an apostrophe after a digit separates digits
    } else if (c == '(' || c == '[' || c == '{') {
      ++depth;
    } else if (c == ')' || c == ']' || c == '}') {
      --depth;
    } else if (c == ',' && depth == 0) {
      return i;
    }
  }
  return names.size();
}

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

std::vector<std::string_view> splitNames(std::string_view names) {
  std::vector<std::string_view> result;
  for (std::size_t from = 0; from < names.size();) {
    const std::size_t end = endOfName(names, from);
    result.push_back(trimmed(names.substr(from, end - from)));
    from = end + 1;
  }
  return result;
}

bool isLiteral(std::string_view name) { return name.starts_with('"') || name.starts_with("R\""); }

void appendNamed(std::string& out, std::string_view name, const Shown& value) {
  if (isLiteral(name) && value.appendBareTo(out)) return;
  out += name;
  out += " = ";
  value.appendTo(out);
}

// "text; x = 3; y = 4". The preprocessor gives the names in one piece.
void appendValues(std::string& out, std::string_view names, const Values& last) {
  std::vector<const Shown*> values;
  for (const Values* part = &last; part->value() != nullptr; part = part->before()) values.push_back(part->value());
  std::reverse(values.begin(), values.end());
  std::vector<std::string_view> split = splitNames(names);
  if (values.size() == 1) split = {trimmed(names)};
  if (split.size() == values.size()) {
    for (std::size_t i = 0; i < split.size(); ++i) {
      if (!out.empty()) out += "; ";
      appendNamed(out, split[i], *values[i]);
    }
  } else { // a comma between template arguments: which name is whose is not clear
    if (!out.empty()) out += "; ";
    out += fmt::format("({}) = (", names);
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (i != 0) out += ", ";
      values[i]->appendTo(out);
    }
    out += ')';
  }
}

// Runs `compose`, which may throw: a toString() of the user's, or no memory. What it made until then stands.
template <typename Compose>
std::string composed(Compose compose) noexcept {
  std::string text;
  try {
    compose(text);
  } catch (...) {
    // The failure that is reported matters more than the one of its report.
  }
  return text;
}

[[noreturn]] void throwFailed(std::string_view what, const char* condition, const Checked& checked, const char* names,
                              const std::source_location& where, const Values& values) {
  const std::string text = composed([&](std::string& out) {
    out += what;
    out += condition;
    if (checked.sides() != nullptr) {
      out += ' ';
      out += *checked.sides();
    }
    appendValues(out, names, values);
  });
  Exception(Exception::Kind::FAILED, text, {}, where).ref().rethrow();
}

} // namespace

std::string* Checked::describeSides(const Shown& left, const char* op, const Shown& right) noexcept {
  if (left.isUnknown() && right.isUnknown()) return nullptr;
  std::string text = composed([&](std::string& out) {
    out += '(';
    left.appendTo(out);
    out += fmt::format(" {} ", op);
    right.appendTo(out);
    out += ')';
  });
  return new (std::nothrow) std::string(std::move(text));
}

void Checked::discard(std::string* sides) noexcept { delete sides; }

void requirementFailed(const char* condition, const Checked& checked, const char* names, std::source_location where,
                       const Values& values) {
  throwFailed("requirement failed: ", condition, checked, names, where, values);
}

void assertionFailed(const char* condition, const Checked& checked, const char* names, std::source_location where,
                     const Values& values) {
  throwFailed("assertion failed: ", condition, checked, names, where, values);
}

void fail(const char* names, std::source_location where, const Values& values) {
  makeException(Exception::Kind::FAILED, names, where, values).ref().rethrow();
}

Exception makeException(const Cause& cause, const char* names, std::source_location where,
                        const Values& values) noexcept {
  const std::string text = composed([&](std::string& out) {
    appendValues(out, names, values);
    if (!cause.code) return;
    if (!out.empty()) out += ": ";
    out += cause.code.message();
  });
  return Exception(cause.kind, text.empty() ? std::string_view("failed") : text, cause.code, where);
}

// --- System calls ---

namespace {

// The kinds of what the system knows and std::errc does not.
Exception::Kind kindOfErrno(int error, const std::error_code& code) noexcept {
  switch (error) {
#ifdef EHOSTDOWN
  case EHOSTDOWN:
    return Exception::Kind::DISCONNECTED;
#endif
#ifdef EDQUOT
  case EDQUOT:
    return Exception::Kind::OVERLOADED;
#endif
  default:
    return Exception::kindOf(code);
  }
}

Exception systemExceptionWith(int error, std::string_view operation, const char* names,
                              const std::source_location& where, const Values& values) noexcept {
  const std::error_code code(error, std::system_category());
  const std::string text = composed([&](std::string& out) {
    out += fmt::format("{}: {}", operation, code.message());
    appendValues(out, names, values);
  });
  return Exception(kindOfErrno(error, code), text, code, where);
}

} // namespace

FailedSystemCall::FailedSystemCall(const char* call, const char* names, std::source_location where) noexcept
    : call_(call), names_(names), where_(where), error_(errno) {}

void FailedSystemCall::raise(const Values& values) const {
  systemExceptionWith(error_, call_, names_, where_, values).ref().rethrow();
}

bool FailedSystemCall::wasInterrupted() noexcept { return errno == EINTR; }

} // namespace detail

Exception systemException(int error, std::string_view operation, std::source_location where) noexcept {
  return detail::systemExceptionWith(error, operation, "", where, detail::Values());
}

} // namespace v0
} // namespace troth
