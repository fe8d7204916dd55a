// SPDX-License-Identifier: MIT
// Channel: room and back-pressure, both ways of closing, cancellation, the ends, misuse.
#include "cancel_check.h"
#include "helpers.h"

#include <troth/runtime/channel.h>
#include <troth/runtime/task_set.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

bool isReady(Promise<void> promise, WaitScope& scope) { return promise.poll(scope); }

std::vector<int> upTo(int end) {
  std::vector<int> numbers(static_cast<std::size_t>(end));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

Promise<void> sendAll(Channel<int>& channel, int from, int to) {
  for (int i = from; i < to; ++i) co_await channel.send(i);
}

Promise<void> receiveAll(Channel<int>& channel, std::vector<int>& to) {
  while (std::optional<int> item = co_await channel.receive()) to.push_back(*item);
}

} // namespace

// --- Room

TEST_CASE_FIXTURE(LoopTest, "sends complete at once until the channel is full, and then with each receive, in order") {
  Channel<int> channel(2);
  CHECK(channel.capacity() == 2);
  CHECK(isReady(channel.send(0), scope));
  CHECK(isReady(channel.send(1), scope));
  Promise<void> second = channel.send(2);
  Promise<void> third = channel.send(3);
  CHECK(channel.size() == 2);
  takeAfter(second, scope, [&] { CHECK(channel.receive().wait(scope) == 0); });
  CHECK_FALSE(third.poll(scope));
  takeAfter(third, scope, [&] { CHECK(channel.receive().wait(scope) == 1); });
  CHECK(channel.receive().wait(scope) == 2);
  CHECK(channel.receive().wait(scope) == 3);
  CHECK(channel.size() == 0);
}

TEST_CASE_FIXTURE(LoopTest, "with a capacity of 0 a send waits for its receive") {
  Channel<int> channel(0);
  Promise<void> send = channel.send(1);
  CHECK(channel.size() == 0);
  std::optional<Promise<std::optional<int>>> receive;
  takeAfter(send, scope, [&] { receive.emplace(channel.receive()); });
  CHECK(std::move(*receive).wait(scope) == 1);
  Promise<std::optional<int>> waiting = channel.receive();
  CHECK(takeAfter(waiting, scope, [&] { CHECK(isReady(channel.send(2), scope)); }) == 2);
  Promise<void> next = channel.send(3);
  CHECK_FALSE(next.poll(scope));
}

TEST_CASE_FIXTURE(LoopTest, "an item for a receive that waits needs no room") {
  Channel<int> channel(1);
  Promise<std::optional<int>> first = channel.receive();
  Promise<std::optional<int>> second = channel.receive();
  for (int i = 0; i < 3; ++i) CHECK(isReady(channel.send(i), scope));
  CHECK_FALSE(isReady(channel.send(3), scope));
  CHECK(std::move(second).wait(scope) == 1);
  CHECK(std::move(first).wait(scope) == 0);
  CHECK(channel.receive().wait(scope) == 2);
}

TEST_CASE_FIXTURE(LoopTest, "trySend takes its argument only if it is accepted") {
  Channel<std::unique_ptr<int>> channel(1);
  auto first = std::make_unique<int>(1);
  auto second = std::make_unique<int>(2);
  CHECK(channel.trySend(std::move(first)));
  CHECK(first == nullptr);
  CHECK_FALSE(channel.trySend(std::move(second)));
  CHECK(second != nullptr);
  CHECK(**channel.tryReceive() == 1);
  CHECK(channel.trySend(std::move(second)));
  channel.close();
  CHECK(**channel.tryReceive() == 2);
  CHECK_FALSE(channel.trySend(nullptr));
}

TEST_CASE_FIXTURE(LoopTest, "trySend and tryReceive do not get in front of those who wait") {
  Channel<int> channel(1);
  CHECK(channel.trySend(0));
  Promise<void> send = channel.send(1);
  CHECK_FALSE(channel.trySend(2));
  Promise<std::optional<int>> receive = channel.receive();
  CHECK(send.poll(scope));
  CHECK(channel.tryReceive() == 1); // 0 belongs to the receive
  CHECK_FALSE(channel.tryReceive());
  CHECK(std::move(receive).wait(scope) == 0);
  Promise<std::optional<int>> waiting = channel.receive();
  CHECK_FALSE(channel.tryReceive());
  CHECK(channel.trySend(3));
  CHECK_FALSE(channel.tryReceive());
  CHECK(std::move(waiting).wait(scope) == 3);
}

