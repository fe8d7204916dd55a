/* SPDX-License-Identifier: MIT */
/* An addon for tests: prints the handles in the loop of its environment into the file in TROTH_HANDLES when everything
 * that was loaded after it has left. */
#define NAPI_VERSION 8
#include <node_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

enum { ROUNDS = 5 };

typedef struct {
  int rounds;
  uv_timer_t timer;
  napi_async_cleanup_hook_handle hook;
} probe;

static void done(uv_handle_t *handle) {
  probe *self = handle->data;
  napi_remove_async_cleanup_hook(self->hook);
  free(self);
}

static void print(uv_timer_t *timer) {
  if (++((probe *)timer->data)->rounds < ROUNDS) return;
  FILE *file = fopen(getenv("TROTH_HANDLES"), "w");
  if (file != NULL) {
    uv_print_all_handles(timer->loop, file);
    fclose(file);
  }
  uv_close((uv_handle_t *)timer, done);
}

/* Hooks run in the reverse order of their addition: those of addons that were loaded later have run, and their handles
 * have some rounds of the loop to go. (One of troth's hooks needs two; node waits for both hooks.) */
static void environment_ends(napi_async_cleanup_hook_handle hook, void *data) {
  probe *self = data;
  self->hook = hook;
  uv_ref((uv_handle_t *)&self->timer);
  uv_timer_start(&self->timer, print, 1, 1);
}

NAPI_MODULE_INIT() {
  uv_loop_t *loop;
  probe *self = calloc(1, sizeof *self);
  if (self == NULL || napi_get_uv_event_loop(env, &loop) != napi_ok) abort();
  uv_timer_init(loop, &self->timer);
  self->timer.data = self;
  uv_unref((uv_handle_t *)&self->timer);
  if (napi_add_async_cleanup_hook(env, environment_ends, self, NULL) != napi_ok) abort();
  return exports;
}
