#include "core/stream.h"

namespace nodegrad {

Graph::~Graph() = default;
Stream::~Stream() = default;
DeviceDriver::~DeviceDriver() = default;

}  // namespace nodegrad