TEST_CASE_FIXTURE(LoopTest, "tryReceive lets a send that waits go on, with any capacity") {
  for (std::size_t capacity = 0; capacity < 3; ++capacity) {
    CAPTURE(capacity);
    Channel<int> channel(capacity);
    const int accepted = static_cast<int>(capacity);
    for (int i = 0; i < accepted; ++i) CHECK(channel.trySend(i));
    Promise<void> send = channel.send(accepted);
    takeAfter(send, scope, [&] { CHECK(channel.tryReceive() == 0); });
    for (int i = 1; i <= accepted; ++i) CHECK(channel.tryReceive() == i);
    CHECK_FALSE(channel.tryReceive());
  }
}

// --- Closing

TEST_CASE_FIXTURE(LoopTest, "after close what was sent is received, and then nothing, for ever") {
  Channel<int> channel(2);
  CHECK(channel.trySend(0));
  CHECK(channel.trySend(1));
  Promise<void> pending = channel.send(2);
  CHECK_FALSE(channel.isClosed());
  channel.close();
  channel.close();
  CHECK(channel.isClosed());
  CHECK_FALSE(pending.poll(scope));
  const Exception e = failureOf(channel.send(9), scope);
  CHECK(kindName(e) == "DISCONNECTED");
  CHECK(fileOf(e) == "channel_test.cc");
  std::vector<int> seen;
  receiveAll(channel, seen).wait(scope);
  CHECK(seen == upTo(3));
  std::move(pending).wait(scope);
  CHECK(channel.receive().wait(scope) == std::nullopt);
}

TEST_CASE_FIXTURE(LoopTest, "close ends the receives that wait, and not those that have an item") {
  Channel<int> channel(0);
  Promise<std::optional<int>> first = channel.receive();
  Promise<std::optional<int>> second = channel.receive();
  CHECK(channel.trySend(1));
  CHECK(takeAfter(second, scope, [&] { channel.close(); }) == std::nullopt);
  CHECK(std::move(first).wait(scope) == 1);
}

TEST_CASE_FIXTURE(LoopTest, "the last item goes to the receive behind one that is cancelled, even after the end was told") {
  Channel<int> channel(0);
  std::optional<Promise<std::optional<int>>> first = channel.receive();
  Promise<std::optional<int>> second = channel.receive();
  CHECK(channel.trySend(1));
  channel.close();
  CHECK(second.poll(scope));
  first.reset();
  CHECK(std::move(second).wait(scope) == 1);
  CHECK(channel.receive().wait(scope) == std::nullopt);
}

TEST_CASE_FIXTURE(LoopTest, "a send that waits at close and is withdrawn is not waited for") {
  Channel<int> channel(0);
  std::optional<Promise<void>> send = channel.send(1);
  channel.close();
  send.reset();
  CHECK(channel.receive().wait(scope) == std::nullopt);
}

TEST_CASE_FIXTURE(LoopTest, "closeReceiver fails the sends that wait and later ones; what was accepted can be received") {
  Channel<int> channel(1);
  CHECK(channel.trySend(1));
  Promise<void> pending = channel.send(2);
  channel.closeReceiver();
  CHECK(channel.isClosed());
  const Exception e = failureOf(std::move(pending), scope);
  CHECK(kindName(e) == "DISCONNECTED");
  CHECK(fileOf(e) == "channel_test.cc");
  CHECK(kindName(failureOf(channel.send(3), scope)) == "DISCONNECTED");
  CHECK(channel.receive().wait(scope) == 1);
  CHECK(channel.receive().wait(scope) == std::nullopt);
}

