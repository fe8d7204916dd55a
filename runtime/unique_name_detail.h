// SPDX-License-Identifier: MIT
// TROTH_DETAIL_UNIQUE_NAME: names for variables that macros declare, so that uses may be nested or share a line.
#pragma once

#define TROTH_DETAIL_CONCATENATE_EXPANDED(a, b) a##b
#define TROTH_DETAIL_CONCATENATE(a, b) TROTH_DETAIL_CONCATENATE_EXPANDED(a, b)
#define TROTH_DETAIL_UNIQUE_NAME(stem) TROTH_DETAIL_CONCATENATE(stem, __COUNTER__)
