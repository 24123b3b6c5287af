// The gate of an output.
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"

namespace sala {
inline namespace SALA_VARIANT {

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + exp2(-LOG2_E * x)); }

}  // namespace SALA_VARIANT
}  // namespace sala
