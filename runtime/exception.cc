// SPDX-License-Identifier: MIT
// Exception's shared body, and how foreign exceptions and error codes become kinds.
#include <troth/runtime/exception.h>

#include <troth/runtime/trace_detail.h>

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <memory>
#include <new>
#include <typeinfo>
#include <vector>

#if defined(__GNUC__)
#include <cxxabi.h>
#endif

namespace troth {
inline namespace v0 {
namespace detail {

// Immutable once shared, but for the count and `full`. The description stands behind the object, in the same block;
// the text with kind and place is made when somebody asks for it.
struct ExceptionData {
  std::atomic<std::size_t> refs{1};
  Exception::Kind kind = Exception::Kind::FAILED;
  bool isStatic = false;
  std::size_t size = 0; // of the description
  std::source_location where;
  std::error_code code;
  std::exception_ptr original;
  std::vector<TraceStep> trace;
  mutable std::atomic<const std::string*> full{nullptr}; // "description [KIND, file:line]"

  explicit ExceptionData(std::size_t descriptionSize) noexcept : size(descriptionSize) {}
  ~ExceptionData() { delete full.load(std::memory_order_acquire); }

  static std::size_t blockSize(std::size_t descriptionSize) noexcept {
    return sizeof(ExceptionData) + descriptionSize + 1;
  }
  char* text() noexcept { return reinterpret_cast<char*>(this + 1); } // ends with a NUL
  std::string_view description() noexcept { return {text(), size}; }

  static ExceptionRef make(std::string_view description) {
    auto* data = new (::operator new(blockSize(description.size()))) ExceptionData(description.size());
    *std::ranges::copy(description, data->text()).out = '\0';
    return ExceptionRef(data);
  }
  static void destroy(ExceptionData* data) noexcept {
    data->~ExceptionData();
    ::operator delete(data);
  }
};

namespace {

constexpr std::string_view OUT_OF_MEMORY = "out of memory";

} // namespace

ExceptionRef outOfMemory() noexcept {
  // Never destroyed: an exception may outlive every static object.
  alignas(ExceptionData) static std::byte storage[sizeof(ExceptionData) + OUT_OF_MEMORY.size() + 1];
  static ExceptionData* data = [] {
    auto* made = new (storage) ExceptionData(OUT_OF_MEMORY.size());
    *std::ranges::copy(OUT_OF_MEMORY, made->text()).out = '\0';
    made->kind = Exception::Kind::OVERLOADED;
    made->code = std::make_error_code(std::errc::not_enough_memory);
    made->isStatic = true;
    return made;
  }();
  return ExceptionRef(data);
}

namespace {

ExceptionRef make(Exception::Kind kind, std::string_view description, std::error_code code,
                  const std::source_location& where, std::exception_ptr original) noexcept {
  try {
    ExceptionRef ref = ExceptionData::make(description);
    ExceptionData& data = *ref.get();
    data.kind = kind;
    data.where = where;
    data.code = code;
    data.original = std::move(original);
    return ref;
  } catch (...) {
    return outOfMemory();
  }
}

std::string typeName(const std::type_info& type) {
#if defined(__GNUC__)
  int status = 0;
  char* name = abi::__cxa_demangle(type.name(), nullptr, nullptr, &status);
  if (name != nullptr) {
    std::string copy = name;
    std::free(name);
    return copy;
  }
#endif
  return type.name();
}

} // namespace

std::string_view fileName(const std::source_location& where) noexcept {
  std::string_view path = where.file_name();
  while (path.starts_with("../")) path.remove_prefix(3);
  return path;
}

void ExceptionRef::addRef() const noexcept {
  if (!data_->isStatic) data_->refs.fetch_add(1, std::memory_order_relaxed);
}

void ExceptionRef::release() noexcept {
  if (data_->isStatic) return;
  if (data_->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) ExceptionData::destroy(data_);
}

namespace {

// What the library threw last on this thread, until the thrown object goes.
struct Thrown {
  ExceptionRef ref;
  const Exception* object = nullptr;
  int depth = 0; // std::uncaught_exceptions() while it flies
};

thread_local Thrown thrown;

class ThrownException final : public Exception {
public:
  explicit ThrownException(ExceptionRef ref) noexcept : Exception(std::move(ref)) {
    thrown = {this->ref(), this, std::uncaught_exceptions() + 1};
  }
  ThrownException(const ThrownException&) noexcept = default;
  ThrownException& operator=(const ThrownException&) noexcept = default;
  ~ThrownException() override {
    if (thrown.object == this) thrown = {};
  }
};

} // namespace

void ExceptionRef::rethrow() const {
  if (data_->original != nullptr) std::rethrow_exception(data_->original);
  throw ThrownException(*this);
}

namespace {

// The foreign exception that a co_await threw last on this thread: its body has the trace.
thread_local ExceptionRef awaited;

} // namespace

void ExceptionRef::rethrowFromAwait() const {
  if (data_->original != nullptr) awaited = *this;
  rethrow();
}

// Wrong in one case: when an exception that the library threw was caught and is kept (by a std::exception_ptr), and
// then one of somebody else's unwinds.
ExceptionRef exceptionInFlight() noexcept {
  if (thrown.object == nullptr || std::uncaught_exceptions() != thrown.depth) return {};
  // One that is being handled does not fly: another one does, which was thrown by the handler.
  if (const std::exception_ptr handled = std::current_exception()) {
    try {
      std::rethrow_exception(handled);
    } catch (const Exception& e) {
      if (&e == thrown.object) return {};
    } catch (...) {
      // Some other one.
    }
  }
  return thrown.ref;
}

bool ExceptionRef::hasTrace() const noexcept { return !data_->trace.empty(); }

void ExceptionRef::setTrace(const Trace& trace) noexcept {
  if (trace.isEmpty() || data_->isStatic) return;
  try {
    std::vector<TraceStep> steps(trace.begin(), trace.end());
    if (data_->refs.load(std::memory_order_acquire) != 1) {
      ExceptionRef copy = ExceptionData::make(data_->description());
      ExceptionData& data = *copy.get();
      data.kind = data_->kind;
      data.where = data_->where;
      data.code = data_->code;
      data.original = data_->original;
      *this = std::move(copy);
    }
    data_->trace = std::move(steps);
  } catch (...) {
    // The trace is a courtesy.
  }
}

void throwMisuse(std::string_view what, std::source_location where) {
  throw ThrownException(make(Exception::Kind::FAILED, what, {}, where, nullptr));
}

void fatal(std::string_view what, std::source_location where) noexcept {
  std::fprintf(stderr, "troth: fatal: %.*s", static_cast<int>(what.size()), what.data());
  const std::string_view file = fileName(where);
  if (where.line() != 0)
    std::fprintf(stderr, " [%.*s:%u]", static_cast<int>(file.size()), file.data(), static_cast<unsigned>(where.line()));
  std::fputc('\n', stderr);
  std::abort();
}

} // namespace detail

Exception::Exception(Kind kind, std::string_view description, std::error_code code, std::source_location where) noexcept
    : ref_(detail::make(kind, description, code, where, nullptr)) {}

Exception Exception::fromCurrent() noexcept {
  if (detail::awaited && detail::awaited.get()->original == std::current_exception())
    return Exception(std::move(detail::awaited));
  try {
    throw;
  } catch (const Exception& e) {
    return e;
  } catch (const std::bad_alloc&) {
    return Exception(detail::make(Kind::OVERLOADED, detail::OUT_OF_MEMORY,
                                  std::make_error_code(std::errc::not_enough_memory), {}, std::current_exception()));
  } catch (const std::system_error& e) {
    return Exception(detail::make(kindOf(e.code()), e.what(), e.code(), {}, std::current_exception()));
  } catch (const std::future_error& e) { // has a code without being a system_error
    return Exception(detail::make(kindOf(e.code()), e.what(), e.code(), {}, std::current_exception()));
  } catch (const std::exception& e) {
    return Exception(detail::make(Kind::FAILED, e.what(), {}, {}, std::current_exception()));
  } catch (...) {
    std::exception_ptr current = std::current_exception();
    std::string description;
    try {
#if defined(__GNUC__)
      if (const std::type_info* type = abi::__cxa_current_exception_type())
        description = fmt::format("exception of type {}", detail::typeName(*type));
#endif
    } catch (...) {
      // The name is a courtesy; without memory for it a general text stands.
    }
    std::string_view text = "exception of a type that is not a std::exception";
    if (!description.empty()) text = description;
    return Exception(detail::make(Kind::FAILED, text, {}, {}, std::move(current)));
  }
}

Exception Exception::from(const std::exception_ptr& exception) noexcept {
  try {
    std::rethrow_exception(exception);
  } catch (...) {
    return fromCurrent();
  }
}

// After KJ's classification in kj/exception.c++ (typeOfErrno), in terms of std::errc so that the codes of
// every category that maps to generic conditions are covered.
Exception::Kind Exception::kindOf(const std::error_code& code) noexcept {
  const std::error_condition condition = code.default_error_condition();
  if (condition.category() != std::generic_category()) return Kind::FAILED;
  switch (static_cast<std::errc>(condition.value())) {
  case std::errc::too_many_files_open:
  case std::errc::too_many_files_open_in_system:
  case std::errc::no_buffer_space:
  case std::errc::not_enough_memory:
  case std::errc::no_space_on_device:
  case std::errc::no_lock_available:
  case std::errc::resource_unavailable_try_again:
  case std::errc::timed_out:
    return Kind::OVERLOADED;
  case std::errc::connection_aborted:
  case std::errc::connection_refused:
  case std::errc::connection_reset:
  case std::errc::host_unreachable:
  case std::errc::network_down:
  case std::errc::network_reset:
  case std::errc::network_unreachable:
  case std::errc::not_connected:
  case std::errc::broken_pipe:
    return Kind::DISCONNECTED;
  case std::errc::function_not_supported:
  case std::errc::operation_not_supported:
  case std::errc::no_protocol_option:
  case std::errc::protocol_not_supported:
  case std::errc::address_family_not_supported:
    return Kind::UNIMPLEMENTED;
  default:
    return Kind::FAILED;
  }
}

Exception::Kind Exception::kind() const noexcept { return ref_.get()->kind; }

std::string_view Exception::description() const noexcept { return ref_.get()->description(); }

const std::source_location& Exception::where() const noexcept { return ref_.get()->where; }
const std::error_code& Exception::code() const noexcept { return ref_.get()->code; }
std::exception_ptr Exception::original() const noexcept { return ref_.get()->original; }

std::string Exception::trace() const {
  const std::vector<detail::TraceStep>& steps = ref_.get()->trace;
  return detail::formatSteps(steps.data(), steps.size());
}

Exception Exception::withContext(std::string_view context) const noexcept {
  try {
    return Exception(detail::make(kind(), fmt::format("{}: {}", context, description()), code(), where(), nullptr));
  } catch (...) {
    return *this;
  }
}

const char* Exception::what() const noexcept {
  detail::ExceptionData& data = *ref_.get();
  if (data.isStatic) return data.text();
  if (const std::string* full = data.full.load(std::memory_order_acquire)) return full->c_str();
  try {
    auto full = std::make_unique<const std::string>(data.where.line() == 0
                                                        ? fmt::format("{} [{}]", description(), kindName(kind()))
                                                        : fmt::format("{} [{}, {}:{}]", description(), kindName(kind()),
                                                                      detail::fileName(data.where), data.where.line()));
    // Another thread may have been quicker.
    const std::string* other = nullptr;
    if (!data.full.compare_exchange_strong(other, full.get(), std::memory_order_acq_rel)) return other->c_str();
    return full.release()->c_str();
  } catch (...) {
    return data.text();
  }
}

std::string_view kindName(Exception::Kind kind) noexcept {
  switch (kind) {
  case Exception::Kind::FAILED:
    return "FAILED";
  case Exception::Kind::OVERLOADED:
    return "OVERLOADED";
  case Exception::Kind::DISCONNECTED:
    return "DISCONNECTED";
  case Exception::Kind::UNIMPLEMENTED:
    return "UNIMPLEMENTED";
  }
  return "unknown kind";
}

} // namespace v0
} // namespace troth
