/* SPDX-License-Identifier: MIT */
/* The yardstick of UDP: an echo of datagrams on bare libuv. */

/*
 * Each datagram is sent back from the buffer that it was received into. libuv receives up to 20 of them by one system
 * call (UV_UDP_RECVMMSG, for which it wants a buffer of 64 KiB for each), and uv_udp_try_send sends one.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

static char read_buffer[20 * 64 * 1024];
static uv_udp_t server;
static uv_signal_t on_sigterm, on_sigint;

/* Ends the program if a step failed. */
static void check(int status, const char* step) {
  if (status >= 0) return;
  fprintf(stderr, "udp_libuv: %s: %s\n", step, uv_strerror(status));
  exit(1);
}

static void lend_buffer(uv_handle_t* handle, size_t suggested, uv_buf_t* buffer) {
  (void)handle;
  (void)suggested;
  *buffer = uv_buf_init(read_buffer, sizeof read_buffer);
}

static void echo(uv_udp_t* handle, ssize_t count, const uv_buf_t* read, const struct sockaddr* from, unsigned flags) {
  (void)flags;
  check((int)count, "receive");
  if (from == NULL) return; /* libuv has no more for now */
  uv_buf_t buffer = uv_buf_init(read->base, (unsigned)count);
  int sent = uv_udp_try_send(handle, &buffer, 1, from);
  if (sent != UV_EAGAIN) check(sent, "send"); /* what a full socket does not take is lost */
}

static void close_handle(uv_handle_t* handle, void* unused) {
  (void)unused;
  if (!uv_is_closing(handle)) uv_close(handle, NULL);
}

static void shut_down(uv_signal_t* handle, int number) {
  (void)number;
  uv_walk(handle->loop, close_handle, NULL);
}

int main(int argc, char** argv) {
  (void)argv;
  if (argc > 1) {
    fprintf(stderr, "usage: udp_libuv\n");
    return 2;
  }
  uv_loop_t loop;
  check(uv_loop_init(&loop), "loop");
  check(uv_signal_init(&loop, &on_sigterm), "signal");
  check(uv_signal_start(&on_sigterm, shut_down, SIGTERM), "SIGTERM");
  check(uv_signal_init(&loop, &on_sigint), "signal");
  check(uv_signal_start(&on_sigint, shut_down, SIGINT), "SIGINT");

  struct sockaddr_in local;
  int local_size = sizeof local;
  check(uv_ip4_addr("127.0.0.1", 0, &local), "address");
  check(uv_udp_init_ex(&loop, &server, AF_INET | UV_UDP_RECVMMSG), "socket");
  check(uv_udp_bind(&server, (const struct sockaddr*)&local, 0), "bind");
  check(uv_udp_getsockname(&server, (struct sockaddr*)&local, &local_size), "getsockname");
  check(uv_udp_recv_start(&server, lend_buffer, echo), "receive");
  printf("listening on 127.0.0.1:%d\n", ntohs(local.sin_port));
  fflush(stdout);

  uv_run(&loop, UV_RUN_DEFAULT);
  check(uv_loop_close(&loop), "uv_loop_close");
  return 0;
}