TEST_CASE_FIXTURE(LoopTest, "destroying the channel rejects what waits, and ready receives keep their item") {
  auto channel = std::make_unique<Channel<Item>>(0);
  Promise<std::optional<Item>> ready = channel->receive();
  Promise<std::optional<Item>> waiting = channel->receive();
  CHECK(channel->trySend(Item(1)));
  auto other = std::make_unique<Channel<Item>>(0);
  Promise<void> send = other->send(Item(2));
  channel.reset();
  other.reset();
  CHECK(std::move(ready).wait(scope)->number() == 1);
  const Exception e = failureOf(std::move(waiting), scope);
  CHECK(kindName(e) == "DISCONNECTED");
  CHECK(fileOf(e) == "channel_test.cc");
  CHECK(kindName(failureOf(std::move(send), scope)) == "DISCONNECTED");
  CHECK(Item::alive == 0);
}

TEST_CASE_FIXTURE(LoopTest, "receives that were ended, or have their item, outlive the channel") {
  auto channel = std::make_unique<Channel<int>>(1);
  CHECK(channel->trySend(1));
  Promise<std::optional<int>> item = channel->receive();
  Promise<std::optional<int>> end = channel->receive();
  channel->close();
  channel.reset();
  CHECK(std::move(end).wait(scope) == std::nullopt);
  CHECK(std::move(item).wait(scope) == 1);
}

TEST_CASE_FIXTURE(LoopTest, "whoever receives, or sends, may destroy the channel when it goes on") {
  auto channel = std::make_unique<Channel<int>>(0);
  SUBCASE("a receiving coroutine") {
    Promise<void> promise = [](std::unique_ptr<Channel<int>>& c) -> Promise<void> {
      CHECK(co_await c->receive() == 1);
      c.reset();
    }(channel);
    Promise<std::optional<int>> waiting = channel->receive();
    CHECK(channel->trySend(1));
    std::move(promise).wait(scope);
    CHECK(kindName(failureOf(std::move(waiting), scope)) == "DISCONNECTED");
  }
  SUBCASE("a sending continuation") {
    Promise<void> promise = channel->send(1).then([&] { channel.reset(); });
    Promise<void> waiting = channel->send(2);
    Promise<std::optional<int>> receive = channel->receive();
    std::move(promise).wait(scope);
    CHECK(kindName(failureOf(std::move(waiting), scope)) == "DISCONNECTED");
    CHECK(std::move(receive).wait(scope) == 1);
  }
  CHECK(channel == nullptr);
}

// --- Cancellation

TEST_CASE_FIXTURE(LoopTest, "a send that is cancelled while it waits is withdrawn, and one that was accepted stays") {
  Channel<int> channel(1);
  std::vector<std::optional<Promise<void>>> sends;
  for (int i = 0; i < 4; ++i) sends.emplace_back(channel.send(i));
  sends[0].reset();
  sends[2].reset();
  CHECK(channel.receive().wait(scope) == 0);
  CHECK(channel.receive().wait(scope) == 1);
  CHECK(channel.receive().wait(scope) == 3);
  CHECK_FALSE(channel.tryReceive());
}

TEST_CASE_FIXTURE(LoopTest, "a receive that is cancelled when it is ready gives its item to the next, in order") {
  for (std::size_t capacity = 0; capacity < 3; ++capacity) {
    CAPTURE(capacity);
    Channel<int> channel(capacity);
    std::optional<Promise<std::optional<int>>> first = channel.receive();
    std::optional<Promise<std::optional<int>>> second = channel.receive();
    CHECK(channel.trySend(0));
    CHECK(channel.trySend(1));
    Promise<void> others = sendAll(channel, 2, 5);
    second.reset();
    first.reset();
    CHECK(channel.size() >= 2);
    for (int i = 0; i < 5; ++i) CHECK(channel.receive().wait(scope) == i);
    std::move(others).wait(scope);
  }
}

TEST_CASE_FIXTURE(LoopTest, "giving items back leaves no room for a send, even beyond the capacity") {
  Channel<int> channel(1);
  {
    Promise<std::optional<int>> receive = channel.receive();
    CHECK(channel.trySend(0));
    CHECK(channel.trySend(1));
  }
  CHECK(channel.size() == 2);
  CHECK_FALSE(channel.trySend(2));
  Promise<void> send = channel.send(2);
  CHECK(channel.receive().wait(scope) == 0);
  takeAfter(send, scope, [&] { CHECK(channel.receive().wait(scope) == 1); });
}

namespace {

/// A sender, or a receiver, is cancelled while the other side goes on.
template <std::size_t CAPACITY, bool SENDER>
struct OneSide {
  static constexpr int COUNT = 6;

