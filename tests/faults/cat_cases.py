# SPDX-License-Identifier: MIT
# cat, on pipes, files and sockets, with failing and short calls and without descriptors.

from basics import Skip, case, expect, note, options
from flow import Flow
from injection import Fault, numbers_of, run_program, sweep
from processes import Shim
from sockets import difference, pattern

KINDS = ("pipe", "file", "socket")
DATA = pattern(200_000)

# What its two streams may report, and what is no more than a reason to try again. (No example calls writev, sendmsg,
# recvmsg or socketpair.)
ERRORS = {
    ("pipe", "read"): ("EIO", "ENOMEM"),
    ("pipe", "write"): ("EPIPE", "ENOMEM"),
    ("file", "read"): ("EIO", "ESTALE"),
    ("file", "write"): ("ENOSPC", "EIO", "EFBIG"),
    ("socket", "read"): ("ECONNRESET", "ENOBUFS", "ETIMEDOUT"),
    ("socket", "write"): ("ECONNRESET", "EPIPE", "ENOMEM"),
}
TRANSIENT = {
    ("pipe", "read"): ("EINTR", "EAGAIN"),
    ("pipe", "write"): ("EINTR", "EAGAIN"),
    ("file", "read"): ("EINTR",),
    ("file", "write"): ("EINTR",),
    ("socket", "read"): ("EINTR", "EAGAIN"),
    ("socket", "write"): ("EINTR", "EAGAIN", "ENOBUFS"),
}


def run_cat(kind, fault=None, on_streams=False, by_name=False, data=DATA, **settings):
    """Returns how it ended, and what came out. `on_streams`: the fault concerns its two streams only; `by_name`: the
    file is an argument."""
    if not options.cat:
        raise Skip("no --cat given")
    flow = Flow(kind, data)
    if on_streams:
        fault.paths = flow.paths
    arguments = [options.cat]
    if by_name:
        arguments.append(flow.paths[0])
    ending = run_program(arguments, flow.carry, fault, **flow.pipes(), **settings)
    expect(data.startswith(flow.output), f"wrote {difference(data, flow.output)}: {ending.seen}")
    return ending, flow.output


def expect_all_or_error(ending, output, error=None, data=DATA):
    ending.expect_clear(error=error)
    expect(ending.status == 1 or output == data, f"wrote {difference(data, output)}: {ending.seen}")


def cat_failing(kind, call):
    """One call after the other fails on a stream: the error is named; or every second: nobody notices."""
    failed = 0
    for error in ERRORS[kind, call]:
        for number in range(1, 100):
            ending, output = run_cat(kind, Fault(call, error, number), on_streams=True)
            expect_all_or_error(ending, output, error)
            if not ending.injected:
                break
            failed += 1
            expect(ending.status == 1, f"nothing is wrong? {ending.seen}")
            expect(len(output) < len(DATA) or call == "read", f"all was written? {ending.seen}")
    expect(failed >= 4 * len(ERRORS[kind, call]), f"only {failed} calls failed: the case shows nothing")
    repeated = 0
    for error in TRANSIENT[kind, call]:
        ending, output = run_cat(kind, Fault(call, error, "1+2"), on_streams=True)
        expect_all_or_error(ending, output)
        expect(ending.status == 0, f"to be repeated, but {ending.seen}")
        repeated += len(ending.injected)
    expect(repeated >= 3 * len(TRANSIENT[kind, call]), f"only {repeated} to be repeated: the case shows nothing")
    note(f"{failed} calls failed, one at a time; {repeated} were repeated")


for cat_kind in KINDS:
    for cat_call in ("read", "write"):
        case(f"cat.{cat_kind}-{cat_call}", cat_kind, cat_call)(cat_failing)

# Calls while it starts, and what its streams are then; errors that they may report; which of them are its own (the
# others are the loader's and the sanitizers').
STARTING = {
    ("epoll_create1", "pipe"): (("EMFILE",), ""),
    ("eventfd2", "pipe"): (("ENFILE",), ""),
    ("pipe2", "pipe"): (("ENFILE",), "O_CLOEXEC"),
    ("openat", "pipe"): (("EMFILE", "EACCES"), "/dev/null|/proc/self/fd"),
    ("openat", "file"): (("EMFILE", "EACCES"), "faults-in"),
    ("fcntl", "pipe"): (("EMFILE",), ""),
    ("ioctl", "pipe"): (("ENOTTY",), "FIONBIO"),
    ("getsockopt", "socket"): (("ENOBUFS",), "SO_TYPE|SO_ACCEPTCONN"),
    ("clone3", "file"): (("EAGAIN",), ""),
    ("epoll_ctl", "pipe"): (("ENOMEM", "ENOSPC"), ""),
    ("epoll_wait", "pipe"): (("EINTR",), ""),
}


def cat_starting(call, kind):
    """One call after the other fails while it starts: it does its work, or says what went wrong."""
    errors, own = STARTING[call, kind]
    output = b""

    def run(fault):
        nonlocal output
        ending, output = run_cat(kind, fault, by_name=kind == "file")
        return ending

    numbers = numbers_of(call, own, run)
    sweep(call, errors, run, lambda ending, _: expect_all_or_error(ending, output), numbers)


for cat_call, cat_kind in STARTING:
    case(f"cat.starting-{cat_call}-{cat_kind}", cat_call, cat_kind)(cat_starting)


def cat_short(kind, size, longest, every):
    """Reads and writes that move less than was asked, some of them interrupted: nobody notices."""
    shim = Shim(shorten=longest, fail_every=every, files=1)
    data = pattern(size)
    ending, output = run_cat(kind, data=data, environment=shim.environment)
    expect_all_or_error(ending, output, data=data)
    expect(ending.status == 0, ending.seen)
    shim.expect_faults(shortened=size // longest // 2, failed=size // longest // every // 2)


for cat_kind in KINDS:
    case(f"cat.{cat_kind}-single-bytes", cat_kind, 20_000, 1, 5)(cat_short)
    case(f"cat.{cat_kind}-short", cat_kind, 3_000_000, 50_000, 3)(cat_short)


def cat_descriptors(kind):
    """From none that is free to enough: it does its work, or says that there are too few descriptors."""
    refused = worked = 0
    # With less than 4 the loader cannot open libraries, and says so itself.
    for limit in range(4, 40):
        ending, output = run_cat(kind, by_name=kind == "file", descriptors=limit)
        expect_all_or_error(ending, output, "EMFILE")
        refused += ending.status == 1
        worked += ending.status == 0
        if worked == 3:
            break
    note(f"{refused} limits are too few, {limit - 2} is enough")
    expect(refused and worked == 3, f"{refused} limits too few, {worked} enough: the case shows nothing")


for cat_kind in KINDS:
    case(f"cat.{cat_kind}-descriptors", cat_kind)(cat_descriptors)
