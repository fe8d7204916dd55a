// SPDX-License-Identifier: MIT
// A pump of streams that it owns, begun on either side.
#pragma once

#include <troth/io/stream.h>

#include <memory>

namespace troth::test {

/// Pumps to the end: by `output.tryPumpFrom()` if `from`, else by `input.pumpTo()`.
inline Promise<void> pumpAll(std::unique_ptr<AsyncInputStream> input, std::unique_ptr<AsyncOutputStream> output, bool from) {
  if (from)
    co_await *output->tryPumpFrom(*input, ALL_BYTES);
  else
    co_await input->pumpTo(*output);
}

} // namespace troth::test
