// SPDX-License-Identifier: MIT
// cat: copies files, or standard input, to standard output. A pump takes whatever way the two streams allow.
//
//   cat FILE...                    and  -  is standard input:  date | cat - FILE
//   cat < FILE > COPY
#include "options.h"

#include <troth/io/async_io.h>
#include <troth/io/descriptor.h>
#include <troth/runtime/require.h>

#include <fcntl.h>
#include <span>
#include <string_view>
#include <utility>

using namespace troth;

std::unique_ptr<AsyncInputStream> open(AsyncIo& io, const char* name) {
  if (std::string_view(name) == "-") return standardInput(io);
  OwnedDescriptor file(TROTH_SYSCALL(::open(name, O_RDONLY | O_CLOEXEC), name));
  try {
    return newInputStream(io, std::move(file));
  } catch (const Exception& e) {
    throw e.withContext(name); // a directory, for example
  }
}

Promise<void> copyAll(AsyncIo& io, std::span<char*> names) {
  const auto output = standardOutput(io);
  for (const char* name : names) {
    const auto input = open(io, name);
    co_await input->pumpTo(*output);
  }
}

int main(int argc, char** argv) try {
  char standardInput[] = "-";
  char* only[] = {standardInput};
  AsyncIoContext io = setupAsyncIo();
  copyAll(io, argc > 1 ? std::span(argv + 1, argv + argc) : std::span<char*>(only)).wait(io.waitScope());
} catch (...) {
  return failed("cat");
}
