// SPDX-License-Identifier: MIT
// What a request is asked for that is not at hand.
#include <troth/net/http/service.h>

#include <troth/net/http/wire_detail.h>

namespace troth {
inline namespace v0 {
namespace http {

namespace {

// The authority in a target of absolute form; empty in other forms.
std::string_view authorityOf(std::string_view target) noexcept {
  if (target.empty() || target.front() == '/') return {};
  const std::size_t start = target.find("://");
  if (start == std::string_view::npos) return {};
  const std::string_view rest = target.substr(start + 3);
  return rest.substr(0, rest.find_first_of("/?"));
}

} // namespace

std::string_view Request::path() const noexcept {
  if (method_ == Method::CONNECT || target_ == "*") return {};
  std::string_view rest = target_;
  if (const std::string_view authority = authorityOf(target_); authority.data() != nullptr)
    rest = target_.substr(static_cast<std::size_t>(authority.data() + authority.size() - target_.data()));
  rest = rest.substr(0, rest.find('?'));
  return rest.empty() ? std::string_view("/") : rest;
}

std::string_view Request::query() const noexcept {
  const std::size_t mark = target_.find('?');
  return mark == std::string_view::npos ? std::string_view() : target_.substr(mark + 1);
}

std::string_view Request::authority() const noexcept {
  if (method_ == Method::CONNECT) return target_;
  const std::string_view authority = authorityOf(target_);
  return authority.data() != nullptr ? authority : headers_.valueOr(HeaderId::HOST, {});
}

HeaderFields Request::trailers() const noexcept { return trailers_ == nullptr ? HeaderFields() : *trailers_; }

std::string_view Request::parameter(std::string_view name) const noexcept {
  for (const Parameter& parameter : parameters_)
    if (parameter.name == name) return parameter.value;
  return {};
}

void Request::setParameter(std::string_view name, std::string_view value) {
  for (Parameter& parameter : parameters_) {
    if (parameter.name != name) continue;
    parameter.value = value;
    return;
  }
  parameters_.push_back({detail::PoolString(name), detail::PoolString(value)});
}

Promise<void> Response::sendOwned(int status, std::string body, std::source_location where) {
  auto kept = std::make_unique<std::string>(std::move(body)); // it stays where it is when the promise moves
  Promise<void> sent = send(status, std::string_view(*kept), where);
  if (detail::isReady(sent)) return sent;
  return std::move(sent).attach(std::move(kept));
}

} // namespace http
} // namespace v0
} // namespace troth
