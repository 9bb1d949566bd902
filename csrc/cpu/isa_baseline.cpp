// The CPU kernels for the compiler's default: SSE2 on x86-64, NEON on aarch64.
#include <limits>
#include <type_traits>
#include <utility>

#include "../math/additive.h"
#include "../math/gru.h"
#include "../math/lstm.h"
#include "isa.h"

#define S2S_VECTOR_BYTES 16
#define S2S_TILE_ROWS 6
namespace s2s::cpu::baseline {
#include "kernels/all.h"
}
