// SPDX-License-Identifier: MIT
// The pool: reuse, bounds, threads, buffers, counters.
#include "helpers.h"

#include <troth/runtime/pool_detail.h>

#include <cstring>
#include <initializer_list>
#include <set>
#include <thread>
#include <vector>

using namespace troth;
using namespace troth::test;
using namespace troth::detail;

namespace {

// Under AddressSanitizer the pool keeps nothing; what it keeps otherwise is checked only then.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool KEEPS = false;
#elif defined(__has_feature)
constexpr bool KEEPS = !__has_feature(address_sanitizer);
#else
constexpr bool KEEPS = true;
#endif

std::size_t freeBlocks() {
  std::size_t count = poolState.buffers.count;
  for (const PoolList& list : poolState.lists) count += list.count;
  return count;
}

} // namespace

TEST_CASE("blocks of every size are writable to their last byte, aligned and distinct") {
  NothingLeft nothingLeft;
  std::vector<std::pair<void*, std::size_t>> blocks;
  for (const auto size : std::initializer_list<std::size_t>{0, 1, 8, 24, 25, 56, 57, 1000, POOL_LARGEST, POOL_LARGEST + 1, 65535, 65536, 65537, 1'000'000}) {
    CAPTURE(size);
    void* block = allocate(size);
    REQUIRE(block != nullptr);
    CHECK(reinterpret_cast<std::uintptr_t>(block) % alignof(std::max_align_t) == 0);
    std::memset(block, static_cast<int>(blocks.size()), size);
    blocks.emplace_back(block, size);
  }
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const auto* bytes = static_cast<const unsigned char*>(blocks[i].first);
    for (std::size_t b = 0; b < blocks[i].second; b += 61) CHECK(bytes[b] == i);
    deallocate(blocks[i].first, blocks[i].second);
  }
}

TEST_CASE("liveBlocks counts what is allocated and not given back") {
  const auto before = liveBlocks();
  void* small = allocate(100);
  void* large = allocate(10'000);
  void* buffer = allocate(BUFFER_SIZE);
  CHECK(liveBlocks() == before + 3);
  deallocate(small, 100);
  CHECK(liveBlocks() == before + 2);
  deallocate(large, 10'000);
  deallocate(buffer, BUFFER_SIZE);
  CHECK(liveBlocks() == before);
}

TEST_CASE("a freed block is the next of its class, unless AddressSanitizer watches") {
  void* first = allocate(100);
  deallocate(first, 100);
  const auto fromHeap = poolState.fromHeap;
  void* second = allocate(120); // the same class
  if (KEEPS) {
    CHECK(second == first);
    CHECK(poolState.fromHeap == fromHeap);
  } else {
    CHECK(poolState.fromHeap == fromHeap + 1);
  }
  deallocate(second, 120);
}

TEST_CASE("free blocks are bounded for each class") {
  trimPool();
  constexpr std::size_t SIZE = POOL_LARGEST;
  constexpr std::size_t COUNT = POOL_BYTES_PER_CLASS / SIZE * 3;
  std::vector<void*> blocks;
  for (std::size_t i = 0; i < COUNT; ++i) blocks.push_back(allocate(SIZE));
  CHECK(std::set<void*>(blocks.begin(), blocks.end()).size() == COUNT);
  for (void* block : blocks) deallocate(block, SIZE);
  CHECK(freeBlocks() == (KEEPS ? POOL_BYTES_PER_CLASS / SIZE : 0));
}

TEST_CASE("trimPool gives every free block back to the heap") {
  for (const auto size : std::initializer_list<std::size_t>{64, 500, 4096}) deallocate(allocate(size), size);
  deallocate(allocate(BUFFER_SIZE), BUFFER_SIZE);
  if (KEEPS) CHECK(freeBlocks() > 0);
  const auto live = liveBlocks();
  trimPool();
  CHECK(freeBlocks() == 0);
  CHECK(liveBlocks() == live);
  CHECK(poolState.fromHeap == live);
  void* block = allocate(64);
  CHECK(liveBlocks() == live + 1);
  deallocate(block, 64);
}

TEST_CASE("buffers are kept in a list of their own, of at most POOL_BUFFERS") {
  trimPool();
  std::vector<void*> buffers;
  for (std::uint32_t i = 0; i < POOL_BUFFERS + 5; ++i) buffers.push_back(allocate(BUFFER_SIZE));
  for (void* buffer : buffers) deallocate(buffer, BUFFER_SIZE);
  CHECK(poolState.buffers.count == (KEEPS ? POOL_BUFFERS : 0));
  if (KEEPS) {
    void* again = allocate(BUFFER_SIZE);
    CHECK(poolState.buffers.count == POOL_BUFFERS - 1);
    deallocate(again, BUFFER_SIZE);
  }
  trimPool();
}

TEST_CASE("a block may be freed on another thread") {
  const auto before = liveBlocks();
  void* block = allocate(200);
  std::memset(block, 1, 200);
  std::int64_t there = 0;
  std::thread([&] {
    deallocate(block, 200);
    there = liveBlocks();
    void* reused = allocate(200);
    std::memset(reused, 2, 200);
    deallocate(reused, 200);
  }).join();
  CHECK(there == -1);
  CHECK(liveBlocks() == before + 1); // this thread's account does not hear of it
  ++poolState.fromHeap;              // balance it for the tests to come
  poolState.fromHeap -= 2;
  CHECK(liveBlocks() == before);
}

TEST_CASE("threads do not share free blocks, and a thread's are freed at its end") {
  // LeakSanitizer, or the counting operator delete of valgrind, sees what a thread leaves.
  void* mine = allocate(300);
  deallocate(mine, 300);
  std::size_t freeAtStart = 1;
  void* theirs = nullptr;
  std::thread([&] {
    freeAtStart = freeBlocks();
    theirs = allocate(300);
    deallocate(theirs, 300);
    for (std::size_t size = 1; size < 5000; size += 100) deallocate(allocate(size), size);
    deallocate(allocate(BUFFER_SIZE), BUFFER_SIZE);
  }).join();
  CHECK(freeAtStart == 0);
  if (KEEPS) CHECK(theirs != mine);
}

TEST_CASE("a thread-local object that outlives the pool frees to the heap") {
  struct Late {
    void* block = nullptr;
    ~Late() {
      if (block != nullptr) deallocate(block, 256);
    }
  };
  std::thread([] {
    thread_local Late late; // made before the pool's own, so destroyed after it
    late.block = nullptr;
    late.block = allocate(256);
    CHECK(liveBlocks() == 1);
  }).join();
}

TEST_CASE("pooled objects come from and go back to the pool") {
  struct Object : Pooled {
    char room[300] = {};
  };
  const auto before = liveBlocks();
  auto object = std::make_unique<Object>();
  CHECK(liveBlocks() == before + 1);
  object.reset();
  CHECK(liveBlocks() == before);
}
