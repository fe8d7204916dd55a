// SPDX-License-Identifier: MIT
// Collector: keeps what comes from outside until a promise takes it. What the watches of signals and of files share.
#pragma once

#include <troth/runtime/promise.h>

#include <cstdint>
#include <source_location>
#include <string>

namespace troth {
inline namespace v0 {
namespace detail {

/// Collects for one promise at a time. What was collected is the collector's until the promise's result is taken, so
/// a promise that is destroyed, ready or not, loses nothing.
///
/// It is counted: its watch holds it until it calls close(), and a promise does until it is destroyed.
template <typename T>
class Collector : public Pooled {
public:
  /// `operation` is the name of the function that gives the promises, a literal.
  explicit Collector(const char* operation) noexcept : operation_(operation), op_(*this) {}

  /// A promise for what there is, or for what comes.
  Promise<T> next(std::source_location where) {
    if (!op_.isFree())
      throwMisuse(std::string(operation_) + ": another one is pending, or its result has not been taken", where);
    op_.begin(where);
    ++references_;
    Promise<T> promise = PromiseAccess::wrap<T>(&op_);
    if (hasItems()) op_.becomeReady();
    return promise;
  }

  /// The watch is destroyed.
  void close() noexcept {
    stop();
    if (op_.isPending()) op_.disconnect();
    dropReference();
  }

protected:
  virtual ~Collector() = default;

  /// Something has been collected: there are items now.
  void arrived() noexcept {
    if (op_.isPending()) op_.becomeReady();
  }

private:
  class Op final : public SourceNode {
  public:
    explicit Op(Collector& collector) noexcept : SourceNode(std::source_location()), collector_(collector) {}

    bool isFree() const noexcept { return free_; }
    bool isPending() const noexcept { return !free_ && !isReady(); }

    void begin(std::source_location where) noexcept {
      resetSource(EventLoop::currentOrNull());
      free_ = false;
      where_ = where;
    }
    void becomeReady() noexcept { setReady(); }
    void disconnect() noexcept {
      setFailed(result_, Exception(Exception::Kind::DISCONNECTED, "the watch was destroyed", {}, where_)
                             .withContext(collector_.operation_));
    }

    ResultBase& get(ResultBase*) noexcept override {
      if (result_.exception) return result_;
      try {
        result_.value.emplace(collector_.takeItems());
      } catch (...) {
        result_.exception = Exception::fromCurrent().ref();
      }
      return result_;
    }
    void destroy() noexcept override {
      requireThreadToGo();
      free_ = true;
      result_ = {};
      collector_.dropReference();
    }
    const char* name() const noexcept override { return collector_.operation_; }

  private:
    Collector& collector_;
    Result<T> result_;
    bool free_ = true;
  };

  const char* operation_;
  std::uint32_t references_ = 1;
  Op op_;

  virtual bool hasItems() const noexcept = 0;
  /// Called only if there are items. If it throws they are still there.
  virtual T takeItems() = 0;
  /// Nothing is to be collected any more.
  virtual void stop() noexcept = 0;

  void dropReference() noexcept {
    if (--references_ == 0) delete this;
  }
};

} // namespace detail
} // namespace v0
} // namespace troth
