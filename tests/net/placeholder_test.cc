// SPDX-License-Identifier: MIT
// To be replaced.
#include "fixtures.h"

TEST_CASE_FIXTURE(troth::test::IoTest, "a context is made and goes") { CHECK(true); }
