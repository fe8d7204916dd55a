/* SPDX-License-Identifier: MIT */
/* The yardstick: an echo server on bare libuv, as small and as quick as careful C makes it. */

/*
 * What troth and its peers are measured against, so it spends nothing that the task does not need:
 *
 *   - a connection is its `uv_tcp_t` and nothing else;
 *   - all connections read into one buffer, which is free again when the read callback returns;
 *   - a connection's reads stay started, since stopping and starting again costs two `epoll_ctl`;
 *   - `uv_try_write` sends straight from that buffer. Only what the socket does not take is copied
 *     and queued, and until that has gone the connection is not read: a peer that sends without
 *     reading costs one buffer's worth of memory, not all of it.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

/* The bytes that a socket did not take, and the request that sends them. */
typedef struct {
  uv_write_t request;
  char bytes[];
} rest_t;

static char read_buffer[64 * 1024];
static uv_tcp_t listener;
static uv_signal_t on_sigterm, on_sigint;

static void start_reading(uv_stream_t* connection);

static void free_connection(uv_handle_t* connection) {
  free(connection);
}

static void drop(uv_stream_t* connection) {
  uv_handle_t* handle = (uv_handle_t*)connection;
  if (!uv_is_closing(handle)) uv_close(handle, free_connection);
}

static void rest_sent(uv_write_t* request, int status) {
  uv_stream_t* connection = request->handle;
  free(request->data);
  if (status < 0) {
    drop(connection);
  } else if (!uv_is_closing((uv_handle_t*)connection)) {
    start_reading(connection);
  }
}

static void send_rest(uv_stream_t* connection, const char* bytes, size_t size) {
  rest_t* rest = malloc(sizeof *rest + size);
  if (rest == NULL) {
    drop(connection);
    return;
  }
  memcpy(rest->bytes, bytes, size);
  rest->request.data = rest;
  uv_buf_t buffer = uv_buf_init(rest->bytes, (unsigned)size);
  uv_read_stop(connection);
  if (uv_write(&rest->request, connection, &buffer, 1, rest_sent) != 0) {
    free(rest);
    drop(connection);
  }
}

static void lend_buffer(uv_handle_t* connection, size_t suggested, uv_buf_t* buffer) {
  (void)connection;
  (void)suggested;
  *buffer = uv_buf_init(read_buffer, sizeof read_buffer);
}

static void echo(uv_stream_t* connection, ssize_t received, const uv_buf_t* read) {
  if (received < 0) {
    drop(connection);
    return;
  }
  if (received == 0) return; /* libuv's word for "nothing yet", not for the end of the stream */

  uv_buf_t buffer = uv_buf_init(read->base, (unsigned)received);
  int sent = uv_try_write(connection, &buffer, 1);
  if (sent == received) return;
  if (sent == UV_EAGAIN) sent = 0;
  if (sent < 0) {
    drop(connection);
  } else {
    send_rest(connection, read->base + sent, (size_t)(received - sent));
  }
}

static void start_reading(uv_stream_t* connection) {
  if (uv_read_start(connection, lend_buffer, echo) != 0) drop(connection);
}

static void accept_connection(uv_stream_t* server, int status) {
  if (status < 0) {
    fprintf(stderr, "echo_libuv: accept: %s\n", uv_strerror(status));
    return;
  }
  uv_tcp_t* connection = malloc(sizeof *connection);
  if (connection == NULL) abort(); /* libuv would wait for a uv_accept() that never comes */
  uv_tcp_init(server->loop, connection);
  if (uv_accept(server, (uv_stream_t*)connection) != 0) {
    drop((uv_stream_t*)connection);
    return;
  }
  uv_tcp_nodelay(connection, 1);
  start_reading((uv_stream_t*)connection);
}

static void close_handle(uv_handle_t* handle, void* unused) {
  (void)unused;
  if (uv_is_closing(handle)) return;
  int is_connection = handle->type == UV_TCP && handle != (uv_handle_t*)&listener;
  uv_close(handle, is_connection ? free_connection : NULL);
}

static void shut_down(uv_signal_t* handle, int number) {
  (void)number;
  uv_walk(handle->loop, close_handle, NULL);
}

/* Ends the program if a step of the start-up failed. */
static void check(int status, const char* step) {
  if (status >= 0) return;
  fprintf(stderr, "echo_libuv: %s: %s\n", step, uv_strerror(status));
  exit(1);
}

static int usage(void) {
  fprintf(stderr, "usage: echo_libuv [--address ADDR] [--port N] | --version\n");
  return 2;
}

int main(int argc, char** argv) {
  const char* address = "127.0.0.1";
  long port = 0;
  for (int i = 1; i < argc; ++i) {
    if (strcmp(argv[i], "--version") == 0) {
      printf("libuv %s\n", uv_version_string());
      return 0;
    }
    if (i + 1 == argc) return usage();
    if (strcmp(argv[i], "--address") == 0) {
      address = argv[++i];
    } else if (strcmp(argv[i], "--port") == 0) {
      char* end;
      port = strtol(argv[++i], &end, 10);
      if (end == argv[i] || *end != '\0' || port < 0 || port > 65535) return usage();
    } else {
      return usage();
    }
  }

  signal(SIGPIPE, SIG_IGN); /* libuv sends with write(), which raises it when the peer has gone */
  uv_loop_t loop;
  check(uv_loop_init(&loop), "loop");
  check(uv_signal_init(&loop, &on_sigterm), "signal");
  check(uv_signal_start(&on_sigterm, shut_down, SIGTERM), "SIGTERM");
  check(uv_signal_init(&loop, &on_sigint), "signal");
  check(uv_signal_start(&on_sigint, shut_down, SIGINT), "SIGINT");

  struct sockaddr_in local;
  int local_size = sizeof local;
  check(uv_ip4_addr(address, (int)port, &local), address);
  check(uv_tcp_init(&loop, &listener), "socket");
  check(uv_tcp_bind(&listener, (const struct sockaddr*)&local, 0), "bind");
  check(uv_listen((uv_stream_t*)&listener, 1024, accept_connection), "listen");
  check(uv_tcp_getsockname(&listener, (struct sockaddr*)&local, &local_size), "getsockname");
  printf("listening on %s:%d\n", address, ntohs(local.sin_port));
  fflush(stdout);

  uv_run(&loop, UV_RUN_DEFAULT);
  check(uv_loop_close(&loop), "uv_loop_close");
  return 0;
}
