// The search behind beam_search and decoder_search, with their arguments checked.
#pragma once

#include "decoder/inputs.h"
#include "int8/layer.h"

namespace s2s::cpu {

// parts: what the decoder has beyond a plain one, or null; int8: its weights in 8 bits, or null.
Four run_search(const SearchArguments& in, const decoder::Inputs* parts, const Int8Weights* int8,
                const OptionalTensor& lengths, const OptionalTensor& mask, const SearchOptions& options,
                bool return_weights);

}  // namespace s2s::cpu
