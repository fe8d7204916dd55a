/* SPDX-License-Identifier: MIT */
/* The yardstick of the streams benchmark: pumps on bare libuv, as careful C makes them by hand. */

/*
 *   sockets         One buffer. What has been read is sent at once by `uv_try_write`. Only if the socket does not take
 *                   all of it reading is stopped, the rest is queued where it is, and when it has gone reading starts
 *                   again.
 *   file            Two buffers: the thread pool reads into the one while the other is written.
 *   uv_fs_sendfile  What libuv has for it. (1.44 tries copy_file_range(2), which refuses a socket, and then reads and
 *                   writes 8 KiB at a time.)
 *   sendfile        No buffer: the thread pool calls sendfile(2) itself, and when the socket is full `uv_poll_t` waits
 *                   for room.
 *   memory          What a pipe in memory cannot do without: the reader's copy of the writer's bytes. No libuv at all.
 */

#include "streams_common.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <uv.h>

static uv_loop_t loop;

/* Ends the program if something has failed. */
static int check(ssize_t status, const char* step) {
  if (status >= 0) return (int)status;
  fprintf(stderr, "streams_libuv: %s: %s\n", step, uv_strerror((int)status));
  exit(1);
}

static size_t smaller(uint64_t a, uint64_t b) {
  return (size_t)(a < b ? a : b);
}

/* --- What has been pumped ------------------------------------------------------------------------ */

static uint64_t warmup, total, done; /* bytes */
static int counting;
static uint64_t counted_from;
static stream_clocks begin;

/* More bytes have gone to where they were to go. */
static void pumped(size_t bytes) {
  done += bytes;
  if (!counting && done >= warmup) {
    counting = 1;
    counted_from = done;
    begin = read_clocks();
  }
  if (done == total) print_costs(total - counted_from, begin);
}

/* --- Sockets ------------------------------------------------------------------------------------- */

typedef union {
  uv_stream_t stream;
  uv_tcp_t tcp;
  uv_pipe_t pipe;
} uv_socket;

static uv_socket input, output;
static uv_write_t rest_request;

static void open_socket(uv_socket* socket, int is_tcp, int descriptor) {
  if (is_tcp) {
    check(uv_tcp_init(&loop, &socket->tcp), "uv_tcp_init");
    check(uv_tcp_open(&socket->tcp, descriptor), "uv_tcp_open");
  } else {
    check(uv_pipe_init(&loop, &socket->pipe, 0), "uv_pipe_init");
    check(uv_pipe_open(&socket->pipe, descriptor), "uv_pipe_open");
  }
}

static void close_socket(uv_socket* socket) {
  uv_close((uv_handle_t*)&socket->stream, NULL);
}

/* Writes what the socket takes at once, and returns how much that is. */
static size_t write_some(char* bytes, size_t size) {
  const uv_buf_t buffer = uv_buf_init(bytes, (unsigned)size);
  const int status = uv_try_write(&output.stream, &buffer, 1);
  if (status == UV_EAGAIN) return 0;
  pumped((size_t)check(status, "uv_try_write"));
  return (size_t)status;
}

static void write_rest(char* bytes, size_t size, uv_write_cb callback) {
  const uv_buf_t buffer = uv_buf_init(bytes, (unsigned)size);
  check(uv_write(&rest_request, &output.stream, &buffer, 1, callback), "uv_write");
}

static char read_buffer[PIECE_SIZE];
static size_t rest_size;

static void start_reading(void);

static void close_sockets_if_done(void) {
  if (done < total) return;
  close_socket(&input);
  close_socket(&output);
}

static void rest_written(uv_write_t* request, int status) {
  (void)request;
  check(status, "uv_write");
  pumped(rest_size);
  if (done < total) start_reading();
  close_sockets_if_done();
}

static void lend_buffer(uv_handle_t* handle, size_t suggested, uv_buf_t* buffer) {
  (void)handle;
  (void)suggested;
  *buffer = uv_buf_init(read_buffer, sizeof read_buffer);
}

