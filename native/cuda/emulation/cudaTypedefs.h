// Stands in for CUDA's header of this name, which declares the types of driver functions.
#pragma once

#include "emulation/cuda.h"
