// Errors: one sentence, `op: rule, got values`. Thrown as nodegrad::Error, turned into a
// JavaScript Error at the addon's boundary; nothing in native code exits the process.
#pragma once

namespace nodegrad {

// Throws Error with a printf-style message. Out of line, so that files compiled per
// instruction set can call it without pulling in the standard library.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace nodegrad