static void was_received(uv_stream_t* stream, ssize_t status, const uv_buf_t* buffer) {
  if (status == 0) return; /* libuv's word for "nothing yet" */
  const size_t size = (size_t)check(status, "read");
  const size_t written = write_some(buffer->base, size);
  if (written < size) {
    check(uv_read_stop(stream), "uv_read_stop");
    rest_size = size - written;
    write_rest(buffer->base + written, rest_size, rest_written);
  }
  close_sockets_if_done();
}

static void start_reading(void) {
  check(uv_read_start(&input.stream, lend_buffer, was_received), "uv_read_start");
}

static void pump_sockets(int is_tcp) {
  open_socket(&input, is_tcp, INPUT_DESCRIPTOR);
  open_socket(&output, is_tcp, OUTPUT_DESCRIPTOR);
  start_reading();
}

/* --- A file to a socket -------------------------------------------------------------------------- */

static uv_file file;
static uv_fs_t file_request;

static void open_file(const char* path) {
  uv_fs_t request;
  file = check(uv_fs_open(&loop, &request, path, O_RDONLY | O_CLOEXEC, 0, NULL), path);
  uv_fs_req_cleanup(&request);
}

typedef struct {
  char bytes[PIECE_SIZE];
  size_t size; /* what was read and has not been written; while there is none, it may be read into */
} file_buffer;

static file_buffer buffers[2];
static unsigned reads, writes; /* how many there were: the lowest bit says which buffer the next one takes */
static int reading, writing;
static uint64_t read_to;

static void write_next(void);

static void was_read(uv_fs_t* request);

static void read_ahead(void) {
  file_buffer* next = &buffers[reads % 2];
  if (reading || next->size > 0 || read_to == total) return;
  const uv_buf_t buffer = uv_buf_init(next->bytes, (unsigned)smaller(PIECE_SIZE, total - read_to));
  check(uv_fs_read(&loop, &file_request, file, &buffer, 1, (int64_t)read_to, was_read), "uv_fs_read");
  reading = 1;
}

static void was_read(uv_fs_t* request) {
  const ssize_t size = check(request->result, "uv_fs_read");
  uv_fs_req_cleanup(request);
  if (size == 0) check(UV_EOF, "the file");
  reading = 0;
  buffers[reads++ % 2].size = (size_t)size;
  read_to += (uint64_t)size;
  read_ahead();
  write_next();
}

static void was_written(void) {
  buffers[writes++ % 2].size = 0;
  if (done == total) close_socket(&output);
  read_ahead();
}

static void rest_of_buffer_written(uv_write_t* request, int status) {
  (void)request;
  check(status, "uv_write");
  pumped(rest_size);
  writing = 0;
  was_written();
  write_next();
}

static void write_next(void) {
  while (!writing && buffers[writes % 2].size > 0) {
    file_buffer* next = &buffers[writes % 2];
    const size_t written = write_some(next->bytes, next->size);
    if (written == next->size) {
      was_written();
    } else {
      rest_size = next->size - written;
      write_rest(next->bytes + written, rest_size, rest_of_buffer_written);
      writing = 1;
    }
  }
}

static void pump_file(const char* path, int is_tcp) {
  open_file(path);
  open_socket(&output, is_tcp, OUTPUT_DESCRIPTOR);
  read_ahead();
}

/* --- The same by sendfile ------------------------------------------------------------------------ */

enum { SENDFILE_SIZE = 1024 * 1024 };

static uv_poll_t room;
static uv_work_t work;
static size_t asked;
static ssize_t answer;

static void (*send_more)(void);

static void there_is_room(uv_poll_t* handle, int status, int events) {
  (void)events;
  check(status, "uv_poll_t");
  uv_poll_stop(handle);
  send_more();
}

static void was_sent(ssize_t result) {
  const size_t sent = result == UV_EAGAIN ? 0 : (size_t)check(result, "sendfile");
  pumped(sent);
  if (done == total)
    uv_close((uv_handle_t*)&room, NULL);
  else if (sent == asked)
    send_more();
  else
    check(uv_poll_start(&room, UV_WRITABLE, there_is_room), "uv_poll_start");
}

