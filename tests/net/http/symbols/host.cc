// SPDX-License-Identifier: MIT
// The parser's names are troth's own: a host that exports an llhttp of another version gets no calls, and sees none.
//
//   http_symbols_host FOREIGN_LLHTTP MODULE
#include <dlfcn.h>

#include <cstdio>
#include <initializer_list>

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  int failed = 0;
  const auto check = [&](bool holds, const char* what) {
    std::printf("%s: %s\n", holds ? "ok" : "FAILED", what);
    if (!holds) ++failed;
  };
  check(dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL) != nullptr, "the foreign llhttp is loaded");
  void* const hosts = dlsym(RTLD_DEFAULT, "llhttp_execute");
  check(hosts != nullptr, "the host has an llhttp that everybody sees");
  void* const module = dlopen(argv[2], RTLD_NOW | RTLD_GLOBAL);
  check(module != nullptr, "the module is loaded");
  if (module == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  for (const char* name : {"llhttp_execute", "llhttp_init", "llhttp__internal_execute", "llhttp_settings_init"})
    check(dlsym(module, name) == nullptr, "the module exports none");
  check(dlsym(RTLD_DEFAULT, "llhttp_execute") == hosts, "the host's is still the host's");
  const auto parse = reinterpret_cast<int (*)()>(dlsym(module, "parseRequest"));
  check(parse != nullptr && parse() == 1, "the module parses by its own");
  std::printf("%d passed, %d failed\n", 9 - failed, failed);
  return failed == 0 ? 0 : 1;
}
