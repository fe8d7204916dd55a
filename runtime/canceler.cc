// SPDX-License-Identifier: MIT
// Canceler: a list of what it can cancel.
#include <troth/runtime/canceler.h>

namespace troth {
inline namespace v0 {

Canceler::~Canceler() {
  if (isEmpty()) return;
  if (detail::ExceptionRef cause = detail::exceptionInFlight())
    cancel(Exception(std::move(cause)));
  else
    cancel("operation canceled");
}

void Canceler::cancel(const Exception& reason) {
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
