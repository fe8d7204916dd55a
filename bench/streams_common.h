/* SPDX-License-Identifier: MIT */
/* What the programs of the streams benchmark share: the bytes that flow, the clocks, the descriptors. C and C++. */
#pragma once

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* The program that is measured inherits these from streams_peer: it reads from the one and writes to the other. */
enum { INPUT_DESCRIPTOR = 3, OUTPUT_DESCRIPTOR = 4 };

/*
 * PIECE_SIZE    As much as troth reads at a time; the others get buffers of the same size.
 * PATTERN_SIZE  The bytes are those of one pseudo-random pattern over and over. Its length is a prime, so that no piece
 *               has the bytes of the one before or after it.
 */
enum { PIECE_SIZE = 64 * 1024, PATTERN_SIZE = 1000003 };

/* The pattern, and its beginning once more behind it, so that every piece of the bytes lies in one place. */
typedef struct {
  char bytes[PATTERN_SIZE + PIECE_SIZE];
} stream_pattern;

static inline void make_pattern(stream_pattern* pattern) {
  uint32_t state = 2463534242u;
  for (size_t i = 0; i < PATTERN_SIZE; ++i) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    pattern->bytes[i] = (char)(state >> 24);
  }
  memcpy(pattern->bytes + PATTERN_SIZE, pattern->bytes, PIECE_SIZE);
}

/* Where at most PIECE_SIZE bytes, those from `offset` of the stream on, are to be found. */
static inline const char* piece_at(const stream_pattern* pattern, uint64_t offset) {
  return pattern->bytes + offset % PATTERN_SIZE;
}

/* Nanoseconds: what all threads of this process have run, in user mode and in the kernel, and what has passed. */
typedef struct {
  int64_t cpu, wall;
} stream_clocks;

static inline int64_t read_clock(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static inline stream_clocks read_clocks(void) {
  stream_clocks now;
  now.cpu = read_clock(CLOCK_PROCESS_CPUTIME_ID);
  now.wall = read_clock(CLOCK_MONOTONIC);
  return now;
}

/* Prints what `bytes` bytes have cost since `begin`. */
static inline void print_costs(uint64_t bytes, stream_clocks begin) {
  const stream_clocks end = read_clocks();
  printf("{\"bytes\": %" PRIu64 ", \"cpu_ns\": %" PRId64 ", \"wall_ns\": %" PRId64 "}\n", bytes, end.cpu - begin.cpu,
         end.wall - begin.wall);
  fflush(stdout);
}
