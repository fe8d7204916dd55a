#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests of the extractor: what it refuses, and how it takes a snippet apart."""
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import snippets  # noqa: E402


def one(code: str, marker: str = "") -> snippets.Snippet:
    return snippets.extract("a.md", f"# Title\n{marker}\n```cpp\n{code}\n```\n" if marker else f"# Title\n```cpp\n{code}\n```\n")[0]


class Extracting(unittest.TestCase):
    def test_a_block_without_a_marker_runs_and_knows_its_place(self) -> None:
        snippet = one("int x = 3;")
        self.assertEqual((snippet.kind, snippet.line, snippet.section), ("run", 3, "Title"))

    def test_every_kind_is_known(self) -> None:
        for kind in ("run", "io", "compile"):
            self.assertEqual(one("int x;", f"<!-- test: {kind} -->").kind, kind)
        for kind in ("throws", "aborts", "fails"):
            snippet = one("int x;", f'<!-- test: {kind} "some words" -->')
            self.assertEqual((snippet.kind, snippet.expected), (kind, "some words"))

    def test_what_is_not_understood_is_refused(self) -> None:
        for text in ("<!-- test: walk -->\n```cpp\n```\n",                 # no such kind
                     "<!-- test: fails -->\n```cpp\n```\n",                # fails how?
                     "<!-- test: run -->\n\n```cpp\n```\n",                # not in the line before
                     "<!-- test: run -->\n```sh\n```\n",                   # not C++
                     "<!-- test: run -->\n<!-- test: run -->\n```cpp\n```\n",
                     "<!-- test: run -->",                                 # no block
                     "```cpp run\n```\n",                                  # a kind in the wrong place
                     "```c++\n```\n",                                      # would be passed over
                     "```cpp\nint x;\n"):                                  # no end
            with self.assertRaises(snippets.DocumentationError, msg=text):
                snippets.extract("a.md", text)

    def test_other_blocks_are_left_alone(self) -> None:
        self.assertEqual(snippets.extract("a.md", "```console\n$ ls\n```\n```\nx\n```\n"), [])


class TakingApart(unittest.TestCase):
    def parts(self, code: str) -> tuple[str, str]:
        return snippets.outside_and_body(one(code))

    def test_definitions_stay_outside(self) -> None:
        for code in ("int f() { return 1; }", "struct A {\n  int x = 3;\n};", "template <typename T>\nT id(T t) { return t; }",
                     "Promise<std::unique_ptr<int>> g(const std::string& a,\n    int b) {\n  co_return nullptr;\n}",
                     "using A = int;", "Promise<int> ask(int a, Timer& t);", "thread_local int x = 3;", "std::string& C::f(int x) const {\n  return y;\n}"):
            outside, body = self.parts(code)
            self.assertIn(code.split("\n", maxsplit=1)[0], outside)
            self.assertEqual(body, "", code)

    def test_statements_are_the_body(self) -> None:
        for code in ("int x = 3;", "for (;;) {\n  break;\n}", "auto f = [](int x) { return x; };", "{\n  int x;\n}",
                     "if (a) {\n  b();\n} else {\n  c();\n}", "try {\n  a();\n} catch (...) {\n}", "A a{1};", "A a(b);", "Promise<int> p = f(1);",
                     "f().then([] {\n  return 1;\n}).then([] { return 2; });", 'CHECK(a == "};{");', "do {\n  a();\n} while (b);",
                     "while (a) {\n}"):
            outside, body = self.parts(code)
            self.assertEqual(outside, "", code)
            self.assertEqual(body.count("#line"), 1, body)

    def test_a_line_is_told_where_it_stands(self) -> None:
        outside, body = self.parts("int x = 3;\n\nint f() {\n  return 1;\n}\nint y = 4;")
        self.assertIn('#line 5 "a.md"\nint f() {', outside)
        self.assertIn('#line 3 "a.md"\nint x', body)
        self.assertIn('#line 8 "a.md"\nint y', body)

    def test_includes_go_to_the_top(self) -> None:
        snippet = one("#include <map>\nint x = 3;")
        self.assertEqual(snippet.includes, ["#include <map>"])
        self.assertIn('#line 4 "a.md"\nint x', snippets.outside_and_body(snippet)[1])

    def test_a_program_runs_as_its_main_function(self) -> None:
        case = snippets.test_case(one("int f() { return 1; }\nint main() {\n  f();\n}"), "n")
        self.assertIn("TEST_CASE(", case)
        self.assertNotIn("int main", case)

    def test_a_snippet_in_which_nothing_runs_says_so(self) -> None:
        with self.assertRaises(snippets.DocumentationError):
            snippets.test_case(one("int f() { return 1; }"), "n")
        snippets.test_case(one("int f() { return 1; }", "<!-- test: compile -->"), "n")


class Refusing(unittest.TestCase):
    """The compiler is stood in for by a shell script."""

    def complaint(self, script: str) -> str | None:
        with tempfile.TemporaryDirectory() as folder:
            return snippets.complaint(one("int x;", '<!-- test: fails "the words" -->'), ["sh", "-c", script, "cc"], folder)

    def test_what_compiles_is_complained_about(self) -> None:
        self.assertIn("should not", self.complaint("exit 0") or "")

    def test_another_reason_is_complained_about(self) -> None:
        self.assertIn("does not say", self.complaint("echo other words; exit 1") or "")

    def test_the_right_reason_is_fine(self) -> None:
        self.assertIsNone(self.complaint("echo these are the words; exit 1"))


if __name__ == "__main__":
    unittest.main()
