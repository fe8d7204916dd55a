// SPDX-License-Identifier: MIT
// What nearly every test includes, compiled once for a program where nobody builds again (the option `coarse`). A test
// includes what it needs all the same: other builds do without this. (No #pragma once: g++ warns of it in what it compiles
// by itself.)

#include "fixtures.h"

#include <doctest/doctest.h>
#include <troth/runtime/join.h>
#include <troth/runtime/task_set.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>
