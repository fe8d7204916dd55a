// SPDX-License-Identifier: MIT
// What the macros of require.h expand to: conditions taken apart, values of any type, and the failing calls.
#pragma once

#include <troth/runtime/exception.h>
#include <troth/runtime/unique_name_detail.h>

#include <concepts>
#include <cstddef>
#include <source_location>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

// `Decompose() <=> a == b` reads `(Decompose() <=> a) == b`: of the operators that bind tighter than all comparisons,
// <=> is the one that binds loosest, so that `a` may be any arithmetic. The name of the variable is made once, in
// the outer macro.
#define TROTH_DETAIL_CHECK(failed, condition, text, ...)                                                               \
  TROTH_DETAIL_CHECK_NAMED(TROTH_DETAIL_UNIQUE_NAME(trothChecked), failed, condition, text, __VA_ARGS__)
#define TROTH_DETAIL_CHECK_NAMED(checked, failed, condition, text, names, ...)                                         \
  do {                                                                                                                 \
    if (const ::troth::detail::Checked checked(::troth::detail::Decompose() <=> condition); checked.passed())          \
        [[likely]] {                                                                                                   \
    } else {                                                                                                           \
      ::troth::detail::failed(text, checked, names, std::source_location::current(),                                   \
                              TROTH_DETAIL_VALUES(__VA_ARGS__));                                                       \
    }                                                                                                                  \
  } while (false)

// The commas between the arguments are the operator of Values. (g++ 12 refuses a co_await in a braced list.)
#define TROTH_DETAIL_VALUES(...) (::troth::detail::Values() __VA_OPT__(, ) __VA_ARGS__)

