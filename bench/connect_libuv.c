/* SPDX-License-Identifier: MIT */
/* The yardstick of connecting: a client on bare libuv that connects, exchanges a message and closes, over and over. */

/*
 * So many connections at a time, each a `uv_tcp_t` that is used again once it has closed. The message goes out by
 * uv_try_write, which a socket that has just been connected always takes, and all read into one buffer.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uv.h>

typedef struct {
  uv_tcp_t tcp;
  uv_connect_t request;
  size_t received;
} client_t;

static uv_loop_t loop;
static struct sockaddr_in server;
static char message[64 * 1024], answer[64 * 1024];
static size_t size = 64;
static long left; /* connections that are still to be begun */

static void begin(client_t* client);

/* Ends the program if a step failed. */
static void check(int status, const char* step) {
  if (status >= 0) return;
  fprintf(stderr, "connect_libuv: %s: %s\n", step, uv_strerror(status));
  exit(1);
}

static void closed(uv_handle_t* handle) {
  if (left > 0) begin((client_t*)handle);
}

static void lend_buffer(uv_handle_t* handle, size_t suggested, uv_buf_t* buffer) {
  (void)handle;
  (void)suggested;
  *buffer = uv_buf_init(answer, sizeof answer);
}

static void received(uv_stream_t* stream, ssize_t count, const uv_buf_t* buffer) {
  client_t* client = (client_t*)stream;
  check((int)count, "read");
  if (memcmp(buffer->base, message + client->received, (size_t)count) != 0) check(UV_EPROTO, "the answer");
  client->received += (size_t)count;
  if (client->received == size) uv_close((uv_handle_t*)stream, closed);
}

static void connected(uv_connect_t* request, int status) {
  uv_buf_t buffer = uv_buf_init(message, (unsigned)size);
  check(status, "connect");
  uv_tcp_nodelay((uv_tcp_t*)request->handle, 1);
  if (uv_try_write(request->handle, &buffer, 1) != (int)size) check(UV_EAGAIN, "write");
  check(uv_read_start(request->handle, lend_buffer, received), "read");
}

static void begin(client_t* client) {
  --left;
  client->received = 0;
  check(uv_tcp_init(&loop, &client->tcp), "socket");
  check(uv_tcp_connect(&client->request, &client->tcp, (const struct sockaddr*)&server, connected), "connect");
}

static void run(client_t* clients, long parallel, long count) {
  left = count;
  for (long i = 0; i < parallel && left > 0; ++i) begin(&clients[i]);
  uv_run(&loop, UV_RUN_DEFAULT);
}

static double seconds(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int usage(void) {
  fprintf(stderr, "usage: connect_libuv --port P --count N [--parallel N] [--warmup N] [--size S] | --version\n");
  return 2;
}

int main(int argc, char** argv) {
  long port = 0, count = 0, parallel = 16, warmup = 0, bytes = 64;
  for (int i = 1; i < argc; ++i) {
    if (strcmp(argv[i], "--version") == 0) {
      printf("libuv %s\n", uv_version_string());
      return 0;
    }
    long* option = strcmp(argv[i], "--port") == 0       ? &port
                   : strcmp(argv[i], "--count") == 0    ? &count
                   : strcmp(argv[i], "--parallel") == 0 ? &parallel
                   : strcmp(argv[i], "--warmup") == 0   ? &warmup
                   : strcmp(argv[i], "--size") == 0     ? &bytes
                                                        : NULL;
    if (option == NULL || ++i == argc) return usage();
    *option = strtol(argv[i], NULL, 10);
  }
  if (port < 1 || count < 1 || parallel < 1 || warmup < 0 || bytes < 1 || bytes > (long)sizeof message) return usage();

  signal(SIGPIPE, SIG_IGN);
  size = (size_t)bytes;
  memset(message, 'x', size);
  client_t* clients = calloc((size_t)parallel, sizeof *clients);
  if (clients == NULL) check(UV_ENOMEM, "memory");
  check(uv_loop_init(&loop), "loop");
  check(uv_ip4_addr("127.0.0.1", (int)port, &server), "address");

  run(clients, parallel, warmup);
  double start = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
  run(clients, parallel, count);
  printf("{\"connections\": %ld, \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n", count, seconds(CLOCK_MONOTONIC) - start,
         seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);

  check(uv_loop_close(&loop), "uv_loop_close");
  free(clients);
  return 0;
}