  Channel<int> channel{CAPACITY};
  std::vector<int> seen;
  int sent = 0; // the number of the first send that has not completed
  bool sending = false;
  FailOnError errors;
  TaskSet other{errors};

  Promise<void> cancelled() {
    Promise<void> sender = send(*this);
    Promise<void> receiver = receive(*this, false);
    other.add(std::move(SENDER ? receiver : sender));
    return std::move(SENDER ? sender : receiver);
  }

  static Promise<void> send(OneSide& t) {
    while (t.sent < COUNT) {
      t.sending = true;
      co_await t.channel.send(t.sent);
      t.sending = false;
      ++t.sent;
      if (t.sent % 2 == 0) co_await evalLater([] {});
    }
  }

  static Promise<void> receive(OneSide& t, bool toTheEnd) {
    while (t.seen.size() < COUNT || toTheEnd) {
      std::optional<int> item = co_await t.channel.receive().exclusiveJoin(NEVER_DONE);
      if (!item) co_return;
      t.seen.push_back(*item);
      if (t.seen.size() % 3 == 0) co_await evalLast([] {});
    }
  }

  void check(WaitScope& scope) {
    if (SENDER) {
      other.clear();
      channel.close();
      receive(*this, true).wait(scope);
      // A send that was accepted, and cancelled before the sender knew, was sent.
      const auto received = static_cast<int>(seen.size());
      CHECK((received == sent || (sending && received == sent + 1)));
      CHECK(seen == upTo(received));
    } else {
      receive(*this, false).wait(scope);
      scope.poll();
      CHECK(sent == COUNT);
      CHECK(seen == upTo(COUNT));
    }
  }
};

} // namespace

TEST_CASE("a receiver that is cancelled anywhere loses no item and doubles none (R5)") {
  CHECK(cancelAndCheck<OneSide<0, false>>() >= 8);
  CHECK(cancelAndCheck<OneSide<1, false>>() >= 8);
  CHECK(cancelAndCheck<OneSide<3, false>>() >= 8);
}

TEST_CASE("of a sender that is cancelled anywhere each item is received once that was sent (R5)") {
  CHECK(cancelAndCheck<OneSide<0, true>>() >= 8);
  CHECK(cancelAndCheck<OneSide<1, true>>() >= 8);
  CHECK(cancelAndCheck<OneSide<3, true>>() >= 5);
}

TEST_CASE("a coroutine that owns a channel and both its sides is cancelled anywhere and leaves nothing (R5)") {
  for (std::size_t capacity = 0; capacity < 3; ++capacity) {
    const std::size_t steps = cancelSweep([capacity](LoopTest&) -> Promise<void> {
      auto ends = newChannel<Item>(capacity);
      FailOnError errors;
      TaskSet tasks(errors);
      for (int i = 0; i < 2; ++i)
        tasks.add([](ChannelSender<Item> sender, int from) -> Promise<void> {
          for (int n = from; n < from + 3; ++n) co_await sender.send(Item(n));
        }(ends.sender, 3 * i));
      { ChannelSender<Item> last = std::move(ends.sender); }
      int sum = 0;
      while (std::optional<Item> item = co_await ends.receiver.receive()) sum += item->number();
      CHECK(sum == 15);
      co_await tasks.onEmpty();
    });
    CHECK(steps >= 5);
    CHECK(Item::alive == 0);
  }
}