namespace troth {
inline namespace v0 {
namespace detail {

// --- Values in messages ---

/// Numbers, enumerations and pointers, and what decays to a pointer. They are taken by value: a bit-field has no
/// reference, and a static constant may have no definition.
template <typename T>
concept Scalar = std::is_scalar_v<std::decay_t<T>>;

void toString() = delete; // so that toString(x) below finds functions by the type of x alone

template <typename T>
concept HasToStringMember = requires(const T& value) {
  { value.toString() } -> std::convertible_to<std::string_view>;
};
template <typename T>
concept HasToStringFunction = requires(const T& value) {
  { toString(value) } -> std::convertible_to<std::string_view>;
};
template <typename T>
concept TextLike = std::convertible_to<const T&, std::string_view>;
template <typename T>
concept DurationLike = requires(const T& value) {
  typename T::rep;
  { value.count() } -> std::convertible_to<typename T::rep>;
  T::period::num / T::period::den;
} && std::is_arithmetic_v<typename T::rep>;
template <typename T>
concept BytesLike =
    requires(const T& value) {
      requires sizeof(*value.data()) == 1;
      { value.data() } -> std::convertible_to<const volatile void*>;
      { value.size() } -> std::convertible_to<std::size_t>;
    } && (std::same_as<std::remove_cvref_t<decltype(*std::declval<const T&>().data())>, std::byte> ||
          std::same_as<std::remove_cvref_t<decltype(*std::declval<const T&>().data())>, unsigned char>);
template <typename T>
concept OptionalLike = requires(const T& value) {
  typename T::value_type;
  { value.has_value() } -> std::same_as<bool>;
  *value;
};

template <typename T>
constexpr bool isShowable() {
  if constexpr (std::is_pointer_v<T>) {
    return !std::is_function_v<std::remove_pointer_t<T>>;
  } else if constexpr (HasToStringMember<T> || HasToStringFunction<T>) {
    return true;
  } else if constexpr (OptionalLike<T>) {
    return isShowable<std::decay_t<typename T::value_type>>();
  } else {
    return std::is_arithmetic_v<T> || std::is_enum_v<T> || std::is_null_pointer_v<T> || TextLike<T> ||
           std::same_as<T, std::error_code> || std::derived_from<T, std::exception> || DurationLike<T> || BytesLike<T>;
  }
}

#define TROTH_DETAIL_NOT_SHOWABLE                                                                                      \
  "troth cannot show a value of this type: give the type a toString(), or pass a part of it or a text"

/// A value on its way into a message: a view of it that lives as long as the failing call, and how to write it.
class Shown {
public:
  template <Scalar T>
  Shown(T value) noexcept {
    if constexpr (!isShowable<T>()) {
      static_assert(isShowable<T>(), TROTH_DETAIL_NOT_SHOWABLE);
    } else if constexpr (std::same_as<T, Exception::Kind>) {
      set(kindName(value));
      append_ = appendBare;
    } else if constexpr (std::is_enum_v<T> && HasToStringFunction<T>) {
      integer_ = static_cast<long long>(value);
      append_ = [](std::string& out, const Shown& shown) { append(out, toString(static_cast<T>(shown.integer_))); };
    } else if constexpr (std::is_enum_v<T>) {
      setNumber(static_cast<std::underlying_type_t<T>>(value));
    } else if constexpr (std::is_arithmetic_v<T>) {
      setNumber(value);
    } else if constexpr (std::is_convertible_v<T, const char*> && !std::is_null_pointer_v<T>) {
      set(static_cast<const char*>(value));
    } else {
      set(static_cast<const volatile void*>(value));
    }
  }

  template <typename T>
    requires(!Scalar<T>)
  Shown(const T& value) noexcept {
    static_assert(isShowable<T>(), TROTH_DETAIL_NOT_SHOWABLE);
    object_ = &value;
    append_ = [](std::string& out, const Shown& shown) { appendObject(out, *static_cast<const T*>(shown.object_)); };
  }

  /// An address, also of characters.
  static Shown address(const volatile void* pointer) noexcept {
    Shown shown;
    shown.set(pointer);
    return shown;
  }
  /// "?", for what cannot be shown.
  static Shown unknown() noexcept { return Shown(); }

  void appendTo(std::string& out) const { append_(out, *this); }
  /// Text without its quotes. False if this is not text.
  bool appendBareTo(std::string& out) const;
  bool isUnknown() const noexcept;

private:
  struct Text {
    const char* data;
    std::size_t size;
  };
  union {
    const void* object_;
    const volatile void* pointer_;
    Text text_;
    long long integer_;
    unsigned long long natural_;
    double real_;
  };
  void (*append_)(std::string& out, const Shown& shown);

  Shown() noexcept;
  [[gnu::cold]] void set(bool value) noexcept;
  [[gnu::cold]] void set(char value) noexcept;
  [[gnu::cold]] void set(long long value) noexcept;
  [[gnu::cold]] void set(unsigned long long value) noexcept;
  [[gnu::cold]] void set(double value) noexcept;
  [[gnu::cold]] void set(const char* text) noexcept; // may be null
  [[gnu::cold]] void set(std::string_view text) noexcept;
  [[gnu::cold]] void set(const volatile void* pointer) noexcept;

  template <typename T>
  void setNumber(T value) noexcept {
    if constexpr (std::same_as<T, bool> || std::same_as<T, char>) {
      set(value);
    } else if constexpr (std::is_floating_point_v<T>) {
      set(static_cast<double>(value));
    } else if constexpr (std::is_signed_v<T>) {
      set(static_cast<long long>(value));
    } else {
      set(static_cast<unsigned long long>(value));
    }
  }

  static void append(std::string& out, std::string_view text);
  static void appendUnknown(std::string& out, const Shown& nothing);
  static void appendBare(std::string& out, const Shown& text);
  static void appendQuoted(std::string& out, const Shown& text);
  static void appendErrorCode(std::string& out, const std::error_code& code);
  static void appendBytes(std::string& out, const void* data, std::size_t size);
  static void appendUnit(std::string& out, long long numerator, long long denominator);

  template <typename T>
  static void appendObject(std::string& out, const T& value) {
    if constexpr (HasToStringMember<T>) {
      append(out, value.toString());
    } else if constexpr (HasToStringFunction<T>) {
      append(out, toString(value));
    } else if constexpr (TextLike<T>) {
      Shown shown;
      shown.set(static_cast<std::string_view>(value));
      shown.appendTo(out);
    } else if constexpr (std::same_as<T, std::error_code>) {
      appendErrorCode(out, value);
    } else if constexpr (std::derived_from<T, std::exception>) {
      append(out, static_cast<const std::exception&>(value).what());
    } else if constexpr (DurationLike<T>) {
      Shown(value.count()).appendTo(out);
      appendUnit(out, T::period::num, T::period::den);
    } else if constexpr (BytesLike<T>) {
      appendBytes(out, value.data(), value.size());
    } else if constexpr (OptionalLike<T>) {
      if (value.has_value()) {
        Shown(*value).appendTo(out);
      } else {
        append(out, "none");
      }
    }
  }
};

#undef TROTH_DETAIL_NOT_SHOWABLE

/// The values of one message, as a list from the last to the first: all its parts are temporaries of one expression.
class Values {
public:
  Values() noexcept = default;

  friend Values operator,(const Values& before, const Shown& value) noexcept { return Values(&before, &value); }

  /// Null in the one that stands before the first value.
  const Shown* value() const noexcept { return value_; }
  const Values* before() const noexcept { return before_; }

private:
  const Values* before_ = nullptr;
  const Shown* value_ = nullptr;

  Values(const Values* before, const Shown* value) noexcept : before_(before), value_(value) {}
};

/// How one side of a comparison is passed on: a scalar by value.
template <typename T>
using Side = std::conditional_t<std::is_scalar_v<T>, T, const std::remove_reference_t<T>&>;

/// One side of a comparison with something of type Other.
template <typename T, typename Other>
Shown showSide(const T& value) noexcept {
  if constexpr (!isShowable<T>()) {
    return Shown::unknown();
  } else if constexpr (std::is_pointer_v<T> && (std::is_pointer_v<Other> || std::is_null_pointer_v<Other>)) {
    return Shown::address(value); // two pointers to char are a place and its end more often than texts
  } else {
    return Shown(value);
  }
}

// --- Conditions ---

/// The outcome of a condition, with the text of its two sides if it is a comparison that failed. The text is made at
/// once: temporaries in the condition are gone when the message is made.
class [[nodiscard]] Checked {
public:
  template <typename T>
    requires(!std::same_as<std::remove_cvref_t<T>, Checked>)
  constexpr explicit Checked(T&& condition) : passed_(static_cast<bool>(std::forward<T>(condition))) {}
  Checked(const Checked&) = delete;
  Checked& operator=(const Checked&) = delete;
  constexpr ~Checked() {
    if (sides_ != nullptr) discard(sides_);
  }

  template <typename L, typename R>
  static constexpr Checked comparison(bool holds, L left, const char* op, R right) {
    if (holds) [[likely]]
      return Checked(true);
    return Checked(Failed{failed<L, R>(left, op, right)});
  }

  constexpr bool passed() const noexcept { return passed_; }
  constexpr explicit operator bool() const noexcept { return passed_; }
  /// "(1 == 2)", or null.
  const std::string* sides() const noexcept { return sides_; }

private:
  bool passed_;
  std::string* sides_ = nullptr;

  struct Failed {
    std::string* sides;
  };
  explicit Checked(Failed f) noexcept : passed_(false), sides_(f.sides) {}

  template <typename L, typename R>
  [[gnu::cold, gnu::noinline]] static std::string* failed(L left, const char* op, R right) noexcept {
    using Left = std::remove_cvref_t<L>;
    using Right = std::remove_cvref_t<R>;
    return describeSides(showSide<Left, Right>(left), op, showSide<Right, Left>(right));
  }
  static std::string* describeSides(const Shown& left, const char* op, const Shown& right) noexcept;
  [[gnu::cold, gnu::noinline]] static void discard(std::string* sides) noexcept;
};

// The warning about signs would come for every comparison with a literal: within the templates it has no value.
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-compare"
#endif

// Comparisons end the decomposition; all the other operators give what they give without it.
#define TROTH_DETAIL_COMPARISON(op)                                                                                    \
  template <Scalar R>                                                                                                  \
  constexpr Checked operator op(R right) {                                                                             \
    return Checked::comparison<Side<T>, Side<R>>(static_cast<bool>(left_ op right), left_, #op, right);                \
  }                                                                                                                    \
  template <typename R>                                                                                                \
    requires(!Scalar<R>)                                                                                               \
  constexpr Checked operator op(R&& right) {                                                                           \
    return Checked::comparison<Side<T>, Side<R>>(static_cast<bool>(left_ op right), left_, #op, right);                \
  }
#define TROTH_DETAIL_OPERATION(op)                                                                                     \
  template <Scalar R>                                                                                                  \
  constexpr decltype(auto) operator op(R right) {                                                                      \
    return static_cast<T>(left_) op right;                                                                             \
  }                                                                                                                    \
  template <typename R>                                                                                                \
    requires(!Scalar<R>)                                                                                               \
  constexpr decltype(auto) operator op(R&& right) {                                                                    \
    return static_cast<T>(left_) op std::forward<R>(right);                                                            \
  }

/// The left operand of a condition. T is a scalar or a reference.
template <typename T>
class Operand {
public:
  constexpr explicit Operand(T left) noexcept : left_(static_cast<T>(left)) {}

  constexpr explicit operator bool() { return static_cast<bool>(static_cast<T>(left_)); }

  TROTH_DETAIL_COMPARISON(==)
  TROTH_DETAIL_COMPARISON(!=)
  TROTH_DETAIL_COMPARISON(<)
  TROTH_DETAIL_COMPARISON(<=)
  TROTH_DETAIL_COMPARISON(>)
  TROTH_DETAIL_COMPARISON(>=)
  TROTH_DETAIL_OPERATION(<=>)
  TROTH_DETAIL_OPERATION(&)
  TROTH_DETAIL_OPERATION(|)
  TROTH_DETAIL_OPERATION(^)

private:
  T left_;
};

#undef TROTH_DETAIL_COMPARISON
#undef TROTH_DETAIL_OPERATION
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

struct Decompose {
  template <Scalar T>
  friend constexpr Operand<T> operator<=>(Decompose, T left) noexcept {
    return Operand<T>(left);
  }
  template <typename T>
    requires(!Scalar<T>)
  friend constexpr Operand<T&&> operator<=>(Decompose, T&& left) noexcept {
    return Operand<T&&>(std::forward<T>(left));
  }
};

// --- Failures ---

[[noreturn, gnu::cold, gnu::noinline]] void requirementFailed(const char* condition, const Checked& checked,
                                                              const char* names, std::source_location where,
                                                              const Values& values);
[[noreturn, gnu::cold, gnu::noinline]] void assertionFailed(const char* condition, const Checked& checked,
                                                            const char* names, std::source_location where,
                                                            const Values& values);
[[noreturn, gnu::cold, gnu::noinline]] void fail(const char* names, std::source_location where, const Values& values);

/// The kind of an exception, or the code that gives it.
struct Cause {
  Exception::Kind kind;
  std::error_code code;

  Cause(Exception::Kind k) noexcept : kind(k) {}
  Cause(const std::error_code& c) noexcept : kind(Exception::kindOf(c)), code(c) {}
  Cause(std::errc c) noexcept : Cause(std::make_error_code(c)) {}
};

[[gnu::cold, gnu::noinline]] Exception makeException(const Cause& cause, const char* names, std::source_location where,
                                                     const Values& values) noexcept;

/// A system call that failed for good. errno is read before the values are evaluated, which may change it.
class FailedSystemCall {
public:
  FailedSystemCall(const char* call, const char* names, std::source_location where) noexcept;
  [[noreturn, gnu::cold, gnu::noinline]] void raise(const Values& values) const;
  /// Whether the last call on this thread failed with EINTR.
  [[gnu::cold, gnu::noinline]] static bool wasInterrupted() noexcept;

private:
  const char* call_;
  const char* names_;
  std::source_location where_;
  int error_;
};

template <typename Call, typename OnFailure>
auto systemCall(Call&& call, OnFailure&& onFailure, const char* text, const char* names, std::source_location where) {
  using Result = decltype(call());
  static_assert(std::integral<Result> && !std::same_as<Result, bool>,
                "TROTH_SYSCALL is for calls that give a number, and -1 with errno set if they fail");
  while (true) {
    const Result result = call();
    if (result != static_cast<Result>(-1)) [[likely]]
      return result;
    if (!FailedSystemCall::wasInterrupted()) onFailure(FailedSystemCall(text, names, where));
  }
}

} // namespace detail
} // namespace v0
} // namespace troth
