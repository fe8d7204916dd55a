# SPDX-License-Identifier: MIT
# For the other scripts: `need_packages NAME…` sees to it that Debian packages are there.

# Installs with apt-get what is missing, when that is possible; otherwise says what to install and fails.
need_packages() {
  local missing=() name
  for name in "$@"; do
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || missing+=("$name")
  done
  ((${#missing[@]} == 0)) && return 0
  if ! command -v dpkg-query >/dev/null; then
    # Not Debian: trust what can be seen.
    command -v meson >/dev/null && command -v ninja >/dev/null && command -v pkg-config >/dev/null &&
      pkg-config --exists 'libuv >= 1.44' fmt && return 0
    echo "${0##*/}: needs a C++20 compiler, meson, ninja, pkg-config, libuv (1.44 or later), fmt, and doctest for the tests" >&2
    return 1
  fi
  if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
    echo "${0##*/}: please install: apt-get install ${missing[*]}" >&2
    return 1
  fi
  echo "${0##*/}: installing ${missing[*]}" >&2
  export DEBIAN_FRONTEND=noninteractive
  # The package lists may be old or absent; they are fetched only when something is to be installed.
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null
}
