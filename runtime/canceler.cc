// SPDX-License-Identifier: MIT
// Canceler: a list of what it can cancel.
#include <troth/runtime/canceler.h>

namespace troth {
inline namespace v0 {

void detail::CancelerLink::moveInFront(CancelerLink*& from, CancelerLink*& to) noexcept {
  if (from == nullptr) return;
  CancelerLink** end = &from;
  while (*end != nullptr) end = &(*end)->next_;
  *end = to;
  if (to != nullptr) to->link_ = end;
  to = std::exchange(from, nullptr);
  to->link_ = &to;
}

void detail::destroyedWhileCancelling(std::source_location where) noexcept {
  fatal("a promise was destroyed by a destructor of the work that its Canceler is destroying", where);
}

Canceler::~Canceler() {
  detail::requireDestructorsAllowed("a Canceler");
  if (!isEmpty()) {
    detail::ExceptionRef cause = detail::exceptionInFlight();
    const Exception reason =
        cause ? Exception(std::move(cause)) : Exception(Exception::Kind::DISCONNECTED, "operation canceled");
    while (!isEmpty()) cancel(reason); // destructors may wrap more
  }
  if (gone_ != nullptr) *gone_ = true;
}

// Destroying one promise may destroy others, wrap more, cancel again or destroy the canceler. Whatever goes unlinks
// itself; what is wrapped meanwhile is in the other list; and a cancel() within this one leaves nothing to it.
void Canceler::cancel(Exception reason) {
  detail::CancelerLink::moveInFront(first_, cancelled_);
  bool gone = false;
  bool* const outer = std::exchange(gone_, &gone);
  while (cancelled_ != nullptr) {
    detail::CancelerLink& link = *cancelled_;
    link.unlink();
    link.cancel(reason);
    if (gone) {
      if (outer != nullptr) *outer = true;
      return;
    }
  }
  gone_ = outer;
}

void Canceler::cancel(std::string_view reason, std::source_location where) {
  cancel(Exception(Exception::Kind::DISCONNECTED, reason, {}, where));
}

void Canceler::release() noexcept {
  while (first_ != nullptr) first_->unlink();
  while (cancelled_ != nullptr) cancelled_->unlink();
}

} // namespace v0
} // namespace troth