static void sent_by_libuv(uv_fs_t* request) {
  const ssize_t result = request->result;
  uv_fs_req_cleanup(request);
  was_sent(result);
}

static void send_by_libuv(void) {
  asked = smaller(SENDFILE_SIZE, total - done);
  check(uv_fs_sendfile(&loop, &file_request, OUTPUT_DESCRIPTOR, file, (int64_t)done, asked, sent_by_libuv),
        "uv_fs_sendfile");
}

static void call_sendfile(uv_work_t* request) {
  (void)request;
  off_t from = (off_t)done;
  answer = sendfile(OUTPUT_DESCRIPTOR, file, &from, asked);
  if (answer < 0) answer = uv_translate_sys_error(errno);
}

static void sent_by_hand(uv_work_t* request, int status) {
  (void)request;
  check(status, "uv_queue_work");
  was_sent(answer);
}

static void send_by_hand(void) {
  asked = smaller(SENDFILE_SIZE, total - done);
  check(uv_queue_work(&loop, &work, call_sendfile, sent_by_hand), "uv_queue_work");
}

static void pump_by_sendfile(const char* path, void (*send)(void)) {
  open_file(path);
  check(uv_poll_init(&loop, &room, OUTPUT_DESCRIPTOR), "uv_poll_init");
  send_more = send;
  send_more();
}

/* --- Memory -------------------------------------------------------------------------------------- */

static stream_pattern pattern;

static void pump_memory(size_t piece_size) {
  make_pattern(&pattern);
  while (done < total) {
    const char* piece = piece_at(&pattern, done);
    const size_t size = smaller(piece_size, total - done);
    memcpy(read_buffer, piece, size);
    __asm__ volatile("" : : "r"(read_buffer) : "memory"); /* so that the copy is made, though nobody looks at it */
    if (!counting && memcmp(read_buffer, piece, size) != 0) check(UV_EIO, "the copy");
    pumped(size);
  }
}

/* ------------------------------------------------------------------------------------------------- */

static int usage(void) {
  fprintf(stderr, "usage: streams_libuv memory PIECE_SIZE WARMUP BYTES\n"
                  "       streams_libuv sockets unix|tcp WARMUP BYTES\n"
                  "       streams_libuv file|uv_fs_sendfile|sendfile unix|tcp WARMUP BYTES FILE\n"
                  "       streams_libuv --version\n");
  return 2;
}

int main(int argc, char** argv) {
  if (argc == 2 && strcmp(argv[1], "--version") == 0) {
    printf("libuv %s\n", uv_version_string());
    return 0;
  }
  if (argc < 5) return usage();
  const char* what = argv[1];
  const int is_tcp = strcmp(argv[2], "tcp") == 0;
  warmup = strtoull(argv[3], NULL, 10);
  total = warmup + strtoull(argv[4], NULL, 10);

  signal(SIGPIPE, SIG_IGN); /* libuv sends with write(), which raises it when the peer has gone */
  check(uv_loop_init(&loop), "loop");
  pumped(0);
  if (strcmp(what, "memory") == 0 && strtoull(argv[2], NULL, 10) > 0)
    pump_memory(smaller(strtoull(argv[2], NULL, 10), PIECE_SIZE));
  else if (strcmp(what, "sockets") == 0)
    pump_sockets(is_tcp);
  else if (strcmp(what, "file") == 0 && argc == 6)
    pump_file(argv[5], is_tcp);
  else if (strcmp(what, "uv_fs_sendfile") == 0 && argc == 6)
    pump_by_sendfile(argv[5], send_by_libuv);
  else if (strcmp(what, "sendfile") == 0 && argc == 6)
    pump_by_sendfile(argv[5], send_by_hand);
  else
    return usage();

  uv_run(&loop, UV_RUN_DEFAULT);
  check(uv_loop_close(&loop), "uv_loop_close");
  return 0;
}
