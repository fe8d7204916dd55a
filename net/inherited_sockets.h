// SPDX-License-Identifier: MIT
// Sockets that whoever started the program has opened for it: systemd's socket activation.
#pragma once

#include <troth/io/descriptor.h>

#include <source_location>
#include <string>
#include <vector>

namespace troth {
inline namespace v0 {

/// A socket that came with the program's start.
struct InheritedSocket {
  OwnedDescriptor descriptor; // closed on exec
  std::string name;           // what the unit calls it (FileDescriptorName=), or "unknown"
};

/// Takes the sockets that a supervisor such as systemd has bound for this process, by the protocol of sd_listen_fds(3):
/// `LISTEN_FDS` descriptors from 3 on, with their names in `LISTEN_FDNAMES`, if `LISTEN_PID` is this process. None if
/// there are none: then the program listens by itself.
///
///     std::vector<InheritedSocket> inherited = takeInheritedSockets();
///     auto port = inherited.empty() ? address->listen() : network->adoptListener(std::move(inherited[0].descriptor));
///
/// Call it once, at the start of the program, before there are other threads: it removes the three variables from the
/// environment, so that children do not take the sockets for theirs. Throws FAILED, naming the variable and what it
/// holds, if they make no sense, or a descriptor is not open; none is taken then.
std::vector<InheritedSocket> takeInheritedSockets(std::source_location where = std::source_location::current());

} // namespace v0
} // namespace troth
