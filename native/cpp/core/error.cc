#include "core/error.h"

#include <cstdarg>
#include <cstdio>

#include "core/exception.h"

namespace nodegrad {

void fail(const char* format, ...) {
  char message[1024];
  va_list values;
  va_start(values, format);
  std::vsnprintf(message, sizeof message, format, values);
  va_end(values);
  throw Error(message);
}

}  // namespace nodegrad
