/* SPDX-License-Identifier: MIT */
/* A plain C program on libuv, with timers and a TCP server of its own, in whose loop a troth server runs as well.
 *
 *   embed_c                  in other terminals:  nc 127.0.0.1 PORT    for each of the two ports that it prints
 *
 * The clock, which is C, tells each client how often it has ticked, and hangs up. The shouting server, which is the ten
 * lines of C++ in shout.cc, gives back each line in capitals. Ctrl-C ends both; SIGUSR1 ends the shouting one alone, and
 * the program goes on. uv_run() returns when both are done. What has to do with troth is marked so; the rest is as it
 * would be without. */
#include "../plugin/plugin.h" /* troth */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define TICK_MS 20
#define GRACE_MS 500

typedef struct {
  uv_loop_t loop;
  uv_timer_t timer;
  uv_tcp_t listener;
  uv_signal_t interrupted, ended, shout_ended;
  unsigned ticks;
  plugin *shouter; /* troth */
} host;

static void check(int status, const char *what) {
  if (status >= 0) return;
  fprintf(stderr, "embed_c: %s: %s\n", what, uv_strerror(status));
  exit(1);
}

/* ---------------------------------------------------------------------------- the clock, without troth */

typedef struct {
  uv_tcp_t connection;
  uv_write_t request;
  char text[32];
} visitor;

static void free_visitor(uv_handle_t *handle) { free(handle->data); }

static void hang_up(uv_write_t *request, int status) {
  (void)status; /* a visitor who has left is no news */
  uv_close((uv_handle_t *)request->handle, free_visitor);
}

static void tell_time(uv_stream_t *listener, int status) {
  host *self = listener->data;
  check(status, "listening");
  visitor *client = malloc(sizeof *client);
  if (client == NULL) check(UV_ENOMEM, "accepting");
  check(uv_tcp_init(&self->loop, &client->connection), "uv_tcp_init");
  client->connection.data = client;
  uv_stream_t *stream = (uv_stream_t *)&client->connection;
  int size = snprintf(client->text, sizeof client->text, "tick %u\n", self->ticks);
  uv_buf_t bytes = uv_buf_init(client->text, (unsigned)size);
  if (uv_accept(listener, stream) < 0 || uv_write(&client->request, stream, &bytes, 1, hang_up) < 0)
    uv_close((uv_handle_t *)stream, free_visitor);
}

static void tick(uv_timer_t *timer) { ++((host *)timer->data)->ticks; }

static unsigned start_clock(host *self) {
  check(uv_timer_init(&self->loop, &self->timer), "uv_timer_init");
  self->timer.data = self;
  check(uv_timer_start(&self->timer, tick, TICK_MS, TICK_MS), "uv_timer_start");

  struct sockaddr_in address;
  int size = sizeof address;
  check(uv_ip4_addr("127.0.0.1", 0, &address), "uv_ip4_addr");
  check(uv_tcp_init(&self->loop, &self->listener), "uv_tcp_init");
  self->listener.data = self;
  check(uv_tcp_bind(&self->listener, (const struct sockaddr *)&address, 0), "uv_tcp_bind");
  check(uv_listen((uv_stream_t *)&self->listener, 16, tell_time), "uv_listen");
  check(uv_tcp_getsockname(&self->listener, (struct sockaddr *)&address, &size), "uv_tcp_getsockname");
  const unsigned char *port = (const unsigned char *)&address.sin_port;
  return port[0] * 256U + port[1];
}

static void stop_clock(host *self) {
  if (uv_is_closing((uv_handle_t *)&self->timer)) return;
  uv_close((uv_handle_t *)&self->timer, NULL);
  uv_close((uv_handle_t *)&self->listener, NULL);
}

/* --------------------------------------------------------------------------------------------- troth */

static void shouter_listens(void *data, uint16_t port, const char *error) {
  (void)data;
  if (error != NULL)
    fprintf(stderr, "embed_c: the shouting server: %s\n", error);
  else
    printf("shouting on 127.0.0.1:%u\n", port);
  fflush(stdout);
}

static void shouter_stopped(void *data) {
  host *self = data;
  self->shouter = NULL;
  printf("the shouting server has left; what is in the loop is the host's:\n");
  uv_print_all_handles(&self->loop, stdout);
  fflush(stdout);
}

static void start_shouter(host *self) {
  char error[200];
  plugin_events events = {self, shouter_listens, shouter_stopped};
  self->shouter = shout_start(&self->loop, "127.0.0.1:0", events, error, sizeof error);
  if (self->shouter == NULL) {
    fprintf(stderr, "embed_c: %s\n", error);
    exit(1);
  }
}

static void stop_shouter(host *self) {
  if (self->shouter == NULL) return;
  plugin_counters counters = plugin_get_counters(self->shouter);
  printf("%llu lines were answered\n", (unsigned long long)counters.answered);
  plugin_stop(self->shouter, GRACE_MS);
}

/* ------------------------------------------------------------------------------------------- together */

static void on_signal(uv_signal_t *handle, int number) {
  host *self = handle->data;
  stop_shouter(self); /* troth */
  if (number != SIGUSR1) stop_clock(self);
}

static void watch_signal(host *self, uv_signal_t *handle, int number) {
  check(uv_signal_init(&self->loop, handle), "uv_signal_init");
  handle->data = self;
  check(uv_signal_start(handle, on_signal, number), "uv_signal_start");
  uv_unref((uv_handle_t *)handle); /* waiting for Ctrl-C is no reason to go on */
}

int main(void) {
  static host self;
  signal(SIGPIPE, SIG_IGN); /* the host's affair: a guest does not touch it */
  check(uv_loop_init(&self.loop), "uv_loop_init");
  self.loop.data = &self; /* which the guest leaves alone, too */
  printf("the clock is on 127.0.0.1:%u\n", start_clock(&self));
  start_shouter(&self); /* troth */
  watch_signal(&self, &self.interrupted, SIGINT);
  watch_signal(&self, &self.ended, SIGTERM);
  watch_signal(&self, &self.shout_ended, SIGUSR1);

  int left = uv_run(&self.loop, UV_RUN_DEFAULT);
  printf("uv_run has returned %d after %s\n", left, self.ticks > 0 ? "ticks of the clock" : "no tick at all");

  uv_close((uv_handle_t *)&self.interrupted, NULL);
  uv_close((uv_handle_t *)&self.ended, NULL);
  uv_close((uv_handle_t *)&self.shout_ended, NULL);
  uv_run(&self.loop, UV_RUN_DEFAULT);
  uv_print_all_handles(&self.loop, stdout);
  int status = uv_loop_close(&self.loop);
  printf("uv_loop_close has returned %d; loop->data is %s\n", status, self.loop.data == &self ? "untouched" : "changed");
  return status == 0 ? 0 : 1;
}
