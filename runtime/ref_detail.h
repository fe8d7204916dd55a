// SPDX-License-Identifier: MIT
// Counted and Ref: shared ownership on one thread, such as that of a stream's state by its operations.
#pragma once

#include <cstdint>
#include <utility>

namespace troth {
inline namespace v0 {
namespace detail {

template <typename T>
class Ref;

/// What references are counted to; it is deleted with the last. To be inherited by the class that is made with `new`.
class Counted {
public:
  Counted() noexcept = default;
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

protected:
  ~Counted() = default;

private:
  template <typename>
  friend class Ref;

  std::uint32_t references_ = 0;
};

/// One reference to a T, which inherits Counted.
template <typename T>
class Ref {
public:
  Ref() noexcept = default;
  explicit Ref(T& object) noexcept : object_(&object) { add(object); }
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref& operator=(Ref&& other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() {
    if (object_ != nullptr) drop(*object_);
  }

  /// One more reference, and one less: for who counts without holding a Ref.
  static void add(T& object) noexcept { ++static_cast<Counted&>(object).references_; }
  static void drop(T& object) noexcept {
    if (--static_cast<Counted&>(object).references_ == 0) [[unlikely]]
      destroy(&object);
  }

  /// Whether nobody else has one. Not for an empty Ref.
  bool isOnly() const noexcept { return static_cast<const Counted&>(*object_).references_ == 1; }

  T* operator->() const noexcept { return object_; }
  T& operator*() const noexcept { return *object_; }
  explicit operator bool() const noexcept { return object_ != nullptr; }

private:
  T* object_ = nullptr;

  [[gnu::noinline, gnu::cold]] static void destroy(T* object) noexcept { delete object; }
};

} // namespace detail
} // namespace v0
} // namespace troth
