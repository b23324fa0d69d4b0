// The one exception type of native code; core/error.h throws it, addon/ catches it.
#pragma once

#include <stdexcept>

namespace nodegrad {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace nodegrad
