// SPDX-License-Identifier: MIT
// Accepting from several receivers: from all of them each time; what comes for the ones that are too late, they keep.
#include <troth/net/aggregate_receiver.h>

#include <troth/net/peer_identity.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>

namespace troth {
inline namespace v0 {
namespace {

class AggregateReceiver final : public ConnectionReceiver {
public:
  explicit AggregateReceiver(std::vector<std::unique_ptr<ConnectionReceiver>> receivers) noexcept
      : receivers_(std::move(receivers)) {}

  Promise<std::unique_ptr<AsyncIoStream>> accept(std::source_location where) override {
    return firstOf([where](ConnectionReceiver& receiver) { return receiver.accept(where); }, where);
  }
  Promise<AuthenticatedStream> acceptAuthenticated(std::source_location where) override {
    return firstOf([where](ConnectionReceiver& receiver) { return receiver.acceptAuthenticated(where); }, where);
  }

  std::uint16_t getPort() const override {
    const std::uint16_t port = receivers_.front()->getPort();
    return std::ranges::all_of(receivers_, [port](auto& other) { return other->getPort() == port; }) ? port : 0;
  }
  std::string toString() const override {
    std::string text = receivers_.front()->toString();
    for (std::size_t i = 1; i < receivers_.size(); ++i) text += ", " + receivers_[i]->toString();
    return text;
  }
  std::optional<int> descriptor() const override {
    return receivers_.size() == 1 ? receivers_.front()->descriptor() : std::nullopt;
  }

private:
  std::vector<std::unique_ptr<ConnectionReceiver>> receivers_;
  std::size_t first_ = 0; // who is asked first: in turn each is in every place, whichever counts if several are ready

  // The promises of the receivers are clean when cancelled, ready or not, and an exclusiveJoin() takes the result of
  // one of them when its own is taken: so nothing is lost.
  template <typename Accept>
  std::invoke_result_t<Accept, ConnectionReceiver&> firstOf(Accept accept, std::source_location where) {
    const auto at = [this](std::size_t i) -> auto& { return *receivers_[(first_ + i) % receivers_.size()]; };
    auto promise = accept(at(0));
    for (std::size_t i = 1; i < receivers_.size(); ++i)
      promise = std::move(promise).exclusiveJoin(accept(at(i)), where);
    first_ = (first_ + 1) % receivers_.size();
    return promise;
  }
};

} // namespace

std::unique_ptr<ConnectionReceiver> newAggregateReceiver(std::vector<std::unique_ptr<ConnectionReceiver>> receivers,
                                                         std::source_location where) {
  if (receivers.empty()) detail::throwMisuse("newAggregateReceiver: there are no receivers", where);
  for (const std::unique_ptr<ConnectionReceiver>& receiver : receivers)
    if (receiver == nullptr) detail::throwMisuse("newAggregateReceiver: a receiver is null", where);
  return std::make_unique<AggregateReceiver>(std::move(receivers));
}

} // namespace v0
} // namespace troth
