/* SPDX-License-Identifier: MIT */
/* The plug-in's interface in C: a troth server for any program that runs a libuv loop. */
#ifndef TROTH_EXAMPLES_PLUGIN_H
#define TROTH_EXAMPLES_PLUGIN_H

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#ifdef __cplusplus
#include "line_server.h"
extern "C" {
#endif

/* A server in a host's loop. All functions are called on the loop's thread; none blocks, and no C++ exception leaves
 * them. */
typedef struct plugin plugin;

/* What the host is told, by calls from its loop. Either may be NULL; `host` is passed through. Inside of them the
 * functions below may be called. */
typedef struct {
  void *host;
  /* It listens on `port`; or `error`, valid during the call, says why it does not (NULL otherwise). */
  void (*listening)(void *host, uint16_t port, const char *error);
  /* After plugin_stop(): nothing of it is left in the loop, and the plugin is freed. (But for the look-up of a name, if
   * it was stopped while that was under way: the system ends it in its own time, and calls back. A host that closes its
   * loop then, or unloads the plug-in, gives it a numeric address.) */
  void (*stopped)(void *host);
} plugin_events;

typedef struct {
  uint64_t connections; /* now */
  uint64_t accepted;    /* connections since the beginning */
  uint64_t answered;    /* lines */
  uint64_t failed;      /* lines */
} plugin_counters;

/* Starts the server of embed_c/shout.cc in `loop`, which keeps the loop alive until plugin_stop(). `address` is text such
 * as "127.0.0.1:7000"; port 0 is any. Returns NULL, and puts a text of at most `error_size` bytes into `error`, if the
 * plug-in cannot be set up: a thread can have one at a time. */
plugin *shout_start(uv_loop_t *loop, const char *address, plugin_events events, char *error, size_t error_size);

/* The port; 0 while it does not listen. */
uint16_t plugin_port(const plugin *self);

plugin_counters plugin_get_counters(const plugin *self);

/* Ends gracefully, within `grace_ms`. The plugin is valid until `stopped` is called; the loop must run for that. Any
 * call after the first has no effect. */
void plugin_stop(plugin *self, unsigned grace_ms);

#ifdef __cplusplus
} // extern "C"

/// The same with another service; shout_start() is this.
plugin* startPlugin(uv_loop_t* loop, const char* address, LineServer::Answer answer, plugin_events events, char* error,
                    std::size_t errorSize) noexcept;
#endif

#endif
