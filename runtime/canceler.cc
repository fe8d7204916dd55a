// SPDX-License-Identifier: MIT
// Canceler: a list of what it can cancel.
#include <troth/runtime/canceler.h>

namespace troth {
inline namespace v0 {

void detail::destroyedWhileCancelling(std::source_location where) noexcept {
  fatal("a promise was destroyed by a destructor of the work that its Canceler is destroying", where);
}

Canceler::~Canceler() {
  if (isEmpty()) return;
  detail::ExceptionRef cause = detail::exceptionInFlight();
  const Exception reason =
      cause ? Exception(std::move(cause)) : Exception(Exception::Kind::DISCONNECTED, "operation canceled");
  while (!isEmpty()) cancel(reason); // destructors may wrap more
}

void Canceler::cancel(Exception reason) {
  // Destroying one promise may destroy others of the list, or add to it: what is to be cancelled hangs from its own
  // head, out of which whatever goes unlinks itself.
  detail::CancelerLink* cancelled = std::exchange(first_, nullptr);
  if (cancelled != nullptr) cancelled->moveHead(cancelled);
  while (cancelled != nullptr) {
    detail::CancelerLink& link = *cancelled;
    link.unlink();
    link.cancel(reason);
  }
}

void Canceler::cancel(std::string_view reason, std::source_location where) {
  cancel(Exception(Exception::Kind::DISCONNECTED, reason, {}, where));
}

void Canceler::release() noexcept {
  while (first_ != nullptr) first_->unlink();
}

} // namespace v0
} // namespace troth
