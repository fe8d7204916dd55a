// SPDX-License-Identifier: MIT
// Fetcher: libcurl's multi interface as promises. Made to be copied.
#pragma once

#include <troth/io/async_io.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

struct FetchOptions {
  std::chrono::milliseconds timeout = std::chrono::seconds(30); ///< For the whole transfer, once it has begun; 0: none.
  std::size_t maxBody = 16 << 20;                               ///< In bytes; a longer body is an error.
  unsigned maxRedirects = 0;        ///< How many are followed; otherwise they are the answer.
  std::vector<std::string> headers; ///< "Name: value"
};

struct FetchResponse {
  long status = 0;         ///< 200, 404, …
  std::string url;         ///< Where it came from in the end, after redirects.
  std::string contentType; ///< Empty if the server has not said.
  std::string body;
};

/// Fetches URLs, many side by side, over connections that are kept for the next.
///
/// Belongs to one thread. Destroying it rejects what is pending with DISCONNECTED.
class Fetcher {
public:
  /// At most `maxParallel` transfers, at least 1, are under way at once; the others wait in line.
  explicit Fetcher(troth::AsyncIo& io, std::size_t maxParallel = 16);
  ~Fetcher();
  Fetcher(const Fetcher&) = delete;
  Fetcher& operator=(const Fetcher&) = delete;

  /// Fetches an http:// or https:// URL.
  ///
  /// Completes:    when the whole body is there.
  /// Result:       whatever the server answered: that the status is 404 is no error here.
  /// Errors:       libcurl's words with the URL in front. DISCONNECTED if there is no connection, or it is lost;
  ///               OVERLOADED if the time is over, or memory or descriptors are short; FAILED for anything else, such
  ///               as a name that is not known or a body that is too long.
  /// Cancellation: clean: the transfer leaves libcurl, and its connection is closed. (The server has got the request.)
  /// Overlap:      any number.
  troth::Promise<FetchResponse> get(std::string url, FetchOptions options = {});

private:
  class Core;
  class Socket;
  class Transfer;

  std::shared_ptr<Core> core_;
};
