// SPDX-License-Identifier: MIT
// Tests of Chunk: what owns the bytes, and that the pool gets its memory back.
#include "fixtures.h"

#include <troth/io/chunk.h>
#include <troth/io/stream.h>

#include <cstring>
#include <string>
#include <type_traits>

using namespace troth;
using namespace troth::test;

static_assert(!std::is_copy_constructible_v<Chunk> && !std::is_copy_assignable_v<Chunk>, "a chunk owns its bytes alone");
static_assert(std::is_nothrow_move_constructible_v<Chunk> && std::is_nothrow_move_assignable_v<Chunk>);
static_assert(sizeof(Chunk) == 16, "as its documentation says");

namespace {

void fillScratch(std::string_view text) {
  REQUIRE(detail::makeScratch() != nullptr);
  std::memcpy(detail::scratchBuffer(), text.data(), text.size());
}

Chunk fromScratch(std::size_t size) {
  Chunk chunk;
  chunk.fillFromScratch(size);
  return chunk;
}

} // namespace

TEST_CASE_FIXTURE(LoopTest, "a chunk that was made of nothing is empty and takes no memory") {
  const std::int64_t before = detail::liveBlocks();
  const Chunk chunk;
  CHECK(chunk.empty());
  CHECK(chunk.size() == 0);
  CHECK(chunk.text().empty());
  CHECK(chunk.bytes().empty());
  CHECK(detail::liveBlocks() == before);
}

TEST_CASE_FIXTURE(LoopTest, "a copied chunk has bytes of its own and gives its block back when it goes") {
  const std::int64_t before = detail::liveBlocks();
  std::string text = "bytes of the caller";
  {
    const Chunk chunk = Chunk::copyOf(asBytes(text));
    text.assign(text.size(), '#');
    CHECK(chunk.text() == "bytes of the caller");
    CHECK(chunk.size() == 19);
    CHECK(!chunk.empty());
    CHECK(detail::liveBlocks() == before + 1);
    const std::span<const std::byte> converted = chunk;
    CHECK(converted.data() == chunk.bytes().data());
    CHECK(converted.size() == 19);
  }
  CHECK(detail::liveBlocks() == before);
}

TEST_CASE_FIXTURE(LoopTest, "a chunk that adopts a block takes it as it is, and gives it back when it goes") {
  const std::int64_t before = detail::liveBlocks();
  {
    auto* block = static_cast<std::byte*>(detail::allocate(1000));
    std::memcpy(block, "bytes and more", 14);
    const Chunk chunk = Chunk::adopt(block, 5, 1000);
    CHECK(chunk.text() == "bytes");
    CHECK(chunk.bytes().data() == block);
    CHECK(detail::liveBlocks() == before + 1);
  }
  CHECK(detail::liveBlocks() == before);
}

TEST_CASE_FIXTURE(LoopTest, "a moved chunk keeps its bytes in place, and the source is empty") {
  const std::int64_t before = detail::liveBlocks();
  Chunk source = Chunk::copyOf(asBytes("text"));
  const std::byte* place = source.bytes().data();
  Chunk target(std::move(source));
  CHECK(source.empty()); // NOLINT: that is what is tested
  CHECK(target.text() == "text");
  CHECK(target.bytes().data() == place);
  CHECK(detail::liveBlocks() == before + 1);
}

TEST_CASE_FIXTURE(LoopTest, "assigning to a chunk leaks neither of the two") {
  const std::int64_t before = detail::liveBlocks();
  {
    Chunk one = Chunk::copyOf(asBytes("one"));
    Chunk two = Chunk::copyOf(asBytes("twotwo"));
    one = std::move(two);
    CHECK(one.text() == "twotwo");
    one = Chunk();
    CHECK(one.empty());
    Chunk& self = one;
    one = Chunk::copyOf(asBytes("self"));
    one = std::move(self);
    CHECK(one.text() == "self");
  }
  CHECK(detail::liveBlocks() == before);
}

TEST_CASE_FIXTURE(LoopTest, "few bytes are copied out of the scratch buffer, which stays; many take it along") {
  const std::int64_t before = detail::liveBlocks();
  const std::size_t limit = detail::POOL_LARGEST;
  {
    fillScratch(std::string(limit, 's'));
    const std::byte* scratch = detail::scratchBuffer();
    const Chunk few = fromScratch(limit);
    CHECK(few.bytes().data() != scratch);
    CHECK(detail::scratchBuffer() == scratch);

    const Chunk many = fromScratch(limit + 1);
    CHECK(many.bytes().data() == scratch);
    CHECK(many.size() == limit + 1);
    CHECK(detail::scratchBuffer() != scratch);
    fillScratch(std::string(limit, 'x'));
    CHECK(many.text().substr(0, limit) == std::string(limit, 's'));
    CHECK(few.text() == std::string(limit, 's'));
    CHECK(detail::liveBlocks() == before + 2);
  }
  CHECK(detail::liveBlocks() == before);
}

TEST_CASE_FIXTURE(LoopTest, "a chunk can be as large as its capacity, copied or taken along") {
  const std::int64_t before = detail::liveBlocks();
  {
    const std::string all = std::string(Chunk::CAPACITY - 1, 'c') + "d";
    const Chunk copied = Chunk::copyOf(asBytes(all));
    CHECK((copied.text() == all));
    fillScratch(all);
    const Chunk taken = fromScratch(Chunk::CAPACITY);
    CHECK((taken.text() == all));
    CHECK(detail::liveBlocks() == before + 2);
  }
  CHECK(detail::liveBlocks() == before);
}