TEST_CASE_FIXTURE(LoopTest, "random operations on a channel agree with a model") {
  struct Send {
    int number;
    Promise<void> promise;
  };
  struct Receive {
    Promise<std::optional<Item>> promise;
  };
  for (unsigned seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    auto below = [&random](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
    const std::size_t capacity = seed % 4;
    auto channel = std::make_unique<Channel<Item>>(capacity);
    // The model: accepted items, of which the i-th is the i-th receive's; and sends that wait.
    std::deque<int> items;
    std::vector<Receive> receives;
    std::vector<Send> sends;
    bool closed = false;
    int next = 0;
    auto claimed = [&] { return std::min(items.size(), receives.size()); };
    auto hasRoom = [&] { return receives.size() > items.size() || items.size() - claimed() < capacity; };
    auto acceptFirst = [&] {
      if (sends.empty() || !hasRoom()) return;
      items.push_back(sends.front().number);
      CHECK(sends.front().promise.poll(scope));
      sends.erase(sends.begin());
    };
    auto take = [&](std::size_t i) {
      std::optional<Item> item = std::move(receives[i].promise).wait(scope);
      receives.erase(receives.begin() + static_cast<std::ptrdiff_t>(i));
      if (i >= items.size()) {
        CHECK(closed);
        CHECK_FALSE(item);
        return;
      }
      REQUIRE(item);
      CHECK(item->number() == items[i]);
      items.erase(items.begin() + static_cast<std::ptrdiff_t>(i));
    };
    for (int operation = 0; operation < 700; ++operation) {
      const std::size_t dice = below(1000);
      if (dice < 250) {
        const int number = next++;
        Promise<void> promise = channel->send(Item(number));
        const bool accepted = !closed && sends.empty() && hasRoom();
        CHECK(promise.poll(scope) == (accepted || closed));
        if (closed)
          CHECK(kindName(failureOf(std::move(promise), scope)) == "DISCONNECTED");
        else if (accepted)
          items.push_back(number);
        else
          sends.push_back({number, std::move(promise)});
      } else if (dice < 330) {
        const int number = next++;
        const bool accepted = !closed && hasRoom();
        CHECK(channel->trySend(Item(number)) == accepted);
        if (accepted) items.push_back(number);
      } else if (dice < 580) {
        if (receives.size() == 15) continue;
        receives.push_back({channel->receive()});
        acceptFirst();
      } else if (dice < 640) {
        const std::optional<Item> item = channel->tryReceive();
        if (items.size() > receives.size()) {
          REQUIRE(item);
          const std::size_t i = receives.size();
          CHECK(item->number() == items[i]);
          items.erase(items.begin() + static_cast<std::ptrdiff_t>(i));
          acceptFirst();
        } else if (!sends.empty()) {
          REQUIRE(item);
          CHECK(item->number() == sends.front().number);
          CHECK(sends.front().promise.poll(scope));
          sends.erase(sends.begin());
        } else {
          CHECK_FALSE(item);
        }
      } else if (dice < 800) {
        const std::size_t ready = closed ? receives.size() : claimed();
        if (ready > 0) take(below(2) == 0 ? 0 : below(ready));
      } else if (dice < 900) {
        if (!receives.empty()) receives.erase(receives.begin() + static_cast<std::ptrdiff_t>(below(receives.size())));
      } else if (dice < 996) {
        if (!sends.empty()) sends.erase(sends.begin() + static_cast<std::ptrdiff_t>(below(sends.size())));
      } else if (dice == 996) {
        channel->close();
        closed = true;
      } else if (dice == 997) {
        channel->closeReceiver();
        closed = true;
        for (Send& send : sends) CHECK(kindName(failureOf(std::move(send.promise), scope)) == "DISCONNECTED");
        sends.clear();
      }
      CHECK(channel->size() == items.size() - claimed());
      for (Send& send : sends) CHECK_FALSE(send.promise.poll(scope));
      for (std::size_t i = 0; i < receives.size(); ++i)
        CHECK(receives[i].promise.poll(scope) == (i < items.size() || closed));
    }
    channel.reset();
    while (!receives.empty() && (closed || !items.empty())) take(0);
    for (Receive& receive : receives) CHECK(kindName(failureOf(std::move(receive.promise), scope)) == "DISCONNECTED");
    for (Send& send : sends) CHECK(kindName(failureOf(std::move(send.promise), scope)) == "DISCONNECTED");
    receives.clear();
    sends.clear();
    CHECK(Item::alive == 0);
  }
}

// --- The ends

TEST_CASE_FIXTURE(LoopTest, "the channel is closed when the last copy of its sender goes, and not before") {
  auto [sender, receiver] = newChannel<int>(4);
  auto first = std::make_unique<ChannelSender<int>>(std::move(sender));
  auto second = std::make_unique<ChannelSender<int>>(*first);
  CHECK(first->trySend(1));
  first.reset();
  CHECK(isReady(second->send(2), scope));
  CHECK(receiver.receive().wait(scope) == 1);
  CHECK(receiver.size() == 1);
  CHECK(receiver.receive().wait(scope) == 2);
  Promise<std::optional<int>> end = receiver.receive();
  CHECK(takeAfter(end, scope, [&] { second.reset(); }) == std::nullopt);
}

TEST_CASE_FIXTURE(LoopTest, "a send that waits when its sender goes is received before the end") {
  auto ends = newChannel<int>(0);
  std::optional<ChannelSender<int>> sender = std::move(ends.sender);
  Promise<void> send = sender->send(1);
  sender.reset();
  CHECK(ends.receiver.receive().wait(scope) == 1);
  CHECK(ends.receiver.receive().wait(scope) == std::nullopt);
  std::move(send).wait(scope);
}

TEST_CASE_FIXTURE(LoopTest, "destroying the receiver fails the sends and destroys the items, but for promised ones") {
  auto ends = newChannel<Item>(2);
  std::optional<ChannelReceiver<Item>> receiver = std::move(ends.receiver);
  Promise<std::optional<Item>> promised = receiver->receive();
  Promise<std::optional<Item>> waiting = receiver->receive();
  CHECK(ends.sender.trySend(Item(1)));
  SUBCASE("with a receive that waits") {}
  SUBCASE("with more items than room") {
    CHECK(ends.sender.trySend(Item(2)));
    CHECK(ends.sender.trySend(Item(3)));
    CHECK(ends.sender.trySend(Item(4)));
    Promise<void> send = ends.sender.send(Item(5));
    CHECK(std::move(waiting).wait(scope)->number() == 2);
    receiver.reset();
    CHECK(kindName(failureOf(std::move(send), scope)) == "DISCONNECTED");
    CHECK(Item::alive == 1);
    waiting = std::optional<Item>();
  }
  receiver.reset();
  CHECK(ends.sender.isClosed());
  CHECK(kindName(failureOf(ends.sender.send(Item(6)), scope)) == "DISCONNECTED");
  CHECK(std::move(promised).wait(scope)->number() == 1);
  CHECK_FALSE(std::move(waiting).wait(scope));
  CHECK(Item::alive == 0);
}

TEST_CASE_FIXTURE(LoopTest, "an item that holds a sender of its own channel does not keep the channel alive") {
  struct Knot {
    std::shared_ptr<int> alive;
    std::optional<ChannelSender<Knot>> sender;
  };
  auto alive = std::make_shared<int>(0);
  {
    auto ends = newChannel<Knot>(2);
    CHECK(ends.sender.trySend(Knot{alive, ends.sender}));
    CHECK(ends.sender.trySend(Knot{alive, ends.sender}));
    CHECK(alive.use_count() == 3);
  }
  CHECK(alive.use_count() == 1);
  {
    auto ends = std::make_unique<ChannelEnds<Knot>>(newChannel<Knot>(0));
    Promise<std::optional<Knot>> promised = ends->receiver.receive();
    CHECK(ends->sender.trySend(Knot{alive, ends->sender}));
    ends.reset();
    CHECK(alive.use_count() == 2);
  }
  CHECK(alive.use_count() == 1);
}

TEST_CASE_FIXTURE(LoopTest, "each end closes by close, too") {
  auto a = newChannel<int>(1);
  CHECK(a.sender.trySend(1));
  a.sender.close();
  CHECK(a.receiver.receive().wait(scope) == 1);
  CHECK(a.receiver.tryReceive() == std::nullopt);
  CHECK(a.receiver.receive().wait(scope) == std::nullopt);
  auto b = newChannel<int>(1);
  CHECK(b.sender.trySend(1));
  b.receiver.close();
  CHECK_FALSE(b.sender.trySend(2));
  CHECK(b.receiver.receive().wait(scope) == 1);
}

TEST_CASE_FIXTURE(LoopTest, "using an end that was moved from throws and names the caller") {
  auto ends = newChannel<int>(1);
  ChannelSender<int> sender = std::move(ends.sender);
  ChannelReceiver<int> receiver = std::move(ends.receiver);
  const Exception e = thrownBy([&] { (void)ends.sender.send(1); });
  CHECK(kindName(e) == "FAILED");
  CHECK(contains(e.description(), "moved from"));
  CHECK(fileOf(e) == "channel_test.cc");
  CHECK(contains(thrownBy([&] { (void)ends.receiver.receive(); }).description(), "moved from"));
}

TEST_CASE_FIXTURE(LoopTest, "traces say what is waited for in a channel, and where") {
  Channel<int> channel(0);
  CHECK(contains(channel.receive().trace(), "Channel::receive at tests/runtime/channel_test.cc"));
  CHECK(contains(channel.send(1).trace(), "Channel::send at tests/runtime/channel_test.cc"));
}

// --- Misuse, large numbers, costs

TEST_CASE_FIXTURE(LoopTest, "using a channel on another thread throws and names the caller") {
  Channel<int> channel(1);
  CHECK(channel.trySend(1));
  std::thread([&] {
    const Exception sent = thrownBy([&] { (void)channel.send(2); });
    CHECK(kindName(sent) == "FAILED");
    CHECK(contains(sent.description(), "Channel::send"));
    CHECK(contains(sent.description(), "another thread"));
    CHECK(fileOf(sent) == "channel_test.cc");
    CHECK(contains(thrownBy([&] { channel.trySend(2); }).description(), "Channel::trySend"));
    CHECK(contains(thrownBy([&] { (void)channel.receive(); }).description(), "Channel::receive"));
    CHECK(contains(thrownBy([&] { channel.tryReceive(); }).description(), "Channel::tryReceive"));
    CHECK(contains(thrownBy([&] { channel.close(); }).description(), "Channel::close"));
    CHECK(contains(thrownBy([&] { channel.closeReceiver(); }).description(), "Channel::closeReceiver"));
  }).join();
  CHECK(channel.size() == 1);
  CHECK_FALSE(channel.isClosed());
}

TEST_CASE("destroying an end of a channel on another thread aborts and says so") {
  for (const bool sender : {true, false}) {
    const ChildEnd end = runInChild([sender] {
      EventLoop loop;
      WaitScope scope(loop);
      auto ends = newChannel<int>(1);
      ends.sender.trySend(1);
      std::thread([&] {
        if (sender)
          auto gone = std::move(ends.sender);
        else
          auto gone = std::move(ends.receiver);
      }).join();
    });
    CHECK(end.aborted);
    CHECK(contains(end.errors, "another thread"));
  }
}

TEST_CASE("a million sends wait, are served or destroyed, in constant stack and linear time") {
  onStackOf(256 * 1024, [] {
    constexpr int COUNT = SANITIZED ? 200'000 : 1'000'000;
    LoopTest test;
    auto channel = std::make_unique<Channel<int>>(10);
    std::vector<Promise<void>> sends;
    for (int i = 0; i < COUNT; ++i) sends.push_back(channel->send(i));
    long sum = 0;
    for (int i = 0; i < COUNT; ++i) sum += *channel->receive().wait(test.scope);
    CHECK(sum == COUNT * (COUNT - 1L) / 2);
    for (Promise<void>& send : sends) std::move(send).wait(test.scope);
    sends.clear();
    for (int i = 0; i < COUNT; ++i) sends.push_back(channel->send(i));
    sends.clear();
    CHECK(channel->size() == 10);
    for (int i = 0; i < COUNT; ++i) sends.push_back(channel->send(i));
    channel->closeReceiver();
    CHECK(kindName(failureOf(std::move(sends.back()), test.scope)) == "DISCONNECTED");
  });
}

TEST_CASE_FIXTURE(LoopTest, "a channel in its steady state allocates nothing from the heap") {
  if (SANITIZED) return; // the pool keeps nothing then
  Channel<int> channel(3);
  std::vector<int> seen;
  seen.reserve(100'000);
  auto run = [&] {
    Promise<void> sender = sendAll(channel, 0, 100);
    Promise<void> receiver = [](Channel<int>& c, std::vector<int>& s) -> Promise<void> {
      for (int i = 0; i < 100; ++i) s.push_back(*co_await c.receive());
    }(channel, seen);
    std::move(receiver).wait(scope);
    std::move(sender).wait(scope);
  };
  run();
  const std::uint64_t before = heapAllocations();
  for (int i = 0; i < 100; ++i) run();
  CHECK(heapAllocations() == before);
  CHECK(seen.size() == 101 * 100);
}
