#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The code in the documentation, as tests.

  snippets.py generate COMPILED.cc RUN_1.cc RUN_2.cc … -- FILE.md…   writes those that only compile to the first file,
                                                          and those that run to the others, as doctest cases
  snippets.py fails FILE.md… -- COMPILER FLAG…           checks that the others do not compile, and why

A snippet is a block that is fenced with ```cpp. A comment in the line before it says of which kind it is:

  <!-- test: run -->         (or none) a test case; it may use what docs::Snippet in prelude.h has
  <!-- test: io -->          a test case on libuv, with what docs::IoSnippet has
  <!-- test: compile -->     compiled, never run
  <!-- test: throws "text" -->  a test case that ends with an exception, in whose text "text" is
  <!-- test: aborts "text" -->  run in a process of its own, which aborts and says "text"
  <!-- test: fails "text" -->  does not compile, with warnings as errors, and the compiler says "text"

Of a snippet, #include lines go to the top of the file; functions, types and templates stay outside of the test case; the
other statements are its body. A snippet with an `int main` is a program: its main function is the body."""
import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field

FENCE = re.compile(r"^(\s*)```\s*(\S*)(.*)$")
MARKER = re.compile(r"^\s*<!--\s*test:\s*(.*?)\s*-->\s*$")
KIND = re.compile(r'^(run|io|compile|(throws|aborts|fails) "(?P<text>[^"]+)")$')
HEADING = re.compile(r"^#+\s+(.*?)\s*$")
# A thing that stands outside of functions: a type, a template, or `result name(parameters) … {`.
TYPE = re.compile(r"^(template|struct|class|enum|using|namespace|concept|static_assert|thread_local|constinit)\b")
DECLARATION = re.compile(r"^Promise<[^=]*>\s+\w+\([^()]*\)\s*;")  # of a function that a snippet takes for granted
FUNCTION = re.compile(r"^(?!return\b|co_|else\b|new\b|throw\b)[\w:<>,*&\s]*[\w>*&]\s+[*&]?[\w:]+\s*\([^=]*\)[\w\s>:&*\-]*\{")
# String and character literals and comments: in them, brackets and semicolons mean nothing.
SKIPPED = re.compile(r'R"\((?:.|\n)*?\)"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])+\'|//[^\n]*|/\*(?:.|\n)*?\*/')


class DocumentationError(Exception):
    """A block that is not what it should be."""


@dataclass
class Snippet:
    file: str
    line: int  # of its first line of code
    section: str
    kind: str
    code: str
    expected: str = ""  # what the compiler or the library says of it
    includes: list[str] = field(default_factory=list)

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


def extract(file: str, text: str) -> list[Snippet]:
    """The snippets of a Markdown file, in order."""
    snippets: list[Snippet] = []
    section = file
    marker: str | None = None
    fence: str | None = None  # the language of the block that we are in
    start = 0
    lines: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        matched = FENCE.match(line)
        if fence is not None:
            if not matched:
                lines.append(line)
                continue
            if fence == "cpp":
                snippets.append(classify(file, start, section, marker, "\n".join(lines)))
            elif marker is not None:
                raise DocumentationError(f"{file}:{start}: a test marker before a block that is not ```cpp")
            fence, marker = None, None
        elif matched:
            fence, start, lines = matched.group(2), number + 1, []
            if fence in ("c++", "cc", "cxx", "C++"):
                raise DocumentationError(f"{file}:{number}: a block of C++ is marked ```cpp")
            if matched.group(3).strip():
                raise DocumentationError(f"{file}:{number}: words after ```{fence}; the kind stands in a comment before it")
        elif found := MARKER.match(line):
            if marker is not None:
                raise DocumentationError(f"{file}:{number}: two test markers in a row")
            marker = found.group(1)
        elif marker is not None:
            raise DocumentationError(f"{file}:{number}: a test marker must stand in the line before its block")
        elif heading := HEADING.match(line):
            section = heading.group(1).replace("`", "")
    if fence is not None:
        raise DocumentationError(f"{file}:{start}: a block without an end")
    if marker is not None:
        raise DocumentationError(f"{file}: a test marker without a block at the end")
    return snippets


def classify(file: str, line: int, section: str, marker: str | None, code: str) -> Snippet:
    marker = "run" if marker is None else marker
    matched = KIND.match(marker)
    if not matched:
        raise DocumentationError(f"{file}:{line}: unknown kind of snippet: {marker!r}")
    includes = [text for text in code.split("\n") if text.startswith("#include")]
    code = "\n".join("" if text.startswith("#include") else text for text in code.split("\n"))
    return Snippet(file, line, section, marker.split()[0], code, matched.group("text") or "", includes)


def items(code: str) -> list[tuple[int, str]]:
    """The top-level statements and definitions of `code`, each with the number of lines before it."""
    blank = SKIPPED.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), code)
    found: list[tuple[int, str]] = []
    begin = depth = 0
    definition: bool | None = None  # of the item that we are in; known at its first brace
    for at, char in enumerate(blank):
        if char == "{" and depth == 0 and definition is None:
            definition = is_definition(blank[begin:at + 1])
        if char in "({[":
            depth += 1
        elif char in ")}]":
            depth -= 1
        ends = depth == 0 and (char == ";" or char == "}" and not continues(blank[at + 1:], definition))
        if ends:
            found.append((code.count("\n", 0, begin), code[begin:at + 1]))
            begin, definition = at + 1, None
    if code[begin:].strip():
        found.append((code.count("\n", 0, begin), code[begin:]))
    return found


