// SPDX-License-Identifier: MIT
// A library that exports functions of llhttp's names, as node does. Whoever calls them has been given the wrong ones.
#include <cstdio>
#include <cstdlib>

namespace {

[[noreturn]] void called(const char* name) {
  std::fprintf(stderr, "the host's %s was called\n", name);
  std::abort();
}

} // namespace

extern "C" {
void llhttp_init() { called("llhttp_init"); }
void llhttp_reset() { called("llhttp_reset"); }
void llhttp_settings_init() { called("llhttp_settings_init"); }
void llhttp_execute() { called("llhttp_execute"); }
void llhttp_resume() { called("llhttp_resume"); }
void llhttp_get_error_pos() { called("llhttp_get_error_pos"); }
void llhttp_get_error_reason() { called("llhttp_get_error_reason"); }
void llhttp__internal_execute() { called("llhttp__internal_execute"); }
void llhttp__internal_init() { called("llhttp__internal_init"); }
void llhttp_message_needs_eof() { called("llhttp_message_needs_eof"); }
void llhttp_should_keep_alive() { called("llhttp_should_keep_alive"); }
}