def continues(rest: str, definition: bool | None) -> bool:
    """Whether what ends with a closing brace goes on: `};`, `} else`, `} catch`, or `}` inside of an expression."""
    rest = rest.lstrip(" ")
    if definition:
        return rest.startswith(";")
    return bool(re.match(r"[;,.)(]|\s*(else|catch|while)\b", rest))


def is_definition(text: str) -> bool:
    text = " ".join(text.split())
    return bool(TYPE.match(text) or FUNCTION.match(text)) and not re.match(r"(if|for|while|switch|do|try)\b", text)


def placed(snippet: Snippet, skip: int, text: str) -> str:
    lead = len(text) - len(text.lstrip("\n"))
    return f'#line {snippet.line + skip + lead} "{snippet.file}"\n{text.strip(chr(10))}\n'


def outside_and_body(snippet: Snippet) -> tuple[str, str]:
    """What goes to namespace scope, and what is the body of a function."""
    outside, body = "", ""
    for skip, text in items(snippet.code):
        code = SKIPPED.sub("", text)
        flat = " ".join(code.split())
        if re.match(r"int main\s*\(", flat):
            body += placed(snippet, skip, text[:text.index("int main")] + text[text.index("{", text.index("int main")):])
        elif is_definition(flat[:flat.find("{") + 1]) or TYPE.match(flat) or DECLARATION.match(flat):
            outside += placed(snippet, skip, text)
        else:
            body += placed(snippet, skip, text)
    return outside, body


def test_case(snippet: Snippet, name: str) -> str:
    outside, body = outside_and_body(snippet)
    if not body.strip() and snippet.kind != "compile":
        raise DocumentationError(f"{snippet.place}: nothing in it runs; it is of the kind `compile`")
    words = f'"{os.path.basename(snippet.file)}: {snippet.section}, line {snippet.line}"'
    member = f"struct Body : docs::Snippet {{\n  void run();\n}};\nvoid Body::run() {{\n{body}}}\n"
    if snippet.kind == "compile":
        case = member
    elif snippet.kind == "aborts":
        case = member + f'TEST_CASE({words}) {{\n  docs::expectAbort([] {{ Body().run(); }}, "{snippet.expected}");\n}}\n'
    elif snippet.kind == "throws":
        case = member + f'TEST_CASE({words}) {{\n  docs::expectThrow([] {{ Body().run(); }}, "{snippet.expected}");\n}}\n'
    elif re.search(r"\bint main\s*\(", snippet.code):
        case = f"TEST_CASE({words}) {{\n{body}}}\n"  # a program makes a loop of its own
    else:
        fixture = {"run": "docs::Snippet", "io": "docs::IoSnippet"}[snippet.kind]
        case = f"TEST_CASE_FIXTURE({fixture}, {words}) {{\n{body}}}\n"
    return f"namespace {name} {{\n{outside}\n{case}}} // namespace {name}\n\n"


def generate(outputs: list[str], snippets: list[Snippet]) -> None:
    """Writes the first file, and deals the snippets that run out to the others."""
    compiled = [s for s in snippets if s.kind == "compile"]
    run = [s for s in snippets if s.kind not in ("compile", "fails")]
    share = -(-len(run) // (len(outputs) - 1))
    write(outputs[0], compiled)
    for number, output in enumerate(outputs[1:]):
        write(output, run[number * share:(number + 1) * share])


def write(output: str, snippets: list[Snippet]) -> None:
    includes = sorted({line for s in snippets for line in s.includes})
    cases = "".join(test_case(s, f"snippet_{re.sub('[^a-z]', '_', s.file)}_{s.line}") for s in snippets)
    with open(output, "w", encoding="utf-8") as file:
        file.write('// Made by tests/docs/snippets.py.\n#include "prelude.h"\n' + "\n".join(includes) + "\n\n" + cases)


def complaint(snippet: Snippet, compiler: list[str], folder: str) -> str | None:
    """What is wrong with a snippet that should not compile."""
    source = os.path.join(folder, f"{os.path.basename(snippet.file)}_{snippet.line}.cc")
    wrapped = Snippet(**{**snippet.__dict__, "kind": "compile"})
    with open(source, "w", encoding="utf-8") as file:
        file.write('#include "prelude.h"\n' + "\n".join(snippet.includes) + "\n" + test_case(wrapped, "snippet"))
    done = subprocess.run([*compiler, "-std=c++20", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", source],
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode == 0:
        return f"{snippet.place}: this compiles, and should not"
    if snippet.expected not in done.stdout:
        return f"{snippet.place}: the compiler does not say {snippet.expected!r}:\n{done.stdout}"
    return None


def check_failures(snippets: list[Snippet], compiler: list[str]) -> bool:
    wanted = [s for s in snippets if s.kind == "fails"]
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        wrong = [text for text in pool.map(lambda s: complaint(s, compiler, folder), wanted) if text]
    for text in wrong:
        print(text)
    print(f"{len(wanted) - len(wrong)} of {len(wanted)} snippets are refused by the compiler, as the text says")
    return not wrong


def read(files: list[str]) -> list[Snippet]:
    snippets: list[Snippet] = []
    for name in files:
        with open(name, encoding="utf-8") as file:
            snippets += extract(os.path.join(os.path.basename(os.path.dirname(name)), os.path.basename(name)), file.read())
    return snippets


def main(arguments: list[str]) -> int:
    command, arguments = arguments[0], arguments[1:]
    middle = arguments.index("--")
    first, second = arguments[:middle], arguments[middle + 1:]
    try:
        if command == "generate":
            generate(first, read(second))
            return 0
        return 0 if check_failures(read(first), second) else 1
    except DocumentationError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
